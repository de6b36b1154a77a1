"""Issuer keys: PKCS#8 PEM files readable by their owner alone, and their public face.

A secret lives in Python ``bytes``, which can be neither locked nor wiped for certain. So the process
that holds it does nothing else (see ``docs/threat-model.md``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import NoReturn

from ._fast import ed25519
from .errors import KeyFolderError, UsageError

# The whole ASN.1 of an Ed25519 private key before its 32 bytes (RFC 8410, 7).
_PKCS8_PREFIX = bytes.fromhex("302e020100300506032b657004220420")
_BEGIN = "-----BEGIN PRIVATE KEY-----"
_END = "-----END PRIVATE KEY-----"
_MAX_FILE_BYTES = 4096


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
        return cls(_seed_of_pem(_read_private(Path(path)), Path(path)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a new key file with mode 0600 and wait until it is on the disk.

        Raises:
            KeyFolderError: if the file exists (it is never overwritten) or can't be written.
        """
        target = Path(path)
        der = base64.b64encode(_PKCS8_PREFIX + self._seed).decode()
        _write_private(target, f"{_BEGIN}\n{der}\n{_END}\n".encode())

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


def _seed_of_pem(data: bytes, path: Path) -> bytes:
    """Return the seed in PEM ``data``; only the one encoding that ``openssl genpkey`` writes."""
    lines = data.decode("ascii", "replace").strip().splitlines()
    if len(lines) < 3 or lines[0].strip() != _BEGIN or lines[-1].strip() != _END:
        raise KeyFolderError(
            f"{path} is no PKCS#8 PEM file: it must hold one '{_BEGIN}' block and nothing else"
        )
    try:
        der = base64.b64decode("".join(line.strip() for line in lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        der = b""
    if len(der) != len(_PKCS8_PREFIX) + 32 or not der.startswith(_PKCS8_PREFIX):
        raise KeyFolderError(
            f"{path} holds no Ed25519 private key: make one with 'sessauth keys add' or openssl genpkey"
        )
    return der[len(_PKCS8_PREFIX) :]


def _read_private(path: Path) -> bytes:
    """Read a file that nobody but its owner can open; judged on the open file, not on its name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFolderError(f"can't read the key {path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFolderError(f"{path} is no plain file")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise KeyFolderError(f"{path} has mode {mode:04o}, so others can use the key: chmod 600 {path}")
        if status.st_size > _MAX_FILE_BYTES:
            raise KeyFolderError(f"{path} is too large for a key: over {_MAX_FILE_BYTES} bytes")
        return os.read(descriptor, _MAX_FILE_BYTES)
    except OSError as error:
        raise KeyFolderError(f"can't read the key {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _write_private(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise KeyFolderError(f"{path} exists, and a key is never overwritten: move it away first") from None
    except OSError as error:
        raise KeyFolderError(f"can't create the key {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        _sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise KeyFolderError(f"can't write the key {path}: {error.strerror}") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
