"""One file of a stream while it is written: a write is whole, or it is taken back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .. import layout


class StreamFile:
    """A file that grows by whole lines. Used by one thread at a time."""

    __slots__ = ("_descriptor", "_torn", "path", "size", "synced")

    path: Path
    size: int
    """Bytes of the lines that were written whole."""
    synced: int
    """Bytes of them that are known to be on the disk."""

    def __init__(self, path: Path) -> None:
        """Make the file, mode 0640. Raises OSError."""
        self.path = path
        self.size = 0
        self.synced = 0
        self._torn = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, layout.FILE_MODE)
        try:
            os.fchmod(self._descriptor, layout.FILE_MODE)
        except OSError:
            self.close()
            raise

    def write(self, lines: bytes) -> None:
        """Write behind the last whole line, all or nothing.

        Raises:
            OSError: if it can't be written. What was written of it is taken back, now or before the next
                write.
        """
        if self._torn:
            os.ftruncate(self._descriptor, self.size)
            self._torn = False
        at = self.size
        rest = memoryview(lines)
        try:
            while rest:
                # At the place we know, so that nothing that another program appended stands between lines.
                written = os.pwrite(self._descriptor, rest, at)
                at += written
                rest = rest[written:]
        except OSError:
            self.take_back(self.size)
            raise
        self.size = at

    def take_back(self, size: int) -> None:
        """Cut what was written behind ``size`` bytes. Raises OSError; then the next write begins with it."""
        self.size = size
        self.synced = min(self.synced, size)
        self._torn = True
        os.ftruncate(self._descriptor, size)
        self._torn = False

    def sync(self) -> None:
        """Wait until all is on the disk.

        Raises:
            OSError: if that failed, or if the file was removed, cut or appended to by another program. What
                the disk holds is not known then: no more may be written to this file.
        """
        found = os.fstat(self._descriptor)
        if found.st_nlink == 0 or found.st_size != self.size:
            what = "removed" if found.st_nlink == 0 else "changed"
            raise OSError(errno.ESTALE, f"was {what} by another program", str(self.path))
        os.fdatasync(self._descriptor)
        self.synced = self.size

    def close(self) -> None:
        """Close it; what was written stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
