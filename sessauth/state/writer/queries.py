"""What the writer's process reads of its state beside the checks: sessions, keys, outcomes, what is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ...crypto.issuer_key import KeyRecord
from ...model.approval import ApprovalRecord
from ...model.change import ChangeOutcome
from ...model.costs import Permit, SessionCounts
from ...model.log_records import Head
from ...model.receipt import Receipt
from ...model.registration import RegistrationRecord
from ...model.session import Session
from .. import layout
from ..lmdb import evidence_rows
from ..lmdb.environment import LmdbSource
from ..lmdb.rows import TxnRows
from . import statistics as census

_LIST_CHUNK = 512
# How many sessions one page is searched for in, so that no call has a thread of its pool for long.
SEARCHED_ROWS: Final = 8 * _LIST_CHUNK
# A record holds what an approver is shown, up to 32 KiB of it.
_APPROVALS_CHUNK = 32
_ID_BYTES = 16


class StateReads:
    """Reads through a source, each call one consistent read unless it says otherwise."""

    def __init__(self, source: LmdbSource) -> None:
        """Take the source."""
        self._source = source

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session with its lease deadline and what it has open."""
        with self._rows() as rows:
            session = rows.leased_session(session_id)
            return None if session is None else rows.with_open(session)

    def list_sessions(
        self, after: bytes = b"", limit: int = 100, predicate: Callable[[Session], bool] | None = None
    ) -> list[Session]:
        """Return up to ``limit`` sessions whose ids follow ``after``, ascending, that the predicate takes.

        The table is read in steps, each consistent in itself, so that a long list holds up no page.
        """
        found: list[Session] = []
        more = True
        while more and len(found) < limit:
            some, after, more = self.page_of_sessions(after, limit - len(found), predicate)
            found += some
        return found

    def page_of_sessions(
        self,
        after: bytes,
        limit: int,
        predicate: Callable[[Session], bool] | None = None,
        status: int = 0,
    ) -> tuple[list[Session], bytes, bool]:
        """Return sessions as ``list_sessions`` does, of one status or of any (0), after a bounded search.

        ``SEARCHED_ROWS`` are looked at at most, so there may be fewer than ``limit`` although more follow.
        The second value is the id that was looked at last, the third whether rows may follow it.
        """
        found: list[Session] = []
        for _ in range(SEARCHED_ROWS // _LIST_CHUNK):
            with self._rows() as rows:
                ids = rows.ids_after(after, _LIST_CHUNK)
                for session_id in ids:
                    after = session_id
                    if status and rows.session_status(session_id) != status:
                        continue
                    session = rows.leased_session(session_id)
                    if session is not None and (predicate is None or predicate(session)):
                        found.append(rows.with_open(session))
                        if len(found) == limit:
                            return found, after, True
            if len(ids) < _LIST_CHUNK:
                return found, after, False
        return found, after, True

    def sessions_beginning(
        self, digits: str, after: bytes, limit: int, predicate: Callable[[Session], bool]
    ) -> list[Session]:
        """Return sessions as ``list_sessions`` does, of those whose id begins with these hex digits.

        No other row is read.
        """
        found: list[Session] = []
        first = int(digits.ljust(2 * _ID_BYTES, "0"), 16)
        after = max(after, (first - 1).to_bytes(_ID_BYTES, "big") if first else b"")
        while True:
            with self._rows() as rows:
                ids = rows.ids_after(after, limit)
                for after in ids:
                    if not after.hex().startswith(digits):
                        return found
                    session = rows.leased_session(after)
                    if session is not None and predicate(session):
                        found.append(rows.with_open(session))
                        if len(found) == limit:
                            return found
            if len(ids) < limit:
                return found

    def census(self) -> census.StateStatistics:
        """Count all sessions, and what those that live have open; some microseconds a session."""
        return census.take(self._source)

    def room(self) -> tuple[int, int]:
        """Return how many bytes of the map hold rows, and how many it has."""
        env = self._source.env
        with self._rows() as rows:
            used = rows.used_bytes(int(env.stat()["psize"]))
        return used, int(env.info()["map_size"])

    def keys(self) -> list[KeyRecord]:
        """Return all issuer keys, by id."""
        with self._rows() as rows:
            return [key for key in map(rows.key, rows.key_ids()) if key is not None]

    def revoked(self, session_id: bytes, block_id: bytes) -> bool:
        """Whether a block of a session is revoked."""
        with self._rows() as rows:
            return rows.is_revoked(session_id, block_id)

    def head(self) -> Head:
        """Return where the log stands."""
        with self._rows() as rows:
            return rows.head()

    def outcome(self, change_id: str) -> ChangeOutcome | None:
        """Return the first outcome of a request id, if it is still kept."""
        with self._rows() as rows:
            data = rows.get(layout.OUTCOMES, change_id.encode())
            return ChangeOutcome.decode(data) if data is not None else None

    def counts(self, session_id: bytes) -> SessionCounts:
        """Return what a session has open."""
        with self._rows() as rows:
            return rows.counts(session_id)

    def permit(self, session_id: bytes, permit_id: bytes) -> Permit | None:
        """Return an open permit."""
        with self._rows() as rows:
            return rows.permit(session_id, permit_id)

    def approval(self, session_id: bytes, approval_id: bytes) -> ApprovalRecord | None:
        """Return an approval that was asked for, of any status, until a while after its expiry."""
        with self._rows() as rows:
            return rows.approval(session_id, approval_id)

    def approvals(
        self,
        session_id: bytes = b"",
        after: bytes = b"",
        limit: int = 100,
        predicate: Callable[[ApprovalRecord, Session], bool] | None = None,
    ) -> list[ApprovalRecord]:
        """Return up to ``limit`` approvals that the predicate takes, ordered by session id and id.

        ``session_id`` empty: of all sessions. ``after``: the session id and id of the last one of the page
        before (32 bytes). The predicate is given the approval's session too, without its lease deadline.
        The table is read in steps, each consistent in itself.
        """
        found: list[ApprovalRecord] = []
        while len(found) < limit:
            with self._rows() as rows:
                keys = rows.keys_after(layout.APPROVALS, after, _APPROVALS_CHUNK, session_id)
                for after in keys:
                    record = rows.approval(after[:_ID_BYTES], after[_ID_BYTES:])
                    session = rows.session(after[:_ID_BYTES])
                    if record is None or session is None:
                        continue
                    if predicate is None or predicate(record, session):
                        found.append(record)
                        if len(found) == limit:
                            break
            if len(keys) < _APPROVALS_CHUNK:
                break
        return found

    def receipt(self, session_id: bytes) -> Receipt | None:
        """Return a session's finished receipt, if it was kept."""
        with self._rows() as rows:
            return evidence_rows.receipt(rows, session_id)

    def enrolments(self) -> list[RegistrationRecord]:
        """Return who was enrolled when this was last written, by name."""
        with self._rows() as rows:
            return evidence_rows.enrolments(rows)

    def enrolments_since_ms(self) -> int:
        """Return the time up to which enrolments were not kept, in ms since 1970; 0: they always were."""
        with self._rows() as rows:
            return evidence_rows.since_ms(rows)

    @contextmanager
    def _rows(self) -> Iterator[TxnRows]:
        txn = self._source.reading()
        try:
            yield TxnRows(txn, self._source.tables)
        finally:
            txn.abort()
