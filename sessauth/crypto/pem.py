"""Files of private keys and certificates, in PEM.

A private key is PKCS#8 in a file that only its owner can open, written once and never over another. The file
has one block for each key, in the order of the class that owns it, encoded as by ``openssl genpkey``. No
message shows the contents of a file.

The certificate files of a long-lived TLS client are read again when they change.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import ssl
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import ConfigError, KeyFolderError

ED25519: Final = "Ed25519"
X25519: Final = "X25519"

# The whole ASN.1 of a private key before its 32 bytes (RFC 8410, 7).
_PKCS8_PREFIXES: Final = {
    ED25519: bytes.fromhex("302e020100300506032b657004220420"),
    X25519: bytes.fromhex("302e020100300506032b656e04220420"),
}
_BEGIN: Final = "-----BEGIN PRIVATE KEY-----"
_END: Final = "-----END PRIVATE KEY-----"
_MAX_FILE_BYTES: Final = 4096


def save_secrets(path: Path, *secrets: tuple[str, bytes]) -> None:
    """Write a new key file, mode 0600, with the ``(algorithm, 32 bytes)`` pairs, and wait for the disk.

    Raises KeyFolderError if the file exists (it is never overwritten) or can't be written.
    """
    blocks = [
        f"{_BEGIN}\n{base64.b64encode(_PKCS8_PREFIXES[algorithm] + secret).decode()}\n{_END}\n"
        for algorithm, secret in secrets
    ]
    write_private(path, "".join(blocks).encode())


def load_secrets(path: Path, *algorithms: str, make: str) -> tuple[bytes, ...]:
    """Read a key file that holds one key of each of ``algorithms``, in this order; 32 bytes each.

    ``make`` ends the message of a refusal: the command that makes such a file. Raises KeyFolderError if it is
    missing, no plain file, open to its group or to others, or holds anything else.
    """
    bodies = _bodies(read_private(path).decode("ascii", "replace"))
    if len(bodies) != len(algorithms):
        count = "one" if len(algorithms) == 1 else str(len(algorithms))
        raise KeyFolderError(
            f"{path} is no PKCS#8 PEM file: it must hold {count} '{_BEGIN}' and nothing else"
        )
    return tuple(
        _secret(body, algorithm, path, make) for body, algorithm in zip(bodies, algorithms, strict=True)
    )


def _bodies(text: str) -> list[str]:
    """Return the base64 of each block of a PEM text; nothing if there is anything beside blocks."""
    bodies: list[str] = []
    inside: list[str] | None = None
    for line in map(str.strip, text.strip().splitlines()):
        if inside is None:
            if line != _BEGIN:
                return []
            inside = []
        elif line == _END:
            bodies.append("".join(inside))
            inside = None
        else:
            inside.append(line)
    return bodies if inside is None else []


def _secret(body: str, algorithm: str, path: Path, make: str) -> bytes:
    """Return the 32 bytes of one block; only the one encoding that ``openssl genpkey`` writes."""
    prefix = _PKCS8_PREFIXES[algorithm]
    try:
        der = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        der = b""
    if len(der) != len(prefix) + 32 or not der.startswith(prefix):
        raise KeyFolderError(f"{path} holds no {algorithm} private key where one is required: {make}")
    return der[len(prefix) :]


def read_private(path: Path) -> bytes:
    """Read a file that only its owner can open; checked on the open file, not on its name.

    Raises KeyFolderError if it can't be read, is not a plain file, is open to others, or is larger than a
    key.
    """
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


def write_private(path: Path, data: bytes) -> None:
    """Write a new file with mode 0600 and wait until it is on the disk.

    Raises KeyFolderError if it exists or can't be written.
    """
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
        sync_path(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise KeyFolderError(f"can't write the key {path}: {error.strerror}") from None


def sync_path(path: Path) -> None:
    """Make a file, or the names in a folder, durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_log: Final = logging.getLogger(__name__)
_CHECK_EVERY_S: Final = 1.0
_Stamps = tuple[tuple[int, int, int], ...]


class ClientPem(NamedTuple):
    """The content of the files, in the order in which gRPC takes them; None for each that is not stated."""

    ca: bytes | None
    private_key: bytes | None
    certificate: bytes | None


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """PEM files: the CA that signed the servers' certificates, and a client's certificate with its key.

    ``ca`` None: gRPC's default roots. ``certificate`` and ``private_key`` None: the client shows none.
    """

    ca: Path | None
    certificate: Path | None
    private_key: Path | None

    def stamps(self) -> _Stamps:
        """Return values that differ once a file was replaced or written. Raises OSError."""
        paths = (self.ca, self.certificate, self.private_key)
        found = [path.stat() for path in paths if path is not None]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)

    def read(self) -> ClientPem:
        """Return the contents of the files. Raises OSError if they can't be used."""
        # gRPC would only fail each handshake. A key with a passphrase can't be read.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        key = certificate = None
        if self.certificate is not None and self.private_key is not None:
            context.load_cert_chain(self.certificate, self.private_key, password=lambda: b"")
            key, certificate = self.private_key.read_bytes(), self.certificate.read_bytes()
        ca = None if self.ca is None else self.ca.read_bytes()
        if self.ca is not None:
            context.load_verify_locations(self.ca)
        return ClientPem(ca, key, certificate)


class ClientCredentials:
    """Credentials by files. Those of the last good files stay in use."""

    def __init__(self, files: ClientFiles, settings: str) -> None:
        """Read the files, which ``settings`` name. Raises ConfigError if they can't be used."""
        self._files = files
        self._settings = settings
        self._lock = threading.Lock()
        self._checked_at_s = time.monotonic()
        try:
            # Before the files: a change in between is read again.
            self._stamps = files.stamps()
            self.current = files.read()
        except OSError as error:
            raise ConfigError(f"{settings}: can't be used: {error}") from None

    def changed(self) -> bool:
        """Read changed files, at most once a second; True if ``current`` is new."""
        if time.monotonic() - self._checked_at_s < _CHECK_EVERY_S or not self._lock.acquire(blocking=False):
            return False
        try:
            self._checked_at_s = time.monotonic()
            stamps = self._files.stamps()
            if stamps == self._stamps:
                return False
            # Those that can't be used are logged once, until they change again.
            self._stamps = stamps
            self.current = self._files.read()
        except OSError as error:
            _log.error("%s: the changed files can't be used: %s", self._settings, error)
            return False
        finally:
            self._lock.release()
        return True
