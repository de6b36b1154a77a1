"""Verifier keys: the X25519 keys of a host that holders make proofs for, vouched for by an issuer key.

docs/token-format.md, section 9.9. The secret halves are the host's (``state/host/proof_keys.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from .._fast.codec import protobuf
from .._fast.crypto import ed25519
from ..errors import UsageError
from .issuer_key import IssuerKey

LABEL: Final = b"sessauth/verifier-key/v1\x00"

_SIZES: Final = {"verifier_id": 16, "public_key": 32, "cluster_id": 16}


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a host's key, 32 bytes, and when it counts, in ms since 1970.

    ``verifier_id`` names the host's verifiers and ``cluster_id`` the state that they judge by, 16 bytes each.
    """

    verifier_id: bytes
    public_key: bytes
    not_before_ms: int
    expires_at_ms: int
    cluster_id: bytes

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read an encoded VerifierKey.

        Raises:
            UsageError: if it is not canonical, or a part has another size.
        """
        try:
            record: dict[str, Any] = protobuf.decode("VerifierKey", payload)
        except protobuf.WireError as error:
            raise UsageError(f"not a verifier key: {error}") from None
        for name, size in _SIZES.items():
            if len(record[name]) != size:
                raise UsageError(f"not a verifier key: {name} is {size} bytes, not {len(record[name])}")
        return cls(**record)

    def encode(self) -> bytes:
        """Return the canonical bytes of message VerifierKey."""
        return protobuf.encode(
            "VerifierKey",
            {
                "verifier_id": self.verifier_id,
                "public_key": self.public_key,
                "not_before_ms": self.not_before_ms,
                "expires_at_ms": self.expires_at_ms,
                "cluster_id": self.cluster_id,
            },
        )

    @property
    def key_id(self) -> bytes:
        """What proofs name it by: BLAKE2b-256 of the public key."""
        return ed25519.digest(self.public_key)

    def signed_by(self, issuer: IssuerKey) -> SignedVerifierKey:
        """Return this key, vouched for by an issuer key."""
        payload = self.encode()
        return SignedVerifierKey(payload, issuer.key_id, issuer.sign(LABEL + payload))


@dataclass(frozen=True, slots=True)
class SignedVerifierKey:
    """An encoded VerifierKey, and the 64-byte signature of an issuer key over label and payload."""

    payload: bytes
    issuer_key_id: bytes
    signature: bytes

    def verified(self, issuers: Mapping[bytes, bytes]) -> VerifierKey:
        """Return the key, if one of ``issuers`` (public keys by key id) signed it.

        Raises:
            UsageError: if the issuer is none of them, the signature is wrong, or the payload is no
                VerifierKey. Nothing of it may be used then.
        """
        public_key = issuers.get(self.issuer_key_id)
        if public_key is None:
            raise UsageError(
                f"the verifier key is signed by issuer key {self.issuer_key_id.hex()}, which is none of "
                "those given: it is of another cluster, or issuer_keys= is out of date"
            )
        if not ed25519.verify(public_key, LABEL + self.payload, self.signature):
            raise UsageError("the signature of the verifier key is wrong: don't prove anything for it")
        return VerifierKey.decode(self.payload)
