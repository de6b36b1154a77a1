"""Names, modes and formats of the files in an audit folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

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
    """Return the audit files of a folder by stream and number, both ascending. Raises OSError."""
    by_stream: dict[bytes, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        parsed = parse_name(path.name)
        if parsed is not None:
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
