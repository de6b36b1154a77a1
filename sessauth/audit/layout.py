"""An audit folder: the names of its files, its two keys, and the signed checkpoints of its streams.

Writers (``audit/write``), the verification (``audit/verify``) and readers (``audit/read``) all use these
names and bytes. None of them has its own.

The folder has two keys, each made at first use in a file that only its owner can read. The :class:`AuditKey`
signs checkpoints; its public half is kept beside it for verification (docs/audit.md says how much that
proves). The :class:`ArgumentsKey` hides the arguments of calls. A checkpoint is a signed line, and covers
every line of its stream before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, Self, TypeVar

from .._fast import _check as kernel
from ..crypto import pem
from ..crypto.keys import MessageKey
from ..errors import KeyFolderError, UsageError

FORMAT: Final = 1
KEY_FILE: Final = "audit.key"
PUBLIC_FILE: Final = "audit.pub"
ARGUMENTS_KEY_FILE: Final = "arguments.key"

# The folder's group may read and verify; the two secret files are their owner's alone.
DIR_MODE: Final = 0o750
FILE_MODE: Final = 0o640

STREAM_BYTES: Final = 16
CHAIN_BYTES: Final = 32
ZEROS: Final = bytes(CHAIN_BYTES)

# `,"chain":"`, 64 digits, `"}`: the end of a line, after the part that its chain is computed over.
TAIL_BYTES: Final = 76

MAX_FILES: Final = 999_999
_NAME = re.compile(r"([0-9a-f]{32})-([0-9]{6})\.jsonl", re.ASCII)
NUMBERED: Final = re.compile(rb'\{"n":(0|[1-9][0-9]{0,15}),"kind":"')


def file_name(stream: bytes, number: int) -> str:
    """Return the name of a stream's file; files are numbered from 0."""
    return f"{stream.hex()}-{number:06}.jsonl"


def parse_name(name: str) -> tuple[bytes, int] | None:
    """Return the stream and the number in a file's name, None if it is no audit file's."""
    match = _NAME.fullmatch(name)
    return None if match is None else (bytes.fromhex(match[1]), int(match[2]))


def files(folder: Path) -> dict[bytes, dict[int, Path]]:
    """Return the audit files of a folder by stream and number, both ascending. Raises OSError.

    A pipe or a device of such a name is none: it would block its reader.
    """
    by_stream: dict[bytes, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        parsed = parse_name(path.name)
        if parsed is not None and path.is_file():
            by_stream.setdefault(parsed[0], {})[parsed[1]] = path
    return by_stream


def unreadable(error: OSError, folder: object) -> str:
    """Return the message for an audit folder that can't be read."""
    hint = "; audit.enabled = true has a server write one" if isinstance(error, FileNotFoundError) else ""
    return f"can't read the audit folder {folder}: {error.strerror}{hint}"


def body(kind: str, record: Mapping[str, Any]) -> bytes:
    """Return a record as a body for :meth:`AuditStream.append`: compact JSON, UTF-8, a line feed."""
    text = json.dumps({"kind": kind, **record}, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate has no UTF-8; names from outside may hold one.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the record in a line, None if it is no JSON object."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


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
        path = folder / KEY_FILE
        key = _once(path, cls.load, lambda temporary: cls.generate().save(temporary))
        _publish(folder / PUBLIC_FILE, key.public_key)
        return key


class ArgumentsKey:
    """The secret of the digests of calls' arguments: 32 bytes.

    Without it nobody can guess the arguments of a call. With it an operator can search for given ones
    (``sessauth audit query --arguments``).
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

        return _once(folder / ARGUMENTS_KEY_FILE, cls.load, make)

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
            temporary.chmod(FILE_MODE)
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


_LABEL: Final = b"sessauth/audit-checkpoint/v1\x00"
_NUMBERS: Final = frozenset({"n", "at_ms", "count"})
_FIELDS: Final = _NUMBERS | {"kind", "head", "key", "signature", "chain"}


def signed_message(stream: bytes, n: int, head: bytes, at_ms: int) -> bytes:
    """Return the signed bytes of a checkpoint.

    ``stream`` is the stream's id, 16 bytes; ``n`` the number of lines before the checkpoint; ``head`` the
    chain of the last of them, 32 bytes; ``at_ms`` the time, in ms since 1970.
    """
    return _LABEL + stream + n.to_bytes(8, "big") + head + at_ms.to_bytes(8, "big")


def checkpoint_body(key: AuditKey, stream: bytes, n: int, head: bytes, at_ms: int) -> bytes:
    """Return the body of a signed checkpoint; the arguments are those of :func:`signed_message`."""
    return body(
        "checkpoint",
        {
            "at_ms": at_ms,
            "head": head.hex(),
            "count": n,
            "key": key.key_id.hex(),
            "signature": key.sign(signed_message(stream, n, head, at_ms)).hex(),
        },
    )


def checkpoint_fault(
    record: Mapping[str, Any], stream: bytes, n: int, head: bytes, keys: Mapping[bytes, bytes]
) -> str:
    """Return the fault of a checkpoint, "" if it is valid.

    ``n`` and ``head`` are those of the lines before it; ``keys`` are the public keys by id.
    """
    kinds = {name: int if name in _NUMBERS else str for name in _FIELDS}
    if {name: type(value) for name, value in record.items()} != kinds:
        return "it has not the fields of a checkpoint"
    try:
        key_id, signature = bytes.fromhex(record["key"]), bytes.fromhex(record["signature"])
    except ValueError:
        return "its key or its signature is no hex"
    if record["count"] != n:
        return f"it counts {record['count']} lines before it, there are {n}"
    if record["head"] != head.hex():
        return "it was made for other lines than those before it"
    if not 0 <= record["at_ms"] < 1 << 63:
        return "its time is none"
    public_key = keys.get(key_id)
    if public_key is None:
        return f"it names the key {key_id.hex()}, which is not trusted"
    if not kernel.verify(public_key, signed_message(stream, n, head, record["at_ms"]), signature):
        return "its signature is wrong"
    return ""
