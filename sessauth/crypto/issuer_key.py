"""Issuer keys: PKCS#8 PEM files readable by their owner alone, and their public face.

A secret lives in Python ``bytes``, which can be neither locked nor wiped for certain. So the process
that holds it does nothing else (see ``docs/threat-model.md``).
"""

from __future__ import annotations

import base64
import hashlib
import json

from .._fast.crypto import ed25519
from ..errors import UsageError
from .signing_key import SigningKey


class IssuerKey(SigningKey):
    """An Ed25519 key that signs root blocks."""

    __slots__ = ("key_id",)

    made_by = "sessauth keys add"
    key_id: bytes
    """BLAKE2b-256 of the public key, 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        """Take the 32-byte seed of RFC 8032.

        Raises:
            UsageError: if it has another length.
        """
        super().__init__(seed)
        self.key_id = key_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over ``message``."""
        return ed25519.sign(self._seed, message)

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JSON Web Key."""
        return public_jwk(self.public_key)

    def __repr__(self) -> str:
        """Show the key id, never the secret."""
        return f"<IssuerKey {self.key_id.hex()}>"


def key_id(public_key: bytes) -> bytes:
    """Return what tokens name an issuer key by: BLAKE2b-256 of its 32 bytes.

    Raises:
        UsageError: if it is no acceptable public key: canonical and not of small order.
    """
    if not ed25519.acceptable_key(public_key):
        raise UsageError("not an Ed25519 public key: 32 bytes, canonical, not of small order")
    return ed25519.digest(public_key)


def public_jwk(public_key: bytes) -> dict[str, str]:
    """Return an Ed25519 public key as a JSON Web Key (RFC 8037, RFC 9864).

    ``kid`` is its RFC 7638 thumbprint.
    """
    required = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public_key)}
    canonical = json.dumps(required, separators=(",", ":"), sort_keys=True).encode()
    return {**required, "kid": _base64url(hashlib.sha256(canonical).digest()), "alg": "Ed25519", "use": "sig"}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
