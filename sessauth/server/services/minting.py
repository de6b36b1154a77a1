"""Minting: root blocks that the service signs, for a live session or for one that is opened with its token.

A request is read and compared with the ceilings first. A token that is minted with its session is then tried
with placeholders, so that the session is opened only if nothing is left that could fail. Its id comes from
the issuer key and the request id, and its times from the opening, so a repeated request gets the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from ...clock import Clock
from ...crypto.keys import HolderPublicKey, IssuerKey
from ...errors import WidensAuthority
from ...model.session import ScopeRecord, Session
from ...scopes import containment
from ...scopes.scope import Scope
from ...state.writer.state_writer import StateWriter
from ...tokens.block_draft import Draft
from ...tokens.token import Issuer, Token
from ...v1 import token_pb2
from ...v1 import token_service_pb2 as pb
from .. import request_fields
from ..keys.issuer_keyring import KeyRing
from ..status import invalid, refused

# The largest revision that a token can state; its encoding is the longest.
_LAST_REVISION: Final = 2**64 - 1
_EXPIRES_EARLIER: Final = "the token expires with its session, earlier than ttl_ms asks for"


class CeilingOf(NamedTuple):
    """The ceiling of a session, and whether the session is in observe mode."""

    layers: Sequence[Sequence[ScopeRecord]]
    observe: bool

    @classmethod
    def session(cls, session: Session) -> CeilingOf:
        """Return that of a session."""
        return cls(session.ceilings, session.observe)


@dataclass(frozen=True, slots=True)
class Minting:
    """A request that was read: it fits the ceilings, and a key is there to sign its token.

    ``draft`` is the token's block, as it would be if the session ended when the reader of the request said.
    """

    request: pb.MintRequest
    issuer: Issuer
    draft: Draft
    warnings: tuple[str, ...]

    def try_out(self, now_ms: int) -> None:
        """Make the token with placeholders, without a signature. Raises what :meth:`sign` would."""
        self.draft.try_out(self.issuer.key_id, _LAST_REVISION, now_ms)

    def sign(
        self, session_id: bytes, expires_at_ms: int, revision: int, now_ms: int, request_id: str = ""
    ) -> pb.MintResponse:
        """Sign the token of a session that ends at ``expires_at_ms``.

        ``revision`` is the one that a verifier must have seen. With a ``request_id`` the same arguments give
        the same token.
        """
        ends_at_ms = _earlier_end(self.request, expires_at_ms, now_ms)
        # The draft was checked with an end no later than that, by the call which opened the session.
        same = ends_at_ms == self.draft.expires_at_ms
        draft = self.draft if same else replace(self.draft, expires_at_ms=ends_at_ms)
        token = self.issuer.sign(draft, session_id, revision, now_ms, request_id)
        warnings = list(self.warnings)
        if self.request.ttl_ms and expires_at_ms < now_ms + self.request.ttl_ms:
            warnings.append(_EXPIRES_EARLIER)
        return pb.MintResponse(
            token=token_text(token),
            token_id=token.token_id,
            block_id=token.block_ids[0],
            expires_at_ms=token.expires_at_ms,
            warnings=[*warnings, *token.warnings],
        )


@dataclass(eq=False)
class Minter:
    """Reads requests for tokens, and finds the key of ``keyring`` that signs them."""

    writer: StateWriter
    keyring: KeyRing
    clock: Clock

    def read(
        self,
        request: pb.MintRequest,
        ceilings: Iterable[CeilingOf],
        issuer_key_ids: Iterable[bytes],
        expires_at_ms: int,
        now_ms: int,
    ) -> Minting:
        """Return the minting of a request for a token of a session.

        Args:
            request: its ``session_id`` is not read.
            ceilings: that of the session, its parent's, and so on.
            issuer_key_ids: the ids of the keys that may sign for the session; none: each of the service's.
            expires_at_ms: the earliest end that the session has, in ms since 1970.
            now_ms: the time, in ms since 1970.

        Raises INVALID_ARGUMENT, SCOPE_UNREADABLE, UsageError, WidensAuthority and NO_ISSUER_KEY.
        """
        scopes = request_fields.scopes(request.scopes, "scopes")
        terms = self.terms(request)
        if not request.audience and terms["to"] is None:
            raise invalid("audience", "at least one is needed: the verifiers the token is for")
        warnings = _require_within(ceilings, scopes, strict=request.strict)
        issuer = Issuer(self._key(issuer_key_ids), self.clock)
        ends_at_ms = _earlier_end(request, expires_at_ms, now_ms)
        draft = issuer.draft(scopes, list(request.audience), now_ms, expires_at_ms=ends_at_ms, **terms)
        return Minting(request, issuer, draft, tuple(warnings))

    def terms(self, request: pb.MintRequest | pb.AttenuateRequest) -> dict[str, Any]:
        """Return the terms of a block beside its scopes, audience and lifetime."""
        to: HolderPublicKey | None = request_fields.holder(
            request.next_key, request.proof_key, request.may_seal, self.writer.keys
        )
        return {
            "where": request_fields.conditions(request.where, "where"),
            "to": to,
            "ending": request_fields.ending(request.ending, to),
            "may_seal": request.may_seal,
            "source": list(request.source),
            "peer": list(request.peer),
            "not_before_ms": request.not_before_ms,
            "max_blocks": request.max_blocks,
            "label": request.label,
        }

    def _key(self, issuer_key_ids: Iterable[bytes]) -> IssuerKey:
        key = self.keyring.newest_active(self.writer.keys(), issuer_key_ids)
        if key is None:
            raise refused(
                "NO_ISSUER_KEY", "no active issuer key of the service may root this session's tokens"
            )
        return key


def require_repeatable(request: pb.MintRequest) -> None:
    """Refuse what can't be minted with the opening of a session."""
    if request.session_id:
        raise invalid("mint.session_id", "must be empty: the token is one of the session that is opened")
    if request.ending == token_pb2.ENDING_OPEN:
        raise invalid(
            "mint.ending",
            "must not be ENDING_OPEN: an open token has a random secret, so a repeat could not return it; "
            "use TokenService.Mint",
        )


def _earlier_end(request: pb.MintRequest, expires_at_ms: int, now_ms: int) -> int:
    """Return the end of a token: the session's, or that of its own lifetime."""
    return min(expires_at_ms, now_ms + request.ttl_ms) if request.ttl_ms else expires_at_ms


def token_text(token: Token) -> str:
    """Return the presented form of a sealed or bound token, the stored form of an open one."""
    return token.stored_text() if token.is_open else token.text


def _require_within(ceilings: Iterable[CeilingOf], scopes: list[Scope], *, strict: bool) -> list[str]:
    """Refuse a scope outside of the ceilings. Warn, or if ``strict`` refuse, where that can't be proved.

    Of a session in observe mode the ceiling refuses nothing, so a scope outside of it is a warning as well.
    """
    warnings = []
    records = [scope.to_record() for scope in scopes]
    for depth, (layers, observe) in enumerate(ceilings):
        for layer in layers:
            # A root block reads the facts of its own session, as that session's ceiling does.
            verdict, part = containment.contains(
                [dict(scope) for scope in layer], records, same_facts=True, same_session=depth == 0
            )
            if verdict < 0 and (strict or not observe):
                raise WidensAuthority(f"scopes: {part} is wider than the session's ceiling", part)
            if verdict == 0 and strict:
                raise WidensAuthority(
                    f"scopes: {part} is not proven to lie inside the session's ceiling", part
                )
            if verdict <= 0 and observe:
                warnings.append("a scope may be wider than the session's ceiling, which is in observe mode")
            elif verdict == 0:
                warnings.append("a scope may be wider than the session's ceiling; calls are held to both")
    return list(dict.fromkeys(warnings))
