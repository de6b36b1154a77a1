"""Arguments from a file beside the log, by their digests."""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import UsageError
from .. import layout
from ..keys import ArgumentsKey


def read_arguments(path: Path, folder: Path) -> dict[str, bytes]:
    """Return the arguments in a file by the digests that the log of a folder has of them.

    Each line is the JSON of one call's arguments, byte for byte; or, if that has line feeds, a JSON text that
    holds it.

    Raises:
        UsageError: if the file can't be read.
        KeyFolderError: if the folder's arguments key can't be.
    """
    key = ArgumentsKey.load(folder / layout.ARGUMENTS_KEY_FILE)
    by_digest: dict[str, bytes] = {}
    try:
        with path.open("rb") as file:
            for line in file:
                arguments = _unwrapped(line.rstrip(b"\r\n"))
                by_digest[key.digest(arguments)] = arguments
    except OSError as error:
        raise UsageError(f"can't read the arguments {path}: {error.strerror}") from None
    return by_digest


def _unwrapped(line: bytes) -> bytes:
    if not line.startswith(b'"'):
        return line
    try:
        text = json.loads(line)
    except ValueError:
        return line
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else line
