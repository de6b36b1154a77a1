"""A file of the arguments of checked calls, which no log holds: for ``audit replay --arguments``."""

from __future__ import annotations

import logging
import os
import stat
from hashlib import blake2b
from pathlib import Path
from typing import Final

from ..._fast._check import masked
from ...errors import UsageError

# The file stays below this size; later arguments are not recorded.
MAX_BYTES: Final = 256 << 20
# Digests of recorded arguments; a repeated call takes no space again.
MAX_DIGESTS: Final = 65_536
_log: Final = logging.getLogger(__name__)


class ArgumentFile:
    """Appends the JSON of each call, one a line, byte for byte. A call that shows a token is left out."""

    def __init__(self, path: Path, option: str) -> None:
        """Open a file that only its owner may read, or make one.

        Raises:
            UsageError: naming ``option``, if it can't be opened, or others may read it.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._handle = os.open(path, flags, 0o600)
        except OSError as error:
            raise UsageError(f"{option}: can't write {path}: {error.strerror}") from None
        status = os.fstat(self._handle)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            os.close(self._handle)
            raise UsageError(f"{option}: {path} is no file that only its owner may read; it holds arguments")
        self._path = path
        self._size = status.st_size
        self._digests: set[bytes] = set()
        self._full = False

    def record(self, arguments: str) -> None:
        """Append the arguments of a call, as one line of JSON; a disk that fails ends the recording."""
        line = arguments.encode() + b"\n"
        digest = blake2b(line, digest_size=16).digest()
        if self._full or digest in self._digests or line.count(b"\n") > 1 or masked(arguments) != arguments:
            return
        if self._size + len(line) > MAX_BYTES:
            self._stop(f"it holds {MAX_BYTES >> 20} MiB")
            return
        try:
            written = os.write(self._handle, line)
        except OSError as error:
            self._stop(error.strerror or type(error).__name__)
            return
        self._size += written
        if written < len(line):
            self._stop("the disk is full")
        elif len(self._digests) < MAX_DIGESTS:
            self._digests.add(digest)

    def _stop(self, why: str) -> None:
        self._full = True
        _log.warning("arguments are no longer recorded in %s: %s", self._path, why)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)
