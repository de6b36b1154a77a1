"""Tallies of revoked blocks, by which a few rows prove that a block of a session is not revoked.

A row that is not found proves nothing: the page that has it may be lost, or replaced by another page. So
where more than :data:`LIMIT` revoked blocks of a session begin with the same bytes, a row says for each next
byte how many there are, and the sum of their last 8 bytes modulo 2^64. The counts of the row without a prefix
add up to the session's ``revoked_count``, those of each further row to their entry in the row before, and the
revoked blocks below the last entry to that. The kernel reads them (``_fast/check/view.pyx``).

The rows depend on the set of revoked blocks alone, so all hosts of a cluster have the same. Each begins with
its own key: a row in another one's place is not taken for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, zip_longest
from struct import Struct
from typing import Any, Final

import lmdb

from .. import layout
from .span import ALL, MAX_KEY_BYTES, Span

# The most revoked blocks that are counted by reading them: `view.pyx` has the same.
LIMIT: Final = 16
_ENTRY: Final = Struct(">BIQ")
_SESSION: Final = 16
_SUM_BYTES: Final = 8
_SUMS: Final = 1 << 64
Tables = dict[str, Any]


def add(txn: lmdb.Transaction, tables: Tables, session_id: bytes, block_ids: Sequence[bytes]) -> None:
    """Count blocks of a session whose rows were just written. A folder without the table has none."""
    if layout.TALLIES in tables:
        _add(txn, tables, session_id, block_ids, b"")


def drop(txn: lmdb.Transaction, tables: Tables, session_id: bytes) -> None:
    """Remove the tallies of a session, whose revoked blocks are removed too."""
    if layout.TALLIES not in tables:
        return
    with txn.cursor(db=tables[layout.TALLIES]) as cursor:
        more = cursor.set_range(session_id)
        while more and bytes(cursor.key()).startswith(session_id):
            more = cursor.delete()


def build(txn: lmdb.Transaction, tables: Tables) -> None:
    """Write the tallies of all revoked blocks, over those that are there."""
    txn.drop(tables[layout.TALLIES], delete=False)
    with txn.cursor(db=tables[layout.TALLIES]) as cursor:
        cursor.putmulti(_all(txn, tables, ALL), append=True)


def verify(txn: lmdb.Transaction, tables: Tables, span: Span) -> None:
    """Compare the tallies of sessions with the revoked blocks; raises ValueError at the first wrong one."""
    if layout.TALLIES not in tables:
        return
    handle = tables[layout.TALLIES]
    stored = ((key, bytes(txn.get(key, b"", db=handle))) for key in span.keys(txn, handle))
    for wanted, found in zip_longest(_all(txn, tables, span), stored):
        if wanted != found:
            key, _ = wanted or found
            raise ValueError(f"session {key[:_SESSION].hex()} has a wrong tally of its revocations")


def _add(
    txn: lmdb.Transaction, tables: Tables, session_id: bytes, block_ids: Sequence[bytes], prefix: bytes
) -> None:
    key = session_id + prefix
    stored = txn.get(key, db=tables[layout.TALLIES])
    if stored is None:
        found = Span(key, key + b"\xff" * MAX_KEY_BYTES).keys(txn, tables[layout.REVOKED])
        inside = [found_key[_SESSION:] for found_key in found]
        if len(inside) > LIMIT:
            for made, value in _rows(session_id, inside, prefix):
                txn.put(made, value, db=tables[layout.TALLIES])
        return
    entries = {byte: (count, total) for byte, count, total in _ENTRY.iter_unpack(bytes(stored)[len(key) :])}
    parts = _by_next_byte(sorted(block_ids), len(prefix))
    for byte, part in parts.items():
        count, total = entries.get(byte, (0, 0))
        entries[byte] = count + len(part), (total + _sum(part)) % _SUMS
    txn.put(key, _value(key, entries), db=tables[layout.TALLIES])
    for byte, part in parts.items():
        if entries[byte][0] > LIMIT:
            _add(txn, tables, session_id, part, prefix + bytes((byte,)))


def _all(txn: lmdb.Transaction, tables: Tables, span: Span) -> Iterator[tuple[bytes, bytes]]:
    """Yield the tallies of all revoked blocks of sessions, ascending by key."""
    revoked = span.keys(txn, tables[layout.REVOKED])
    for session_id, keys in groupby(revoked, lambda key: key[:_SESSION]):
        block_ids = [key[_SESSION:] for key in keys]
        if len(block_ids) > LIMIT:
            yield from _rows(session_id, block_ids, b"")


def _rows(session_id: bytes, block_ids: Sequence[bytes], prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the tallies of more than ``LIMIT`` ascending blocks that begin with ``prefix``."""
    parts = _by_next_byte(block_ids, len(prefix))
    key = session_id + prefix
    yield key, _value(key, {byte: (len(part), _sum(part)) for byte, part in parts.items()})
    for byte, part in parts.items():
        if len(part) > LIMIT:
            yield from _rows(session_id, part, prefix + bytes((byte,)))


def _by_next_byte(block_ids: Iterable[bytes], at: int) -> dict[int, list[bytes]]:
    return {byte: list(part) for byte, part in groupby(block_ids, lambda block_id: block_id[at])}


def _value(key: bytes, entries: dict[int, tuple[int, int]]) -> bytes:
    return key + b"".join(_ENTRY.pack(byte, *entries[byte]) for byte in sorted(entries))


def _sum(block_ids: Iterable[bytes]) -> int:
    return sum(int.from_bytes(block_id[-_SUM_BYTES:], "big") for block_id in block_ids) % _SUMS
