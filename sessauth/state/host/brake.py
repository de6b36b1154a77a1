"""The brake page: one byte that makes every check on the host deny, and the call for acknowledgements.

It is a preallocated file, mapped by every process, so that engaging it needs no disk space, no commit and no
message. Byte 0 has a bit for each holder: the writer after a failed commit, until a write is durable again; a
person, until that person releases it; and the cluster, by a row of its log. Checks deny while any bit is set.
Holders are in several processes, so each changes its bit in one step (``_fast/base/text``).

After a failed commit all changes are refused. While a person or the cluster holds the brake, which is called
frozen, only changes that would give authority are refused: sessions can be ended, and leases renewed.

Byte 1 is set while a cluster's host has an alarm, whose text is in the page too. Checks don't read it: while
it is set, also after a restart, the host's process states no freshness bound.

Near its end the page has the caller for acknowledgements, a random number of each writer, and the revision of
the latest change that verifiers are to acknowledge (docs/receipts.md). Registered verifiers poll these two
numbers. After them comes the number of times that a person set or cleared the brake.

A folder that a follower feeds also has a freshness bound there: the time of the steady clock until which it
is known to be current, and the identity of that clock. The kernel denies STALE_STATE from then on, in every
process (``_fast/check/decision.pyx``). 0: no bound. See docs/decisions.md, 23.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

from ..._fast import _check as kernel
from ..._fast._check import FreshnessBound
from ..._fast.base.boot import clock_id
from ..._fast.nonces.shared_file import share
from ...errors import StateError, StateUnusable
from .. import layout

PAGE_BYTES = 4096
_FAILED = 1
_BY_HAND = 2
_CLUSTER = 4
# Offsets of the reasons: each a text that ends with a zero byte.
_REASON_AT = {_FAILED: 8, _BY_HAND: 2048, _CLUSTER: 1024}
_REASON_BYTES = 1000
_ALARM_FLAG = 1
_ALARM_AT = 3048
_CALL = struct.Struct("=QQ")
_CALL_AT = 4056
# The number of times that a person set or cleared it shows changes that came and went between two polls.
_HAND = struct.Struct("=Q")
_HAND_AT = 4072
# Steady ms. A multiple of 8, for one store and one load.
_FRESH_UNTIL_AT = 4048
_CLOCK = slice(4080, 4096)
# A time of every steady clock that is past. 0 would be no bound.
_PAST = 1


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
    """Raise StateUnusable MISSING if the page is gone, and with it the knowledge whether it was engaged.

    WRONG_MODE if this user can't know.
    """
    try:
        path.stat()
    except PermissionError as error:
        message = f"{path} can't be reached; run it as the service's user, or give this user access to it"
        raise StateUnusable(message, "WRONG_MODE") from error
    except OSError as error:
        message = (
            f"{path} is missing, and with it whether the brake was set; create it again, set, with 'sessauth "
            "freeze --this-host', and release it with 'sessauth thaw --this-host' once you know that nothing "
            "is wrong"
        )
        raise StateUnusable(message, "MISSING") from error


def reader_page(path: Path) -> mmap.mmap:
    """Map the page for checks.

    The mapping is private: it shows the writer's writes until this process writes to it, as a forked child
    does (``lmdb/environment.py``), whose copy then stays engaged for good.
    """
    return _map(path, os.O_RDONLY, mmap.ACCESS_COPY)


def reason_of(page: mmap.mmap) -> str | None:
    """Return the reason for which a page is engaged; None if it is not."""
    return _reasons(page, 0xFF) if page[0] else None


def _reasons(page: mmap.mmap, bits: int) -> str:
    return "; ".join(_reason(page, bit) for bit in _REASON_AT if page[0] & bits & bit)


def failed_of(page: mmap.mmap) -> bool:
    """Return True if a failed write holds a page."""
    return bool(page[0] & _FAILED)


def by_hand_of(page: mmap.mmap) -> ManualBrake:
    """Return a person's hold on a page."""
    (count,) = _HAND.unpack_from(page, _HAND_AT)
    return ManualBrake(count, bool(page[0] & _BY_HAND), _reason(page, _BY_HAND))


def cluster_reason_of(page: mmap.mmap) -> str:
    """Return the reason of the cluster's brake; empty if it does not hold a page."""
    return _reason(page, _CLUSTER) if page[0] & _CLUSTER else ""


def alarm_of(page: mmap.mmap) -> str:
    """Return the text of the current alarm; empty if there is none."""
    return (_text(page, _ALARM_AT) or "UNREADABLE") if page[_ALARM_FLAG] else ""


def _reason(page: mmap.mmap, bit: int) -> str:
    return _text(page, _REASON_AT[bit])


def _text(page: mmap.mmap, at: int) -> str:
    return page[at : at + _REASON_BYTES].split(b"\0", 1)[0].decode(errors="replace")


def called_for(page: mmap.mmap) -> tuple[int, int]:
    """Return the caller for acknowledgements and the revision; zeros if there was no call yet."""
    caller, revision = _CALL.unpack_from(page, _CALL_AT)
    return caller, revision


def fresh_until_of(page: mmap.mmap) -> int:
    """Return the freshness bound in steady ms; 0: none."""
    with memoryview(page) as whole, whole[_FRESH_UNTIL_AT : _FRESH_UNTIL_AT + 8].cast("Q") as word:
        return word[0]


def is_stale(page: mmap.mmap) -> bool:
    """Return True if there is a freshness bound and it has passed."""
    return FreshnessBound(page).passed


class Brake:
    """A writable mapping of the page, which engages and releases it, and states the freshness bound."""

    def __init__(self, path: Path) -> None:
        """Map the page; raises StateUnusable if it is missing or has another size."""
        self._page = _map(path, os.O_RDWR, mmap.ACCESS_WRITE)
        # Several threads may call at once; the revision never goes back.
        self._calling = threading.Lock()
        self._stating = threading.Lock()
        # CPython sets an item of a "Q" view by a memcpy of 8 bytes, which is one store. At a multiple of 8 no
        # reader sees half of it. struct's formats of a standard size, as "<Q", may store byte by byte.
        self._fresh_until = memoryview(self._page)[_FRESH_UNTIL_AT : _FRESH_UNTIL_AT + 8].cast("Q")
        self._bound_is_durable = False

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
    def frozen(self) -> str:
        """The reasons of the holds that a person took, on this host or for its cluster; empty without one."""
        return _reasons(self._page, _BY_HAND | _CLUSTER)

    @property
    def by_hand(self) -> ManualBrake:
        """A person's hold on it."""
        return by_hand_of(self._page)

    def engage(self, reason: str, *, by_hand: bool = False) -> None:
        """Make every check deny from now on. Never fails: the page is there already."""
        bit = _BY_HAND if by_hand else _FAILED
        self._write(reason, _REASON_AT[bit])
        self._set(bit)
        if by_hand:
            self._count()
        self._flush()

    def release(self, *, by_hand: bool = False) -> None:
        """Release one of the two holds; checks can allow again once neither is left."""
        bit = _BY_HAND if by_hand else _FAILED
        if by_hand and self._page[0] & bit:
            self._count()
        self._clear(bit)
        self._flush()

    def set_for_cluster(self, reason: str | None) -> None:
        """Engage or (None) release the hold of the cluster, which no person and no writer has."""
        if reason is None:
            self._clear(_CLUSTER)
        else:
            self._write(reason, _REASON_AT[_CLUSTER])
            self._set(_CLUSTER)
        self._flush()

    @property
    def cluster_reason(self) -> str:
        """The reason of the cluster's brake; empty if it does not hold this one."""
        return cluster_reason_of(self._page)

    @property
    def alarm(self) -> str:
        """The text of the current alarm; empty if there is none."""
        return alarm_of(self._page)

    def raise_alarm(self, text: str) -> None:
        """Store an alarm, which outlives this process. Never fails: the page is there already."""
        self._write(text, _ALARM_AT)
        self._page[_ALARM_FLAG] = 1
        self._flush()

    def clear_alarm(self) -> None:
        """Remove the alarm. Every check denies until a proof of freshness is made."""
        if self._page[_ALARM_FLAG]:
            self.deny_now()
            self._page[_ALARM_FLAG] = 0
            self._flush()

    def call_anew(self, caller: int) -> None:
        """Announce a new caller, which knows of no earlier acknowledgement."""
        with self._calling:
            _CALL.pack_into(self._page, _CALL_AT, caller, called_for(self._page)[1])

    def call_for(self, revision: int) -> None:
        """Have verifiers acknowledge this revision, unless a later one is called for."""
        with self._calling:
            caller, before = called_for(self._page)
            if revision > before:
                _CALL.pack_into(self._page, _CALL_AT, caller, revision)

    def fresh_until(self, steady_ms: int) -> None:
        """State that the folder is current until this time of the steady clock, in ms.

        For the folder's follower alone. The bound never goes back, except by :meth:`deny_now`. Checks deny
        while it is more than 60 s ahead. Raises StateError, and every check denies, if the page can't be made
        durable before the first bound of this process.
        """
        with self._stating:
            if self._page[_CLOCK] != clock_id() or not self._fresh_until[0]:
                self._expire()
            if not self._bound_is_durable:
                # A page without a bound that a loss of power brings back would let checks allow again.
                try:
                    self._page.flush()
                except OSError as error:
                    self._expire()
                    raise StateError(f"the brake page can't be written: {error.strerror}") from error
                self._bound_is_durable = True
            if steady_ms > self._fresh_until[0]:
                self._fresh_until[0] = steady_ms

    @property
    def stale(self) -> bool:
        """True if there is a freshness bound and it has passed."""
        return is_stale(self._page)

    def deny_now(self) -> None:
        """Make every check deny STALE_STATE until :meth:`fresh_until` is called again. Never fails.

        A follower calls this when it starts, and when it finds that its folder is not its server's.
        """
        with self._stating:
            self._expire()
            self._flush()

    def remove_bound(self) -> None:
        """State no bound: no follower serves this folder any more, and its writer is its own."""
        with self._stating:
            self._fresh_until[0] = 0
            self._flush()

    def _expire(self) -> None:
        # Another clock's time would mean another moment: it goes before that clock's identity does.
        self._fresh_until[0] = _PAST
        self._page[_CLOCK] = clock_id()

    def close(self) -> None:
        """Unmap the page."""
        self._fresh_until.release()
        self._page.close()

    def _write(self, text: str, at: int) -> None:
        data = text.encode()[: _REASON_BYTES - 1] + b"\0"
        self._page[at : at + len(data)] = data

    def _set(self, bit: int) -> None:
        kernel.set_bits(self._page, bit)

    def _clear(self, bit: int) -> None:
        kernel.clear_bits(self._page, bit)

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
        # A pipe in its place must not block; its size is 0.
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
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
