"""The brake page: one byte that makes every check on the host deny.

It is a preallocated file, mapped by every process, so that engaging it needs no disk space, no commit
and no message. Only the writer engages and releases it.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from ..errors import StateUnusable
from . import layout

PAGE_BYTES = 4096
_REASON_AT = 8


def create(path: Path) -> None:
    """Write a released brake page, durably, if there is none."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, layout.DATA_MODE)
    try:
        os.fchmod(descriptor, layout.DATA_MODE)
        if os.fstat(descriptor).st_size == 0:
            os.write(descriptor, bytes(PAGE_BYTES))
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reader_page(path: Path) -> mmap.mmap:
    """Map the page for checks.

    The mapping is private: it shows what the writer writes, until this process writes to it itself,
    as a forked child does (``lmdb_env``), whose copy then stays engaged for good.
    """
    return _map(path, os.O_RDONLY, mmap.ACCESS_COPY)


class Brake:
    """The writer's hold on the page."""

    def __init__(self, path: Path) -> None:
        """Map the page; raises StateUnusable if it is missing or has another size."""
        self._page = _map(path, os.O_RDWR, mmap.ACCESS_WRITE)

    @property
    def engaged(self) -> bool:
        """Whether every check denies."""
        return self._page[0] != 0

    @property
    def reason(self) -> str:
        """Why it was engaged; empty if it is not."""
        text = self._page[_REASON_AT:].split(b"\0", 1)[0]
        return text.decode(errors="replace") if self.engaged else ""

    def engage(self, reason: str) -> None:
        """Make every check deny from now on. Never fails: the page is there already."""
        text = reason.encode()[: PAGE_BYTES - _REASON_AT - 1]
        self._page[_REASON_AT : _REASON_AT + len(text) + 1] = text + b"\0"
        self._page[0] = 1
        self._flush()

    def release(self) -> None:
        """Let checks decide again."""
        self._page[0] = 0
        self._flush()

    def close(self) -> None:
        """Unmap the page."""
        self._page.close()

    def _flush(self) -> None:
        # The page is shared through memory at once. That it also survives the machine is welcome, but a
        # sick disk is the very case the brake is for.
        try:
            self._page.flush()
        except OSError:
            return


def _map(path: Path, flags: int, access: int) -> mmap.mmap:
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        message = f"{path} can't be opened ({error.strerror}); restore the state folder from a backup"
        raise StateUnusable(message, "MISSING") from error
    try:
        if os.fstat(descriptor).st_size != PAGE_BYTES:
            message = (
                f"{path} is not a brake page of {PAGE_BYTES} bytes; restore the state folder from a backup"
            )
            raise StateUnusable(message, "CORRUPT")
        return mmap.mmap(descriptor, PAGE_BYTES, access=access)
    finally:
        os.close(descriptor)
