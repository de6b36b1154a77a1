"""Issuer keys: PKCS#8 PEM files readable by their owner alone, and their public face.

A secret lives in Python ``bytes``, which can be neither locked nor wiped for certain. So the process
that holds it does nothing else (see ``docs/threat-model.md``).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import NoReturn

from . import key_file
from ._fast import ed25519
from .errors import UsageError


class IssuerKey:
    """An Ed25519 key that signs root blocks. Its public half is always derived from the secret."""

    __slots__ = ("_seed", "key_id", "public_key")

    key_id: bytes
    """BLAKE2b-256 of the public key, 32 bytes."""
    public_key: bytes
    """32 bytes."""

    def __init__(self, seed: bytes) -> None:
        """Take the 32-byte seed of RFC 8032.

        Raises:
            UsageError: if it has another length.
        """
        if not isinstance(seed, bytes) or len(seed) != 32:
            raise UsageError("the seed of an Ed25519 key is 32 bytes")
        self._seed = seed
        self.public_key = ed25519.public_key(seed)
        self.key_id = key_id(self.public_key)

    @classmethod
    def generate(cls) -> IssuerKey:
        """Return a new key from the system's random source."""
        return cls(ed25519.generate_seed())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IssuerKey:
        """Read a key file.

        Raises:
            KeyFolderError: if it is missing, no plain file, open to its group or to others, or holds
                no unencrypted Ed25519 key in PKCS#8 PEM.
        """
        make = "make one with 'sessauth keys add' or openssl genpkey"
        return cls(*key_file.load_secrets(Path(path), key_file.ED25519, make=make))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a new key file with mode 0600 and wait until it is on the disk.

        Raises:
            KeyFolderError: if the file exists (it is never overwritten) or can't be written.
        """
        key_file.save_secrets(Path(path), (key_file.ED25519, self._seed))

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over ``message``."""
        return ed25519.sign(self._seed, message)

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JSON Web Key."""
        return public_jwk(self.public_key)

    def __repr__(self) -> str:
        """Show the key id, never the secret."""
        return f"<IssuerKey {self.key_id.hex()}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: a secret leaves only through :meth:`save`."""
        raise TypeError("an IssuerKey is not pickled; save() it to a file")


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
