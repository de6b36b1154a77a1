"""Numbers of pages in the data file: each page that a table leads to must be the right one for its place.

LMDB never changes a page in place: a change writes a copy elsewhere. The earlier page is free from then on,
with its old rows. If a disk returns such a page instead of the current one, its rows are well formed, and an
ended session is active in them. Each page states its number, but LMDB doesn't compare it. This module does.
It reads LMDB's format 1 itself, since LMDB's own calls end the process at some damages.

A read transaction is open meanwhile, so that no writer reuses a page of its snapshot. The check does not find
a wrong page that states the right number, or a wrong page after the first of a long value: those have no
number.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from ...errors import StateUnusable
from .. import layout

# The tables that a check reads.
CHECKED: Final = (
    layout.SESSIONS, layout.LEASES, layout.REVOKED, layout.KEYS, layout.META, layout.TALLIES,
)  # fmt: skip
# LMDB's own table of free pages.
FREE: Final = ""

# A page begins with its number, its kind, the end of the offsets of its nodes, and the begin of its nodes.
# The first page of a long value has the number of its pages in place of the last two.
_PAGE: Final = struct.Struct("=Q 2x H H H")
_VALUE: Final = struct.Struct("=Q 2x H I")
_PAGE_BYTES: Final = _PAGE.size
_BRANCH, _LEAF, _LONG_VALUE = 1, 2, 4
# Without the flags of pages in memory.
_KINDS: Final = 0x6F
# A node begins with four words: of a leaf the value's length in two, flags, and the key's length; of a branch
# the child's number in three.
_NODE: Final = struct.Struct("=H H H H")
_HAS_LONG_VALUE, _IS_TABLE = 1, 2
_NUMBER: Final = struct.Struct("=Q")
# A table's record: its depth, the pages of its long values, and its root.
_TABLE: Final = struct.Struct("=6x H 16x Q 8x Q")
_NO_ROOT: Final = (1 << 64) - 1
_MAX_DEPTH: Final = 32
# A meta page, after what lmdb/environment.py reads: the records of two tables, the last page, the
# transaction's id.
_META: Final = struct.Struct("=40x 48s 48s Q Q")
# Each fails only if a whole commit falls between two reads of a few bytes.
_ATTEMPTS: Final = 1_000


class _Meta(NamedTuple):
    free: bytes
    main: bytes
    last_page: int
    txn_id: int


def verify_pages(
    env: lmdb.Environment, begin: Callable[[], lmdb.Transaction], names: tuple[str, ...] | None = None
) -> None:
    """Verify the pages of the named tables, by default of all, in the snapshot of a transaction of ``begin``.

    Raises StateUnusable: CORRUPT at the first wrong one, NO_MEMORY if this process may not map the file
    again, MISSING if it is gone.
    """
    data_file = Path(env.path()) / layout.DATA_FILE
    page_size = int(env.stat()["psize"])
    try:
        # LMDB holds no lock on this file, so closing a descriptor of it releases none.
        descriptor = os.open(data_file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for _ in range(_ATTEMPTS):
                if _verify_snapshot(data_file, descriptor, page_size, begin(), names):
                    return
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise StateUnusable(f"{data_file} was removed: {error}", "MISSING") from error
    except OSError as error:
        advice = "raise the limit of this process (ulimit -v, ulimit -n)"
        raise StateUnusable(f"{data_file}: {error}; {advice}", "NO_MEMORY") from error
    raise _corrupt(data_file, "its last commit is not the one that was read")


def _verify_snapshot(
    data_file: Path,
    descriptor: int,
    page_size: int,
    txn: lmdb.Transaction,
    names: tuple[str, ...] | None,
) -> bool:
    """Verify the snapshot of a transaction, and end that; return False if its meta page is overwritten."""
    try:
        meta = _read_meta(descriptor, page_size, txn.id())
        if meta is None:
            return False
        used = min((meta.last_page + 1) * page_size, os.fstat(descriptor).st_size)
        with mmap.mmap(descriptor, used, mmap.MAP_SHARED, mmap.PROT_READ) as data:
            _TableWalk(data_file, data, page_size, meta.last_page).verify(meta, names)
        return True
    finally:
        txn.abort()


def _read_meta(descriptor: int, page_size: int, txn_id: int) -> _Meta | None:
    """Return the meta page of a transaction; None if the next commit but one overwrote it.

    Two equal reads: a commit may have been amid writing it at the first one.
    """
    first, second = (os.pread(descriptor, _META.size, (txn_id & 1) * page_size) for _ in range(2))
    if first != second or len(first) < _META.size:
        return None
    meta = _Meta._make(_META.unpack(first))
    return meta if meta.txn_id == txn_id else None


def _corrupt(data_file: Path, text: str) -> StateUnusable:
    return StateUnusable(f"{data_file}: {text}; restore it from a backup", "CORRUPT")


@cache
def _offsets(count: int) -> struct.Struct:
    return struct.Struct(f"={count}H")


class _TableWalk:
    """One walk through the tables of a snapshot."""

    def __init__(self, data_file: Path, data: mmap.mmap, page_size: int, last_page: int) -> None:
        self._data_file = data_file
        self._data = data
        self._page_size = page_size
        self._last_page = last_page
        self._unread = last_page + 1

    def verify(self, meta: _Meta, names: tuple[str, ...] | None) -> None:
        if names is None or FREE in names:
            self._verify_table(meta.free)
        for at, offsets in self._leaves(meta.main):
            for node in (at + offset for offset in offsets):
                _, _, flags, key_bytes = _NODE.unpack_from(self._data, node)
                key_at = node + _NODE.size
                record_at = key_at + key_bytes
                if not flags & _IS_TABLE or record_at + _TABLE.size > at + self._page_size:
                    raise self._wrong(at // self._page_size)
                if names is None or self._data[key_at:record_at].decode(errors="replace") in names:
                    self._verify_table(self._data[record_at : record_at + _TABLE.size])

    def _verify_table(self, record: bytes) -> None:
        for _ in self._leaves(record):
            pass

    def _leaves(self, record: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield each leaf's place and the offsets of its nodes, once it and those above are verified."""
        depth, long_value_pages, root = _TABLE.unpack(record)
        if root == _NO_ROOT:
            return
        if not 1 <= depth <= _MAX_DEPTH:
            raise self._wrong(root)
        data, page_size = self._data, self._page_size
        left = [(root, depth)]
        while left:
            number, height = left.pop()
            at = self._place(number)
            stated, kind, lower, upper = _PAGE.unpack_from(data, at)
            wanted = _LEAF if height == 1 else _BRANCH
            if stated != number or kind & _KINDS != wanted or not _PAGE_BYTES <= lower <= upper <= page_size:
                raise self._wrong(number)
            offsets = _offsets((lower - _PAGE_BYTES) // 2).unpack_from(data, at + _PAGE_BYTES)
            if offsets and not upper <= min(offsets) <= max(offsets) <= page_size - _NODE.size:
                raise self._wrong(number)
            if height > 1:
                if not offsets:
                    raise self._wrong(number)
                for offset in offsets:
                    low, middle, high, _ = _NODE.unpack_from(data, at + offset)
                    left.append((low | middle << 16 | high << 32, height - 1))
                continue
            if long_value_pages:
                for offset in offsets:
                    if data[at + offset + 4] & _HAS_LONG_VALUE:
                        self._verify_long_value(number, at + offset)
            yield at, offsets

    def _verify_long_value(self, leaf: int, node: int) -> None:
        low, high, _, key_bytes = _NODE.unpack_from(self._data, node)
        number_at = node + _NODE.size + key_bytes
        if number_at + _NUMBER.size > (leaf + 1) * self._page_size:
            raise self._wrong(leaf)
        (number,) = _NUMBER.unpack_from(self._data, number_at)
        stated, kind, pages = _VALUE.unpack_from(self._data, self._place(number))
        needed = -(-(_PAGE_BYTES + (low | high << 16)) // self._page_size)
        if stated != number or kind & _KINDS != _LONG_VALUE or pages < needed:
            raise self._wrong(number)
        self._require_pages(number, pages)

    def _place(self, number: int) -> int:
        """Return the place of a page; raises StateUnusable if there is none.

        Also if more pages were read than there are: they lead to each other in a circle.
        """
        self._unread -= 1
        if self._unread < 0:
            raise self._wrong(number)
        self._require_pages(number, 1)
        return number * self._page_size

    def _require_pages(self, number: int, count: int) -> None:
        end = number + count
        if end > self._last_page + 1 or end * self._page_size > len(self._data):
            raise self._wrong(number)

    def _wrong(self, number: int) -> StateUnusable:
        return _corrupt(self._data_file, f"page {number} is not the one that was written there last")
