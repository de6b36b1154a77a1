"""Tokens as a holder has them: read, narrowed offline, shown.

A :class:`Token` is unverified: its bytes are a well-formed chain. Only a verifier checks the signatures and
the session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Unpack

from .._fast import _check as kernel
from ..clock import Clock, SystemClock
from ..crypto.armor import PRESENTED_PREFIX, STORED_PREFIX, presented_text, read_text, stored_text
from ..crypto.keys import HolderSigner
from ..errors import MalformedToken, UsageError
from ..scopes.scope import Scope
from . import attenuation
from .block_draft import BlockTerms, Draft, Signed
from .inspection import Ending, TokenInfo, inspect_chain

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
            MalformedToken: saying whether it is no token, truncated, damaged, or against the format.
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

        Raises:
            UsageError: if it is open: present() makes a copy that can be shown.
        """
        if self.is_open:
            raise UsageError("an open token is never presented: present() makes a sealed copy")
        return presented_text(self.data)

    def stored_text(self) -> str:
        """Return the form to store. Of an open token it is a secret, with which the token is extended.

        Raises:
            UsageError: if it is open and came without its secret, so that nothing can be done with it.
        """
        if not self.is_open:
            return presented_text(self.data)
        if not self._seed:
            raise UsageError("this open token came without its secret: keep the stored form")
        return stored_text(self.data, self._seed)

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

        An open token is extended with the secret that it carries, a bound one with ``key``.

        Args:
            scopes: a call must also match one of these; each is compared with the blocks above.
            audience: the verifiers that may still accept it.
            expires_at_ms: when it ends, in ms since 1970; excludes ``ttl_ms``.
            key: the ``HolderKey`` that this token is bound to.
            strict: refuse parts that are not proven to lie inside the parent.
            clock: the time that ``ttl_ms`` counts from.
            terms: the other terms of the new block; ``where`` holds beside the conditions above.

        Raises:
            NotExtendable: if this token is sealed, its secret is elsewhere, or it is bound and the new one
                would not be.
            WidensAuthority: if the parent can never satisfy a part, which it names.
            ScopeError: if a scope or condition can't be read.
            UsageError: if a parameter is beyond a limit or contradicts another.
        """
        attenuation.check_extendable(self._chain, self._seed, key, Ending.SEALED)
        draft = Draft.of(
            clock=clock or SystemClock(),
            scopes=scopes,
            audience=audience,
            expires_at_ms=expires_at_ms,
            **terms,
        )
        return Token(*attenuation.extend(self._chain, self._seed, key, draft, strict=strict))

    def present(self) -> Token:
        """Return the token for a gateway: of an open one a sealed copy with the same authority, else itself.

        A bound token is presented as it is, each time with a new proof (``HolderKey.prove``).

        Raises:
            NotExtendable: if it is open and came without its secret.
        """
        if not self.is_open:
            return self
        return Token(*attenuation.extend(self._chain, self._seed, None, attenuation.SEAL, strict=False))

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
