"""Tokens as a holder has them (read, narrowed offline, shown), and the issuer that mints them.

A :class:`Token` is unverified: its bytes are a well-formed chain. Only a verifier checks the signatures and
the session. An :class:`Issuer` signs the root block of each token.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Unpack

from .. import limits
from .._fast import _check as kernel
from ..clock import Clock, SystemClock
from ..crypto.armor import PRESENTED_PREFIX, STORED_PREFIX, presented_text, read_text, stored_text
from ..crypto.keys import HolderSigner, IssuerKey
from ..errors import MalformedToken, UsageError
from ..scopes.scope import Scope
from . import block_draft
from .block_draft import (
    BlockTerms,
    Draft,
    Ending,
    Signed,
    TokenInfo,
    check_holder,
    inspect_chain,
    root_record,
    warnings_of,
)
from .terms import shows_terms

_PREFIXES = (PRESENTED_PREFIX.encode(), STORED_PREFIX.encode())


@dataclass(frozen=True, slots=True)
class Binding:
    """The basis of proofs for a bound token: its last block's signature and the keys that it names.

    ``proof_key`` is empty where the block names none; then a proof is a signature.
    """

    signature: bytes
    next_key: bytes
    proof_key: bytes


class Token:
    """An immutable token. Made by :meth:`parse`, by ``Issuer.mint`` and by :meth:`attenuate`."""

    __slots__ = ("_binding", "_chain", "_seed", "warnings")

    warnings: tuple[str, ...]
    """Warnings for its maker: a scope not proven inside its parent, a long text form."""

    def __init__(self, signed: Signed, warnings: tuple[str, ...] = ()) -> None:
        """Wrap a chain that the kernel found well-formed, with the seed of its next key if it is open."""
        self._chain = signed.chain
        self._seed = signed.seed
        self._binding: Binding | None = None
        self.warnings = warnings

    @classmethod
    def parse(cls, token: str | bytes) -> Token:
        """Read a token: its presented or stored text, or its bytes.

        Raises:
            MalformedToken: its message separates no token, truncated, damaged, and against the format.
        """
        data, seed = _read(token)
        try:
            chain = kernel.Chain.parse(data)
        except kernel.FormError as error:
            raise MalformedToken(f"the token is against the format: {error.detail}") from None
        if seed and (chain.ending != Ending.OPEN or kernel.public_key(seed) != chain.next_key):
            raise MalformedToken("the stored token and its secret don't belong together")
        return cls(Signed(chain, seed))

    @property
    def data(self) -> bytes:
        """The encoded chain, which is presented unless it is open."""
        return self._chain.raw

    @property
    def ending(self) -> Ending:
        """The ending of the last block."""
        return Ending(self._chain.ending)

    @property
    def is_open(self) -> bool:
        """True if its secret extends it, so that it is never presented."""
        return self.ending is Ending.OPEN

    @property
    def binding(self) -> Binding | None:
        """The basis of proofs for it; None unless it is bound."""
        if self._binding is None and self.ending is Ending.BOUND:
            last = kernel.decode_message("Block", self._chain.payloads[-1])
            self._binding = Binding(self._chain.signatures[-1], last["next_key"], last["proof_key"])
        return self._binding

    @property
    def session_id(self) -> bytes:
        """The session it lives and dies with, 16 bytes."""
        return self._chain.session_id

    @property
    def token_id(self) -> bytes:
        """The id that the issuer gave it, 16 bytes; narrower ones have the same."""
        return self._chain.token_id

    @property
    def block_ids(self) -> tuple[bytes, ...]:
        """The ids that revocation and audit name its blocks by, 32 bytes each, the root's first."""
        return self._chain.block_ids

    @property
    def issuer_key_id(self) -> bytes:
        """Id of the issuer key that the root block names, 32 bytes."""
        return self._chain.issuer_key_id

    @property
    def payloads(self) -> tuple[bytes, ...]:
        """The encoded blocks, the root's first."""
        return self._chain.payloads

    @property
    def expires_at_ms(self) -> int:
        """The earliest end that a block states, in ms since 1970."""
        return self._chain.expires_at_ms

    @property
    def text(self) -> str:
        """The presented form, for ``Authorization: Bearer``.

        Raises UsageError if it is open: present() makes a copy that can be shown.
        """
        if self.is_open:
            raise UsageError("an open token is never presented: present() makes a sealed copy")
        return presented_text(self.data)

    def stored_text(self) -> str:
        """Return the form to store. Of an open token it is a secret, with which the token is extended.

        Raises UsageError if it is open and came without its secret, so that nothing can be done with it.
        """
        if not self.is_open:
            return presented_text(self.data)
        if not self._seed:
            raise UsageError("this open token came without its secret: keep the stored form")
        return stored_text(self.data, self._seed)

    @shows_terms(BlockTerms)
    def attenuate(
        self,
        *,
        scopes: Sequence[Scope | str] = (),
        audience: Sequence[str] = (),
        expires_at_ms: int = 0,
        key: HolderSigner | None = None,
        strict: bool = False,
        clock: Clock | None = None,
        **terms: Unpack[BlockTerms],
    ) -> Token:
        """Return a narrower token, made offline. A parameter that is left out changes nothing.

        An open token is extended with the secret that it carries, a bound one with ``key``. Raises
        NotExtendable if this token is sealed, its secret is elsewhere, or it is bound and the new one would
        not be; WidensAuthority if the parent can never satisfy a part, which it names; ScopeError if a scope
        or condition can't be read; UsageError if a parameter is beyond a limit or contradicts another.

        Args:
            scopes: a call must also match one of these; each is compared with the blocks above.
            audience: the verifiers that may still accept it.
            expires_at_ms: when it ends, in ms since 1970; excludes ``ttl_ms``.
            key: the ``HolderKey`` that this token is bound to.
            strict: refuse parts that are not proven to lie inside the parent.
            clock: the time that ``ttl_ms`` counts from.
            terms: the other terms of the new block; ``where`` holds beside the conditions above.
        """
        block_draft.check_extendable(self._chain, self._seed, key, Ending.SEALED)
        draft = Draft.of(
            clock=clock or SystemClock(),
            scopes=scopes,
            audience=audience,
            expires_at_ms=expires_at_ms,
            **terms,
        )
        return Token(*block_draft.extend(self._chain, self._seed, key, draft, strict=strict))

    def present(self) -> Token:
        """Return the token for a gateway: of an open one a sealed copy with the same authority, else itself.

        A bound token is presented as it is, each time with a new proof (``HolderKey.prove``). Raises
        NotExtendable if it is open and came without its secret.
        """
        if not self.is_open:
            return self
        return Token(*block_draft.extend(self._chain, self._seed, None, block_draft.SEAL, strict=False))

    def first_invalid_block(self, issuer_public_key: bytes) -> int:
        """Return the index of the first block with a wrong signature under a key (32 bytes), -1 if none."""
        return self._chain.verify(issuer_public_key)

    def inspect(self) -> TokenInfo:
        """Return its contents, unverified."""
        return inspect_chain(self._chain)

    def __eq__(self, other: object) -> bool:
        """Compare the encoded chains."""
        return isinstance(other, Token) and self.data == other.data

    def __hash__(self) -> int:
        """Hash the encoded chain."""
        return hash(self.data)

    def __repr__(self) -> str:
        """Show public parts: no token, no secret."""
        ending = self.ending.name.lower()
        return f"<Token {ending} blocks={self._chain.block_count} session={self.session_id.hex()}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: a secret leaves only through :meth:`stored_text`."""
        raise TypeError("a Token is not pickled: keep its stored_text()")


def _read(token: str | bytes) -> tuple[bytes, bytes]:
    if isinstance(token, str):
        return read_text(token.strip())
    if not isinstance(token, bytes):
        raise UsageError(f"a token is str or bytes, not {type(token).__name__}")
    stripped = token.strip()
    if stripped.startswith(_PREFIXES):
        return read_text(stripped.decode("latin-1"))
    return token, b""


class Issuer:
    """Mints tokens with one key. It reads no state: its caller decides which sessions may have a token."""

    __slots__ = ("_clock", "_key")

    def __init__(self, key: IssuerKey, clock: Clock | None = None) -> None:
        """Sign with ``key``; ``clock`` gives the issue time."""
        self._key = key
        self._clock = clock or SystemClock()

    @property
    def key_id(self) -> bytes:
        """The id that its tokens name its key by, 32 bytes."""
        return self._key.key_id

    @shows_terms(BlockTerms)
    def mint(
        self,
        session_id: bytes,
        scopes: Sequence[Scope | str],
        audience: Sequence[str],
        *,
        expires_at_ms: int = 0,
        min_revision: int = 0,
        **terms: Unpack[BlockTerms],
    ) -> Token:
        """Return a new token of a session.

        Raises ScopeError if a scope or condition can't be read; UsageError if a parameter is missing, beyond
        a limit or contradicts another.

        Args:
            session_id: 16 bytes, as the server gave it.
            scopes: the calls it permits; a call must match one of them.
            audience: the verifiers that may accept it. May be empty where ``to`` is given.
            expires_at_ms: when it ends, in ms since 1970; this or ``ttl_ms`` is required.
            min_revision: a view older than this answers ``STALE_STATE``.
            terms: the other terms of its block.
        """
        if not isinstance(session_id, bytes) or len(session_id) != 16:
            raise UsageError("session_id is 16 bytes")
        if not 0 <= min_revision < 2**64:
            raise UsageError("min_revision is a revision: 0 to 2^64 - 1")
        issued_at_ms = self._clock.now_ms()
        draft = self.draft(scopes, audience, issued_at_ms, expires_at_ms=expires_at_ms, **terms)
        return self.sign(draft, session_id, min_revision, issued_at_ms)

    @shows_terms(BlockTerms)
    def draft(
        self,
        scopes: Sequence[Scope | str],
        audience: Sequence[str],
        issued_at_ms: int,
        *,
        expires_at_ms: int = 0,
        **terms: Unpack[BlockTerms],
    ) -> Draft:
        """Return the root block that :meth:`sign` signs; arguments and errors as of :meth:`mint`."""
        if not scopes:
            raise UsageError("scopes is empty, so the token would permit nothing: give at least one")
        if not audience and terms.get("to") is None:
            raise UsageError("audience is empty: name the verifiers that may accept the token")
        draft = Draft.of(
            clock=self._clock, scopes=scopes, audience=audience, expires_at_ms=expires_at_ms, **terms
        )
        _check_times(draft, issued_at_ms)
        if draft.to is not None:
            check_holder(draft.to, (), self._key.key_id)
        if draft.max_blocks == 1 and draft.ending is Ending.OPEN:
            raise UsageError("max_blocks 1 leaves no block to present an open token: use 2 or more")
        return draft

    def sign(
        self, draft: Draft, session_id: bytes, min_revision: int, issued_at_ms: int, request_id: str = ""
    ) -> Token:
        """Return the token of a draft.

        With a ``request_id`` the token's id comes from it, the session's id and the key, so that the same
        arguments give the same token, unless it is open; else the id is random.
        """
        token_id = secrets.token_bytes(16)
        if request_id:
            token_id = self._key.derived_id(_TOKEN_ID, session_id + request_id.encode())
        root = root_record(self._key.key_id, session_id, token_id, min_revision)
        signed = draft.sign(self._key.sign, root=root, issued_at_ms=issued_at_ms)
        return Token(signed, warnings_of(signed.chain, draft.scopes))


_TOKEN_ID = b"sessauth/token"


def _check_times(draft: Draft, issued_at_ms: int) -> None:
    if not draft.expires_at_ms:
        raise UsageError("a token ends: give ttl_ms or expires_at_ms")
    if draft.expires_at_ms <= max(issued_at_ms, draft.not_before_ms):
        raise UsageError("the token would never be valid: expires_at_ms is not after its beginning and now")
    if issued_at_ms > limits.MAX_TIME_MS:
        raise UsageError("the clock is beyond the range of the format")
