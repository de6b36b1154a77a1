"""The feed: the changes of a local log in order, for followers, events, audit and replay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from ...errors import Rejected, StateUnusable
from ...model.change import Change, Rejection
from ...model.log_records import ChangeResult, Head, SessionTrace
from .. import layout
from ..rules.validation import ancestor_ids
from .environment import LmdbSource
from .rows import TxnRows

_MOST = 1_000


class ChangeOwner(NamedTuple):
    """Whose a session is, which never changes; ``ancestor_ids`` are nearest first.

    Of one that was purged the log knows neither subject nor purpose.
    """

    subject: str
    purpose: str
    owner: str
    ancestor_ids: tuple[bytes, ...]


NOBODYS: Final = ChangeOwner("", "", "", ())


class LogEntry(NamedTuple):
    """One change of the log and what became of it.

    ``change`` is decoded only where it changed a session's life, or all of them (a new incarnation); else
    None. ``result`` is None of what was logged before the folder kept results. ``whose`` is of the session,
    None where nothing is known of it any more.
    """

    seq: int
    encoded: bytes
    result: ChangeResult | None
    change: Change | None = None
    whose: ChangeOwner | None = NOBODYS


class LocalFeed:
    """Reads the log through a source, one consistent read a call."""

    def __init__(self, source: LmdbSource) -> None:
        """Take the reader's or the writer's source."""
        self._source = source

    def head(self) -> Head:
        """Return where the log stands: what a snapshot is taken at."""
        with self._rows() as rows:
            return rows.head()

    def kept_from(self) -> int:
        """Return the seq behind which the log is kept: what was up to there is compacted, or of a backup."""
        with self._rows() as rows:
            return _kept_from(rows)

    def encoded(self, seq: int) -> bytes | None:
        """Return the change with this seq, encoded; None if the log does not have it, or not any more."""
        with self._rows() as rows:
            return rows.get(layout.CHANGES, seq.to_bytes(8, "big"))

    def commit(self) -> int:
        """Return the number of the last commit that a read sees now."""
        txn = self._source.reading()
        try:
            return int(txn.id())
        finally:
            txn.abort()

    def changes(self, since_seq: int, limit: int = _MOST) -> list[tuple[int, Change]]:
        """Return up to ``limit`` changes that follow ``since_seq``, dense and ascending.

        Raises Rejected COMPACTED if some of them are gone (take a snapshot instead), Rejected INVALID for
        a seq that the log has not reached (it is another log's), StateUnusable CORRUPT if one is missing.
        """
        with self._rows() as rows:
            return [(seq, Change.decode(encoded)) for seq, encoded in _following(rows, since_seq, limit)]

    def logged(self, since_seq: int, limit: int = _MOST) -> list[LogEntry]:
        """Return the same with what became of each change; raises as :meth:`changes` does."""
        with self._rows() as rows:
            known: dict[bytes, ChangeOwner | None] = {}
            return [_logged(rows, *each, known) for each in _following(rows, since_seq, limit)]

    def seq_at(self, revision: int) -> int:
        """Return the seq behind which all changes that were applied after ``revision`` stand.

        Raises Rejected COMPACTED if some of them are gone, or are older than the folder's results; Rejected
        INVALID for a revision that the log has not reached.
        """
        with self._rows() as rows:
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
                    f"after_revision: what came behind {revision} is gone, up to {oldest}; list the "
                    "sessions, and watch from now on",
                )
            # Revisions ascend with the seq: find the first change that was applied after it.
            high = head.seq + 1
            while low < high:
                middle = (low + high) // 2
                found = _result(rows, middle)
                if found is None or found.revision <= revision:
                    low = middle + 1
                else:
                    high = middle
            return low - 1

    @contextmanager
    def _rows(self) -> Iterator[TxnRows]:
        txn = self._source.reading()
        try:
            yield TxnRows(txn, self._source.tables)
        finally:
            txn.abort()


def _kept_from(rows: TxnRows) -> int:
    return int.from_bytes((rows.get(layout.META, layout.COMPACTED_KEY) or bytes(8))[:8], "big")


def _result(rows: TxnRows, seq: int) -> ChangeResult | None:
    data = rows.get(layout.RESULTS, seq.to_bytes(8, "big"))
    return None if data is None else ChangeResult.decode(data)


def _logged(rows: TxnRows, seq: int, encoded: bytes, known: dict[bytes, ChangeOwner | None]) -> LogEntry:
    result = _result(rows, seq)
    if result is None or not (result.epoch or result.incarnation):
        return LogEntry(seq, encoded, result)
    change = Change.decode(encoded)
    if not result.epoch:
        return LogEntry(seq, encoded, result, change)
    if change.session_id not in known:
        known[change.session_id] = _whose(rows, change.session_id)
    return LogEntry(seq, encoded, result, change, known[change.session_id])


def _whose(rows: TxnRows, session_id: bytes) -> ChangeOwner | None:
    session = rows.session(session_id)
    if session is not None:
        return ChangeOwner(session.subject, session.purpose, session.owner, ancestor_ids(rows, session))
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
    if since_seq < _kept_from(rows):
        raise Rejected(Rejection.COMPACTED.value, f"since_seq: changes behind {since_seq} are gone")
    with rows.txn.cursor(db=rows.tables[layout.CHANGES]) as cursor:
        there, expected = cursor.set_range((since_seq + 1).to_bytes(8, "big")), since_seq + 1
        while there and expected <= since_seq + min(limit, _MOST):
            seq = int.from_bytes(cursor.key(), "big")
            if seq != expected:
                raise StateUnusable(f"change {expected} is missing", "CORRUPT")
            yield seq, bytes(cursor.value())
            there, expected = cursor.next(), expected + 1
