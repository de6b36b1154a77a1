"""The public half of a holder's key, which a token is bound to.

Minting or narrowing a token for a holder needs this and nothing else of it; the secrets stay where they were
made (``tokens.holder.HolderKey``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from .._fast import _check as kernel
from ..errors import MalformedToken, UsageError
from .armor import HOLDER_PREFIX, checked_text, read_checked

_KEY_BYTES = 32
_P = 2**255 - 19
# The u of the points of small order on Curve25519 and its twist: agreeing with one yields zeros for everyone.
_SMALL_ORDER_U = frozenset(
    {
        0,
        1,
        _P - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)


class HolderSigner(Protocol):
    """A holder of the secret of a bound token's ``next_key``."""

    @property
    def public(self) -> HolderPublicKey:
        """The public half."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature by the secret of ``public.next_key``."""
        ...


@dataclass(frozen=True, slots=True)
class HolderPublicKey:
    """The two public keys of a holder.

    ``next_key`` is Ed25519, 32 bytes: it signs blocks, and proofs of kind Ed25519. ``proof_key`` is X25519,
    32 bytes, or empty where there is none: then a proof is always a signature.
    """

    next_key: bytes
    proof_key: bytes = b""

    def __post_init__(self) -> None:
        """Refuse keys that no token can be bound to.

        Raises:
            UsageError: naming the key that is at fault.
        """
        if not isinstance(self.next_key, bytes) or not kernel.acceptable_key(self.next_key):
            raise UsageError("next_key: not an Ed25519 public key: 32 bytes, canonical, not of small order")
        if not isinstance(self.proof_key, bytes) or len(self.proof_key) not in (0, _KEY_BYTES):
            raise UsageError("proof_key: not an X25519 public key: 32 bytes, or none")
        if self.proof_key and has_small_order(self.proof_key):
            raise UsageError("proof_key: of small order, so that it keeps no secret: make another key")
        if self.next_key == self.proof_key:
            raise UsageError("proof_key: is next_key: the two are separate keys")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form.

        Raises:
            UsageError: saying whether it is no such text, truncated, damaged, or holds no usable key.
        """
        try:
            data = read_checked(HOLDER_PREFIX, text.strip(), "holder's public key")
        except MalformedToken as error:
            raise UsageError(str(error)) from None
        if len(data) not in (_KEY_BYTES, 2 * _KEY_BYTES):
            raise UsageError("not a holder's public key: it holds one or two keys of 32 bytes")
        return cls(data[:_KEY_BYTES], data[_KEY_BYTES:])

    @classmethod
    def of(cls, key: HolderPublicKey | str) -> HolderPublicKey:
        """Return ``key``, read if it is text; raises UsageError as :meth:`parse`, for other types too."""
        if isinstance(key, str):
            return cls.parse(key)
        if not isinstance(key, HolderPublicKey):
            raise UsageError(f"a holder's public key or its text, not {type(key).__name__}")
        return key

    @property
    def text(self) -> str:
        """The text form, to be pasted: it is no secret."""
        return checked_text(HOLDER_PREFIX, self.next_key + self.proof_key)

    def __str__(self) -> str:
        """Return the text form."""
        return self.text


def has_small_order(public_key: bytes) -> bool:
    """Return True for an X25519 key, 32 bytes, that agrees with every other on zeros."""
    return (int.from_bytes(public_key, "little") & (2**255 - 1)) % _P in _SMALL_ORDER_U
