"""Files of private keys: PKCS#8 PEM that only its owner can open, written once and never over another.

A file holds one block for each of its keys, in the order of the class that owns it. Each has the encoding of
``openssl genpkey``. No message shows the contents of a file.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path
from typing import Final

from ..errors import KeyFolderError

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

    Raises:
        KeyFolderError: if the file exists (it is never overwritten) or can't be written.
    """
    blocks = [
        f"{_BEGIN}\n{base64.b64encode(_PKCS8_PREFIXES[algorithm] + secret).decode()}\n{_END}\n"
        for algorithm, secret in secrets
    ]
    write_private(path, "".join(blocks).encode())


def load_secrets(path: Path, *algorithms: str, make: str) -> tuple[bytes, ...]:
    """Read a key file that holds one key of each of ``algorithms``, in this order; 32 bytes each.

    ``make`` ends the message of a refusal: the command that makes such a file.

    Raises:
        KeyFolderError: if it is missing, no plain file, open to its group or to others, or holds
            anything else.
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
    """Read a file that nobody but its owner can open; checked on the open file, not on its name.

    Raises:
        KeyFolderError: if it can't be read, is no plain file, is open to others, or is larger than a key.
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

    Raises:
        KeyFolderError: if it exists or can't be written.
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
