"""TokenService: mints and revokes; attenuates and inspects for clients that have no library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import limits
from ...clock import Clock
from ...errors import WidensAuthority
from ...model import change as changes
from ...model.session import Session, SessionStatus, lineage
from ...scopes import containment
from ...scopes.scope import Scope
from ...state.writer.state_writer import StateWriter
from ...tokens.token import Issuer, Token
from ...v1 import token_pb2
from ...v1 import token_service_pb2 as pb
from .. import request_fields
from ..keys.issuer_keyring import KeyRing
from ..rpc.call import CallContext
from ..status import invalid, refused
from ..writer.port import always_permitted, change_from, submit_and_wait
from .base import Service, require_visible


class TokenService(Service):
    """Answers TokenService from the log and the key folder."""

    descriptor = pb.DESCRIPTOR.services_by_name["TokenService"]

    def __init__(
        self,
        log: StateWriter,
        keyring: KeyRing,
        clock: Clock,
        require_grants: Callable[[], None] = always_permitted,
    ) -> None:
        """Mint with the keys of ``keyring``, by ``clock``.

        ``require_grants`` raises while no authority may be granted.
        """
        self._require_grants = require_grants
        self._log = log
        self._keyring = keyring
        self._clock = clock

    def mint(self, request: pb.MintRequest, call: CallContext) -> pb.MintResponse:
        """Sign a root block for a live session that the caller sees."""
        self._require_grants()
        session = self._session(request, call)
        now_ms = self._log.now_ms()
        members = self._live_lineage(session, now_ms)
        scopes = request_fields.scopes(request.scopes, "scopes")
        terms = self._terms(request)
        if not request.audience and terms["to"] is None:
            raise invalid("audience", "at least one is needed: the verifiers the token is for")
        warnings = _require_within(members, scopes, strict=request.strict)
        expires_at_ms = session.expires_at_ms
        if request.ttl_ms:
            expires_at_ms = min(expires_at_ms, now_ms + request.ttl_ms)
            if expires_at_ms < now_ms + request.ttl_ms:
                warnings.append("the token expires with its session, earlier than ttl_ms asks for")
        key = self._keyring.newest_active(self._log.keys(), session.issuer_key_ids)
        if key is None:
            raise refused(
                "NO_ISSUER_KEY", "no active issuer key of the service may root this session's tokens"
            )
        token = Issuer(key, self._clock).mint(
            session.id,
            scopes,
            list(request.audience),
            expires_at_ms=expires_at_ms,
            min_revision=session.revision,
            **terms,
        )
        return pb.MintResponse(
            token=_text(token),
            token_id=token.inspect().token_id,
            block_id=token.block_ids[0],
            expires_at_ms=token.expires_at_ms,
            warnings=[*warnings, *token.warnings],
        )

    def attenuate(self, request: pb.AttenuateRequest, call: CallContext) -> pb.AttenuateResponse:
        """Add a block to an open token, as a holder with the library can do without the server."""
        terms = self._terms(request)
        child = Token.parse(request.token).attenuate(
            scopes=request_fields.scopes(request.scopes, "scopes") if request.scopes else (),
            audience=list(request.audience),
            ttl_ms=request.ttl_ms,
            strict=request.strict,
            clock=self._clock,
            **terms,
        )
        return pb.AttenuateResponse(
            token=_text(child),
            block_id=child.block_ids[-1],
            expires_at_ms=child.expires_at_ms,
            warnings=list(child.warnings),
        )

    def inspect(self, request: pb.InspectRequest, call: CallContext) -> pb.InspectResponse:
        """Return a token's contents, the validity of its signatures, and its revoked blocks."""
        token = Token.parse(request.token)
        verified, detail = self._verified(token)
        blocks = [
            pb.InspectedBlock(
                block_id=block.block_id,
                block=token_pb2.Block.FromString(payload),
                scopes=[str(scope) for scope in block.scopes],
                where=[str(condition) for condition in block.where],
                revoked=self._log.is_revoked(token.session_id, block.block_id),
            )
            for block, payload in zip(token.inspect().blocks, token.payloads, strict=True)
        ]
        return pb.InspectResponse(verified=verified, detail=detail, blocks=blocks)

    def revoke(self, request: pb.RevokeRequest, call: CallContext) -> pb.RevokeResponse:
        """Revoke blocks, and with each all below it."""
        session = self._session(request, call)
        if not request.block_ids:
            raise invalid("block_ids", "at least one is needed")
        block_ids = request_fields.digests(request.block_ids, "block_ids", limits.MAX_REVOKE_BLOCK_IDS)
        reason = request_fields.text(request.reason, "reason")
        change = change_from(request, call, changes.revoke, session.id, block_ids, reason)
        return pb.RevokeResponse(revision=submit_and_wait(self._log, change, call).revision)

    def _terms(self, request: pb.MintRequest | pb.AttenuateRequest) -> dict[str, Any]:
        """Return the terms of a block beside its scopes, audience and lifetime."""
        where = request_fields.conditions(request.where, "where")
        to = request_fields.holder(request.next_key, request.proof_key, request.may_seal, self._log.keys())
        return {
            "where": where,
            "to": to,
            "ending": request_fields.ending(request.ending, to),
            "may_seal": request.may_seal,
            "source": list(request.source),
            "peer": list(request.peer),
            "not_before_ms": request.not_before_ms,
            "max_blocks": request.max_blocks,
            "label": request.label,
        }

    def _session(self, request: pb.MintRequest | pb.RevokeRequest, call: CallContext) -> Session:
        return require_visible(self._log.get_session(request_fields.session_id(request.session_id)), call)

    def _live_lineage(self, session: Session, now_ms: int) -> list[Session]:
        """Return the session and its ancestors. Raises NOT_LIVE unless all of them are alive."""
        members = list(lineage(session, self._log.get_session))
        dead = [
            member
            for member in members
            if member.status != SessionStatus.ACTIVE or member.ends_at_ms() <= now_ms
        ]
        if dead or members[-1].parent_id:
            which = "the session" if session in dead else "an ancestor of the session"
            raise refused("NOT_LIVE", f"session_id: {which} is suspended or has ended")
        return members

    def _verified(self, token: Token) -> tuple[bool, str]:
        for key in self._log.keys():
            if key.id == token.issuer_key_id:
                wrong = token.first_invalid_block(key.public_key)
                if wrong < 0:
                    return True, f"signed by issuer key {key.id.hex()}, which is {key.status.name}"
                return False, f"the signature of block {wrong} is wrong"
        return False, "the issuer key that the token names is not known here"


def _text(token: Token) -> str:
    return token.stored_text() if token.is_open else token.text


def _require_within(members: list[Session], scopes: list[Scope], *, strict: bool) -> list[str]:
    """Refuse a scope outside of the ceilings. Warn, or if ``strict`` refuse, where that can't be proved.

    Of a session in observe mode the ceiling refuses nothing, so a scope outside of it is a warning as well.
    """
    warnings = []
    records = [scope.to_record() for scope in scopes]
    for depth, session in enumerate(members):
        for layer in session.ceilings:
            # A root block reads the facts of its own session, as that session's ceiling does.
            verdict, part = containment.contains(
                [dict(scope) for scope in layer], records, same_facts=True, same_session=depth == 0
            )
            if verdict < 0 and (strict or not session.observe):
                raise WidensAuthority(f"scopes: {part} is wider than the session's ceiling", part)
            if verdict == 0 and strict:
                raise WidensAuthority(
                    f"scopes: {part} is not proven to lie inside the session's ceiling", part
                )
            if verdict <= 0 and session.observe:
                warnings.append("a scope may be wider than the session's ceiling, which is in observe mode")
            elif verdict == 0:
                warnings.append("a scope may be wider than the session's ceiling; calls are held to both")
    return list(dict.fromkeys(warnings))
