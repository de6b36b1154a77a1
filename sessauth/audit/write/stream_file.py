"""One file of a stream under writing: a write succeeds wholly, or is undone."""

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
    """Size of the whole lines, in bytes."""
    synced: int
    """The part of them that is surely on the disk, in bytes."""

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
        """Write after the last whole line, all or nothing.

        Raises OSError if that fails; a partial write is undone, now or before the next write.
        """
        if self._torn:
            os.ftruncate(self._descriptor, self.size)
            self._torn = False
        at = self.size
        rest = memoryview(lines)
        try:
            while rest:
                # At a known offset, so that no other program's bytes get between lines.
                written = os.pwrite(self._descriptor, rest, at)
                at += written
                rest = rest[written:]
        except OSError:
            self.truncate(self.size)
            raise
        self.size = at

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes. Raises OSError; then the next write begins with the cut."""
        self.size = size
        self.synced = min(self.synced, size)
        self._torn = True
        os.ftruncate(self._descriptor, size)
        self._torn = False

    def sync(self) -> None:
        """Wait until all is on the disk.

        Raises OSError if that fails, or if another program removed, cut or extended the file. The disk may
        hold anything then: write no more to this file.
        """
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0 or status.st_size != self.size:
            change = "removed" if status.st_nlink == 0 else "changed"
            raise OSError(errno.ESTALE, f"was {change} by another program", str(self.path))
        os.fdatasync(self._descriptor)
        self.synced = self.size

    def close(self) -> None:
        """Close it; its content stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
