"""The keys of an audit folder: one signs checkpoints, the other hides the arguments of calls.

Both are made at first use, in files that only their owner can read. The public half of the signing key is
kept beside it for verification; docs/audit.md says how much that proves.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, Self, TypeVar

from .._fast import _check as kernel
from ..crypto import pem
from ..crypto.signing_key import MessageKey
from ..errors import KeyFolderError, UsageError
from . import layout

_ID_LABEL: Final = b"sessauth/audit-arguments-key/v1\x00"
_MAX_PUBLIC_BYTES: Final = 65_536

Key = TypeVar("Key")


class AuditKey(MessageKey):
    """The Ed25519 key that signs the checkpoints of a folder's streams."""

    __slots__ = ()

    made_by = "sessauth serve, with [audit] enabled"

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Return the key of an audit folder; make it, and its public file, if there is none.

        Raises KeyFolderError if it can't be read or made, or is readable by others.
        """
        path = folder / layout.KEY_FILE
        key = _once(path, cls.load, lambda temporary: cls.generate().save(temporary))
        _publish(folder / layout.PUBLIC_FILE, key.public_key)
        return key


class ArgumentsKey:
    """The secret of the digests of calls' arguments: 32 bytes.

    Without it no one can guess the arguments of a call; with it an operator can test given ones (``sessauth
    audit query --arguments``).
    """

    __slots__ = ("_secret", "key_id")

    key_id: bytes
    """Its id in the log, 16 bytes."""

    def __init__(self, secret: bytes) -> None:
        """Take 32 bytes. Raises UsageError for another length."""
        if len(secret) != 32:
            raise UsageError("an arguments key is 32 bytes")
        self._secret = secret
        self.key_id = hashlib.blake2b(_ID_LABEL, key=secret, digest_size=16).digest()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file: 64 hex digits.

        Raises KeyFolderError if it is missing, readable by others, or holds anything else.
        """
        text = pem.read_private(path)
        try:
            return cls(bytes.fromhex(text.decode("ascii").strip()))
        except (ValueError, UsageError):
            # The message doesn't repeat the content: it may be most of a secret.
            raise KeyFolderError(f"{path} is no arguments key: it must hold 64 hex digits") from None

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Return the key of an audit folder; make it if there is none.

        Raises KeyFolderError if it can't be read or made, or is readable by others.
        """

        def make(temporary: Path) -> None:
            pem.write_private(temporary, secrets.token_hex(32).encode() + b"\n")

        return _once(folder / layout.ARGUMENTS_KEY_FILE, cls.load, make)

    @property
    def secret(self) -> bytes:
        """The 32 bytes, for the kernel, which digests the arguments of each call."""
        return self._secret

    def digest(self, arguments: bytes) -> str:
        """Return the log's digest of a call's arguments (the JSON as it came): 32 hex digits; "" for none."""
        if not arguments:
            return ""
        return hashlib.blake2b(arguments, key=self._secret, digest_size=16).hexdigest()

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise TypeError("an ArgumentsKey is not pickled")

    def __repr__(self) -> str:
        """Show the key id, never the secret."""
        return f"<ArgumentsKey {self.key_id.hex()}>"


def public_keys(path: Path) -> dict[bytes, bytes]:
    """Return the public keys in a file such as ``audit.pub``, 64 hex digits a line, by key id.

    Raises KeyFolderError if it can't be read or holds anything else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_PUBLIC_BYTES).decode("ascii")
        keys = [bytes.fromhex(line) for line in text.split()]
    except OSError as error:
        raise KeyFolderError(f"can't read the public keys {path}: {error.strerror}") from None
    except ValueError:
        keys = []
    if not keys or not all(map(kernel.acceptable_key, keys)):
        raise KeyFolderError(f"{path} holds no public keys of an audit log: 64 hex digits a line")
    return {kernel.digest(key): key for key in keys}


def _publish(path: Path, public_key: bytes) -> None:
    """Add a key to a public file. Earlier keys stay: they signed the older lines."""
    try:
        known = list(public_keys(path).values()) if path.exists() else []
        if public_key in known:
            return
        temporary = _temporary(path)
        try:
            lines = [f"{key.hex()}\n" for key in [public_key, *known]]
            pem.write_private(temporary, "".join(lines).encode())
            temporary.chmod(layout.FILE_MODE)
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        pem.sync_path(path.parent)
    except OSError as error:
        raise KeyFolderError(f"can't write {path}: {error.strerror}") from None


def _once(path: Path, load: Callable[[Path], Key], make: Callable[[Path], None]) -> Key:
    """Return the key in a file; if there is none, make one, the same for all processes that start now."""
    if not path.exists():
        temporary = _temporary(path)
        make(temporary)
        try:
            # The first link wins. A rename would replace the first key by a second.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            pem.sync_path(path.parent)
        except OSError as error:
            raise KeyFolderError(f"can't create the key {path}: {error.strerror}") from None
        finally:
            temporary.unlink(missing_ok=True)
    return load(path)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")
