"""Rows of one LMDB transaction, decoded: ``apply`` reads through them, and the log writes through them.

Tallies of revoked blocks are among them, by which a few rows prove that a block of a session is not revoked.
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
from functools import lru_cache, partial
from itertools import groupby, islice, takewhile, zip_longest
from struct import Struct
from typing import Any, Final, NamedTuple

import lmdb

from ..._fast._check import WireError, read_fields, replaced
from ..._fast.codec.schema import MESSAGES
from ...crypto.keys import KeyRecord
from ...errors import StateUnusable
from ...limits import MAX_ANCESTORS
from ...model.change import Head, SessionCounts
from ...model.session import Session, ceiling_layers, lineage
from ...scopes.scope import Scope
from .. import layout
from ..rules.effects import CostRows, Delete, DeletePrefix, Put, SessionSource, corrupt, current_session

_ID_BYTES = 16
_NO_COUNTS: Final = SessionCounts()
# Most reads find the head of the read before.
_decode_head = lru_cache(maxsize=8)(Head.decode)


def field_number(message: str, name: str) -> int:
    """Return the number of a record's field, for ``protobuf.number``, which decodes that field alone."""
    return int(next(number for number, field, *_ in MESSAGES[message] if field == name))


# Ascending.
_LEASE: Final = tuple(field_number("SessionRecord", name) for name in ("parent_id", "lease_ms"))


def stored_ceilings(source: SessionSource, session_id: bytes) -> list[list[Scope]]:
    """Return the layers of a session's ceiling and then its ancestors', as a check counts them."""
    sessions = {session.id: session for session in stored_lineage(source, session_id)}
    return list(ceiling_layers(session_id, sessions.get))


def stored_lineage(source: SessionSource, session_id: bytes) -> list[Session]:
    """Return a session and its ancestors, the parent first; none if there is no such session."""
    txn = source.begin()

    def read(ancestor_id: bytes) -> Session | None:
        data = txn.get(ancestor_id, None, source.sessions)
        return None if data is None else Session.decode(data)

    try:
        return list(lineage(read(session_id), read))
    finally:
        txn.abort()


class TxnRows(CostRows):
    """Rows of one transaction.

    Within a group, ``before`` is the head that it began with, and ``current`` the head so far, which is
    written once at the end.
    """

    def __init__(self, txn: lmdb.Transaction, tables: dict[str, Any]) -> None:
        """Read the head."""
        self.txn = txn
        self.tables = tables
        self.before = self.current = self._read_head()
        self._last_session: tuple[bytes, int, Session | None] = (b"", 0, None)

    def _read_head(self) -> Head:
        data = self.get(layout.META, layout.HEAD_KEY)
        if data is None:
            raise StateUnusable("the state has no head: it was never initialised; run init", "EMPTY")
        try:
            return _decode_head(data)
        except (WireError, TypeError) as error:
            raise corrupt("the head", error) from error

    def head(self) -> Head:
        """Return the head of the log after this transaction's changes."""
        return self.current

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value. A table that the folder lacks has no rows."""
        if table not in self.tables:
            return None
        value = self.txn.get(key, db=self.tables[table])
        return None if value is None else bytes(value)

    def session(self, session_id: bytes) -> Session | None:
        """Return a session, without its lease deadline."""
        return self._session(session_id, 0)

    def leased_session(self, session_id: bytes) -> Session | None:
        """Return a session with its lease deadline."""
        return self._session(session_id, int.from_bytes(self.get(layout.LEASES, session_id) or b"", "big"))

    def _session(self, session_id: bytes, lease_deadline_ms: int) -> Session | None:
        decode = partial(self._decode_session, lease_deadline_ms=lease_deadline_ms)
        session = self.decoded(layout.SESSIONS, session_id, decode, "session %s", session_id)
        return None if session is None else current_session(self, session)

    def _decode_session(self, row: bytes, lease_deadline_ms: int) -> Session:
        """Decode a row, or return the session of the last one if it was the same: a change reads it twice."""
        known, known_deadline_ms, session = self._last_session
        if session is None or known != row or known_deadline_ms != lease_deadline_ms:
            session = Session.decode(row, lease_deadline_ms)
            self._last_session = row, lease_deadline_ms, session
        return session

    def has_lease(self, session_id: bytes) -> bool:
        """Return True if a session or an ancestor of it has a lease; decodes no row as a whole."""
        for _ in range(MAX_ANCESTORS + 1):
            row = self.get(layout.SESSIONS, session_id) if session_id else None
            if row is None:
                return False
            try:
                parent_id, lease_ms = read_fields(row, _LEASE)
            except WireError as error:
                raise corrupt(f"session {session_id.hex()}", error) from error
            if lease_ms:
                return True
            session_id = parent_id or b""
        return False

    def session_ids(self) -> Iterator[bytes]:
        """Yield the ids of all sessions, ascending."""
        with self.txn.cursor(db=self.tables[layout.SESSIONS]) as cursor:
            for key in cursor.iternext(keys=True, values=False):
                yield bytes(key)

    def ids_after(self, after: bytes, limit: int) -> list[bytes]:
        """Return up to ``limit`` session ids after ``after``, ascending."""
        return self.keys_after(layout.SESSIONS, after, limit)

    def with_open(self, session: Session) -> Session:
        """Return a session with its numbers of open permits and approvals."""
        counts = self.counts(session.id)
        if counts == _NO_COUNTS:
            return session
        return replaced(
            session, open_permits=counts.open_permits, open_approvals=counts.waiting(session.epoch)
        )

    def keys_after(self, table: str, after: bytes, limit: int, prefix: bytes = b"") -> list[bytes]:
        """Return up to ``limit`` keys after ``after`` that begin with ``prefix``, ascending."""
        if table not in self.tables:
            return []
        with self.txn.cursor(db=self.tables[table]) as cursor:
            if not cursor.set_range(max(after + b"\0" if after else b"\0", prefix)):
                return []
            keys = map(bytes, cursor.iternext(keys=True, values=False))
            return list(islice(takewhile(lambda key: key.startswith(prefix), keys), limit))

    def is_revoked(self, session_id: bytes, block_id: bytes) -> bool:
        """Return True if a block of a session is revoked."""
        return self.get(layout.REVOKED, session_id + block_id) is not None

    def key(self, key_id: bytes) -> KeyRecord | None:
        """Return an issuer key."""
        return self.decoded(layout.KEYS, key_id, KeyRecord.decode, "issuer key %s", key_id)

    def key_ids(self) -> list[bytes]:
        """Return the ids of all issuer keys, ascending."""
        with self.txn.cursor(db=self.tables[layout.KEYS]) as cursor:
            return [bytes(key) for key in cursor.iternext(keys=True, values=False)]

    def key_values(self) -> list[bytes]:
        """Return the encoded issuer keys, by id."""
        with self.txn.cursor(db=self.tables[layout.KEYS]) as cursor:
            return [bytes(value) for value in cursor.iternext(keys=False, values=True)]

    def key_count(self) -> int:
        """Return the number of issuer keys."""
        return int(self.txn.stat(self.tables[layout.KEYS])["entries"])

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Write a row."""
        self.txn.put(key, value, db=self.tables[table])

    def fill(self, table: str, rows: Iterable[Any]) -> None:
        """Write ascending rows into an empty table."""
        with self.txn.cursor(db=self.tables[table]) as cursor:
            cursor.putmulti(rows, append=True)

    def delete(self, table: str, key: bytes) -> None:
        """Remove a row, if it is there."""
        self.txn.delete(key, db=self.tables[table])

    def perform(self, writes: tuple[Put | Delete | DeletePrefix, ...]) -> None:
        """Write the effects of a change, and the tallies of the blocks that it revokes."""
        revoked: dict[bytes, list[bytes]] = {}
        for write in writes:
            if isinstance(write, Put):
                self.put(write.table, write.key, write.value)
                if write.table == layout.REVOKED:
                    revoked.setdefault(write.key[:_ID_BYTES], []).append(write.key[_ID_BYTES:])
            elif isinstance(write, Delete):
                self.delete(write.table, write.key)
            else:
                self._delete_prefix(write.table, write.prefix)
                if write.table == layout.REVOKED:
                    drop(self.txn, self.tables, write.prefix)
        for session_id, block_ids in revoked.items():
            add(self.txn, self.tables, session_id, block_ids)

    def _delete_prefix(self, table: str, prefix: bytes) -> None:
        with self.txn.cursor(db=self.tables[table]) as cursor:
            more = cursor.set_range(prefix)
            while more and bytes(cursor.key()).startswith(prefix):
                # Past the last row the key is empty, so it does not begin with the prefix.
                more = cursor.delete()

    def write_head(self) -> None:
        """Write the head, once at the end of a group."""
        self.put(layout.META, layout.HEAD_KEY, self.current.encode())

    def compacted(self) -> tuple[int, bytes]:
        """Return seq and digest of the last change that the log no longer has; zeros if it has all."""
        data = self.get(layout.META, layout.COMPACTED_KEY) or bytes(40)
        return int.from_bytes(data[:8], "big"), data[8:]

    def put_compacted(self, seq: int, digest: bytes) -> None:
        """Write the seq and digest that :meth:`compacted` returns."""
        self.put(layout.META, layout.COMPACTED_KEY, seq.to_bytes(8, "big") + digest)

    def used_bytes(self, page_bytes: int) -> int:
        """Return the bytes of the map that hold rows, counted by the pages of all tables."""
        return sum(map(self.pages, self.tables)) * page_bytes

    def pages(self, table: str) -> int:
        """Return the number of pages of a table."""
        stat = self.txn.stat(self.tables[table])
        return int(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])


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


# The most that follows a session id in a key.
MAX_KEY_BYTES: Final = 64
END: Final = b"\xff" * (16 + MAX_KEY_BYTES)


class Span(NamedTuple):
    """The keys after ``after`` (empty: from the first one on), up to ``until``."""

    after: bytes
    until: bytes

    def keys(self, txn: lmdb.Transaction, handle: Any) -> Iterator[bytes]:
        """Yield a table's keys in the range, ascending."""
        return (key for key, _ in self.items(txn, handle))

    def items(self, txn: lmdb.Transaction, handle: Any) -> Iterator[tuple[bytes, bytes]]:
        """Yield a table's keys in the range, ascending, with their values."""
        with txn.cursor(db=handle) as cursor:
            more = cursor.set_range(self.after + b"\0") if self.after else cursor.first()
            while more:
                key = bytes(cursor.key())
                if key > self.until:
                    return
                yield key, bytes(cursor.value())
                more = cursor.next()


ALL: Final = Span(b"", END)
