"""The brake page: one byte that makes every check on the host deny, and the call for acknowledgements.

It is a preallocated file, mapped by every process, so that engaging it needs no disk space, no commit
and no message. Byte 0 has a bit for each holder: the writer after a failed commit, until a write is durable
again; and a person, until that person releases it. Checks deny while any bit is set. Changes are refused only
after a failed commit, so that sessions can be ended while a person holds the brake.

Near its end the page has the caller for acknowledgements, a random number of each writer, and the revision of
the latest change that verifiers are to acknowledge (docs/receipts.md). Registered verifiers poll these two
numbers. After them comes the number of times that a person set or cleared the brake.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

from ..._fast.nonces.shared_file import share
from ...errors import StateUnusable
from .. import layout

PAGE_BYTES = 4096
_FAILED = 1
_BY_HAND = 2
# Offsets of the reasons: each a text that ends with a zero byte.
_REASON_AT = {_FAILED: 8, _BY_HAND: 2048}
_REASON_BYTES = 2000
_CALL = struct.Struct("=QQ")
_CALL_AT = 4056
# The number of times that a person set or cleared it shows changes that came and went between two polls.
_HAND = struct.Struct("=Q")
_HAND_AT = 4072


@dataclass(frozen=True, slots=True)
class ManualBrake:
    """A person's hold on the brake: the number of changes, whether it is engaged, and the last reason."""

    count: int
    engaged: bool
    reason: str


def create(path: Path) -> None:
    """Write a released brake page, durably, if there is none."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        share(descriptor, path.parent, layout.DATA_MODE)
        if os.fstat(descriptor).st_size == 0:
            os.write(descriptor, bytes(PAGE_BYTES))
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_brake_is_there(path: Path) -> None:
    """Raise StateUnusable MISSING if the page is gone, and with it the knowledge whether it was engaged."""
    if not path.exists():
        message = (
            f"{path} is missing, and with it whether the brake was set; make it anew with 'sessauth state "
            "brake --set', and release it with --clear once you know that nothing may be wrong"
        )
        raise StateUnusable(message, "MISSING")


def reader_page(path: Path) -> mmap.mmap:
    """Map the page for checks.

    The mapping is private: it shows the writer's writes until this process writes to it, as a forked child
    does (``lmdb/environment.py``), whose copy then stays engaged for good.
    """
    return _map(path, os.O_RDONLY, mmap.ACCESS_COPY)


def reason_of(page: mmap.mmap) -> str | None:
    """Return the reason for which a page is engaged; None if it is not."""
    if not page[0]:
        return None
    return "; ".join(_reason(page, bit) for bit in _REASON_AT if page[0] & bit)


def by_hand_of(page: mmap.mmap) -> ManualBrake:
    """Return a person's hold on a page."""
    (count,) = _HAND.unpack_from(page, _HAND_AT)
    return ManualBrake(count, bool(page[0] & _BY_HAND), _reason(page, _BY_HAND))


def _reason(page: mmap.mmap, bit: int) -> str:
    at = _REASON_AT[bit]
    return page[at : at + _REASON_BYTES].split(b"\0", 1)[0].decode(errors="replace")


def called_for(page: mmap.mmap) -> tuple[int, int]:
    """Return the caller for acknowledgements and the revision; zeros if there was no call yet."""
    caller, revision = _CALL.unpack_from(page, _CALL_AT)
    return caller, revision


class Brake:
    """A writable mapping of the page, which engages and releases it."""

    def __init__(self, path: Path) -> None:
        """Map the page; raises StateUnusable if it is missing or has another size."""
        self._page = _map(path, os.O_RDWR, mmap.ACCESS_WRITE)
        # Several threads may call at once; the revision never goes back.
        self._calling = threading.Lock()

    @property
    def engaged(self) -> bool:
        """True if every check denies."""
        return self._page[0] != 0

    @property
    def failed(self) -> bool:
        """True if a commit failed and no write has been durable since."""
        return bool(self._page[0] & _FAILED)

    @property
    def reason(self) -> str:
        """The reason for which it is engaged; empty if it is not."""
        return reason_of(self._page) or ""

    @property
    def by_hand(self) -> ManualBrake:
        """A person's hold on it."""
        return by_hand_of(self._page)

    def engage(self, reason: str, *, by_hand: bool = False) -> None:
        """Make every check deny from now on. Never fails: the page is there already."""
        bit = _BY_HAND if by_hand else _FAILED
        text, at = reason.encode()[: _REASON_BYTES - 1] + b"\0", _REASON_AT[bit]
        self._page[at : at + len(text)] = text
        self._page[0] |= bit
        if by_hand:
            self._count()
        self._flush()

    def release(self, *, by_hand: bool = False) -> None:
        """Release one of the two holds; checks can allow again once neither is left."""
        bit = _BY_HAND if by_hand else _FAILED
        if by_hand and self._page[0] & bit:
            self._count()
        self._page[0] &= ~bit & 0xFF
        self._flush()

    def call_anew(self, caller: int) -> None:
        """Announce a new caller, which knows of no acknowledgement made before."""
        with self._calling:
            _CALL.pack_into(self._page, _CALL_AT, caller, called_for(self._page)[1])

    def call_for(self, revision: int) -> None:
        """Have verifiers acknowledge this revision, unless a later one is called for."""
        with self._calling:
            caller, before = called_for(self._page)
            if revision > before:
                _CALL.pack_into(self._page, _CALL_AT, caller, revision)

    def close(self) -> None:
        """Unmap the page."""
        self._page.close()

    def _count(self) -> None:
        (count,) = _HAND.unpack_from(self._page, _HAND_AT)
        _HAND.pack_into(self._page, _HAND_AT, (count + 1) & 0xFFFFFFFFFFFFFFFF)

    def _flush(self) -> None:
        # Processes share the page through memory. Durability is optional: the brake is for failing disks.
        try:
            self._page.flush()
        except OSError:
            return


def _map(path: Path, flags: int, access: int) -> mmap.mmap:
    check_brake_is_there(path)
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        message = f"{path} can't be opened ({error.strerror}); give this user access to it"
        raise StateUnusable(message, "WRONG_MODE") from error
    try:
        if os.fstat(descriptor).st_size != PAGE_BYTES:
            message = (
                f"{path} is not a brake page of {PAGE_BYTES} bytes; restore the state folder from a backup"
            )
            raise StateUnusable(message, "CORRUPT")
        return mmap.mmap(descriptor, PAGE_BYTES, access=access)
    finally:
        os.close(descriptor)
