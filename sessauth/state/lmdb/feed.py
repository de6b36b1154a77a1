"""The feed: the changes of a local log in order, for followers, events, audit and replay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ...errors import Rejected, StateUnusable
from ...model.change import Change, ChangeResult, Head, Rejection, SessionTrace
from ...model.session import ancestor_ids
from .. import layout
from .environment import LmdbSource
from .rows import TxnRows

_MOST = 1_000


class ChangeOwner(NamedTuple):
    """The owner of a session, which never changes; ``ancestor_ids`` are nearest first.

    Subject and purpose of a purged session are empty.
    """

    subject: str
    purpose: str
    owner: str
    ancestor_ids: tuple[bytes, ...]


NO_OWNER: Final = ChangeOwner("", "", "", ())


class LogEntry(NamedTuple):
    """One change of the log and its result.

    ``change`` is decoded only if it changed the state of a session, or of all (a new incarnation); else it is
    None. ``result`` is None for a change that was logged before the folder stored results. ``owner`` is the
    session's, None if nothing is known of it any more.
    """

    seq: int
    encoded: bytes
    result: ChangeResult | None
    change: Change | None = None
    owner: ChangeOwner | None = NO_OWNER


class ChangeLog:
    """Reads the log through a source, one consistent read a call."""

    def __init__(self, source: LmdbSource) -> None:
        """Use the reader's or the writer's source."""
        self._source = source

    def head(self) -> Head:
        """Return the head of the log: the position of a snapshot."""
        with self._source.rows() as rows:
            return rows.head()

    def compacted_seq(self) -> int:
        """Return the last seq that the log no longer has: it was compacted, or restored from a backup."""
        with self._source.rows() as rows:
            return rows.compacted()[0]

    def encoded(self, seq: int) -> bytes | None:
        """Return the encoded change with this seq; None if the log does not have it."""
        with self._source.rows() as rows:
            return rows.get(layout.CHANGES, seq.to_bytes(8, "big"))

    def commit_id(self) -> int:
        """Return the number of the last commit that a read sees now."""
        txn = self._source.reading()
        try:
            return int(txn.id())
        finally:
            txn.abort()

    def changes(self, since_seq: int, limit: int = _MOST) -> list[tuple[int, Change]]:
        """Return up to ``limit`` changes that follow ``since_seq``, dense and ascending.

        Raises Rejected COMPACTED if some of them are gone (take a snapshot instead), Rejected INVALID for
        a seq that the log has not reached (of another log), StateUnusable CORRUPT if one is missing.
        """
        with self._source.rows() as rows:
            return [(seq, Change.decode(encoded)) for seq, encoded in _following(rows, since_seq, limit)]

    def entries(self, since_seq: int, limit: int = _MOST) -> list[LogEntry]:
        """Return the same changes with their results; raises as :meth:`changes` does."""
        with self._source.rows() as rows:
            owners: dict[bytes, ChangeOwner | None] = {}
            return [_entry(rows, *each, owners) for each in _following(rows, since_seq, limit)]

    def seq_at(self, revision: int) -> int:
        """Return the seq after which come all changes that were applied after ``revision``.

        Raises Rejected COMPACTED if some of them are gone, or are older than the folder's results; Rejected
        INVALID for a revision that the log has not reached.
        """
        with self._source.rows() as rows:
            head = rows.head()
            if not 0 <= revision <= head.revision:
                raise Rejected(
                    Rejection.INVALID.value,
                    f"after_revision: {revision}, but the log is at {head.revision}",
                )
            with rows.txn.cursor(db=rows.tables[layout.RESULTS]) as cursor:
                low = int.from_bytes(cursor.key(), "big") if cursor.first() else head.seq + 1
            first = _result(rows, low)
            oldest = head.revision if first is None else first.revision - (not first.rejection)
            if revision < oldest:
                raise Rejected(
                    Rejection.COMPACTED.value,
                    f"after_revision: changes after {revision} are gone, up to {oldest}; list the "
                    "sessions, and watch from now on",
                )
            # Revisions ascend with the seq: find the first change that was applied after it.
            high = head.seq + 1
            while low < high:
                middle = (low + high) // 2
                result = _result(rows, middle)
                if result is None or result.revision <= revision:
                    low = middle + 1
                else:
                    high = middle
            return low - 1


def _result(rows: TxnRows, seq: int) -> ChangeResult | None:
    data = rows.get(layout.RESULTS, seq.to_bytes(8, "big"))
    return None if data is None else ChangeResult.decode(data)


def _entry(rows: TxnRows, seq: int, encoded: bytes, known: dict[bytes, ChangeOwner | None]) -> LogEntry:
    result = _result(rows, seq)
    if result is None or not (result.epoch or result.incarnation):
        return LogEntry(seq, encoded, result)
    change = Change.decode(encoded)
    if not result.epoch:
        return LogEntry(seq, encoded, result, change)
    if change.session_id not in known:
        known[change.session_id] = _owner_of(rows, change.session_id)
    return LogEntry(seq, encoded, result, change, known[change.session_id])


def _owner_of(rows: TxnRows, session_id: bytes) -> ChangeOwner | None:
    session = rows.session(session_id)
    if session is not None:
        ids = ancestor_ids(session, rows.session)
        return ChangeOwner(session.subject, session.purpose, session.owner, ids)
    data = rows.get(layout.RESULTS, layout.TRACE_PREFIX + session_id)
    if data is None:
        return None
    trace = SessionTrace.decode(data)
    return ChangeOwner("", "", trace.owner, trace.ancestor_ids)


def _following(rows: TxnRows, since_seq: int, limit: int) -> Iterator[tuple[int, bytes]]:
    """Yield up to ``limit`` encoded changes that follow ``since_seq``; raises as ``changes`` does."""
    head = rows.head()
    if not 0 <= since_seq <= head.seq:
        raise Rejected(Rejection.INVALID.value, f"since_seq: {since_seq}, but the log is at {head.seq}")
    if since_seq < rows.compacted()[0]:
        raise Rejected(Rejection.COMPACTED.value, f"since_seq: changes after {since_seq} are gone")
    with rows.txn.cursor(db=rows.tables[layout.CHANGES]) as cursor:
        more, expected = cursor.set_range((since_seq + 1).to_bytes(8, "big")), since_seq + 1
        while more and expected <= since_seq + min(limit, _MOST):
            seq = int.from_bytes(cursor.key(), "big")
            if seq != expected:
                raise StateUnusable(f"change {expected} is missing", "CORRUPT")
            yield seq, bytes(cursor.value())
            more, expected = cursor.next(), expected + 1
