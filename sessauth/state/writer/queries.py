"""Queries of the writer's process: sessions, keys, outcomes, permits, approvals, receipts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ...clock import SystemClock
from ...crypto.issuer_key import KeyRecord
from ...model.approval import ApprovalCharge, ApprovalRecord
from ...model.change import ChangeOutcome
from ...model.costs import Permit, SessionCounts, remaining_of
from ...model.credential import CredentialRecord
from ...model.host import HostRecord
from ...model.log_records import Head
from ...model.receipt import Receipt
from ...model.registration import RegistrationRecord
from ...model.session import Session, SessionStatus
from ...scopes.value import Number
from .. import layout
from ..lmdb import credential_rows, evidence_rows, host_rows
from ..lmdb.effective_status import effective_session, effective_status, judged_at_ms, with_status
from ..lmdb.environment import LmdbSource
from ..lmdb.rows import TxnRows
from . import statistics as census
from .guarded_clock import GuardedClock

_LIST_CHUNK = 512
# The most sessions that one page is searched for in, so that no call occupies a thread of its pool for long.
SEARCHED_ROWS: Final = 8 * _LIST_CHUNK
# The same before a part of a selection ends: rows that a slow host reads in a fraction of a call's time.
LIVING_ROWS: Final = _LIST_CHUNK
# A record has everything an approver is shown, up to 32 KiB.
_APPROVALS_CHUNK = 32
_ID_BYTES = 16


class StateQueries:
    """Reads through a source. Each call is one consistent read, unless its docstring says otherwise."""

    def __init__(self, source: LmdbSource, clock: GuardedClock | None = None) -> None:
        """Read through ``source``; ``clock`` tells which times have passed."""
        self._source = source
        self._clock = clock or GuardedClock(SystemClock())

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session with its lease deadline and its numbers of open permits and approvals.

        Its status is that of its own row.
        """
        with self._source.rows() as rows:
            session = rows.leased_session(session_id)
            return None if session is None else rows.with_open(session)

    def effective_session(self, session_id: bytes) -> Session | None:
        """Return a session as :meth:`get_session` does, with its effective status."""
        with self._source.rows() as rows:
            session = effective_session(rows, session_id, judged_at_ms(rows, self._wall_ms()))
            return None if session is None else rows.with_open(session)

    def list_sessions(
        self, after: bytes = b"", limit: int = 100, predicate: Callable[[Session], bool] | None = None
    ) -> list[Session]:
        """Return up to ``limit`` sessions whose ids follow ``after``, ascending, that match the predicate.

        They have their effective status, for the predicate too.
        The table is read in steps that are each consistent, so that a long list blocks the reuse of no page.
        """
        sessions: list[Session] = []
        more = True
        while more and len(sessions) < limit:
            page, after, more = self.page_of_sessions(after, limit - len(sessions), predicate)
            sessions += page
        return sessions

    def page_of_sessions(
        self,
        after: bytes,
        limit: int,
        predicate: Callable[[Session], bool] | None = None,
        status: int = 0,
    ) -> tuple[list[Session], bytes, bool]:
        """Return sessions as ``list_sessions`` does, of one status or of any (0), after a bounded search.

        Reads at most ``SEARCHED_ROWS`` rows, so there may be fewer than ``limit`` although more follow. The
        second value is the last id read, the third is True if rows may follow it.
        """
        sessions: list[Session] = []
        wall_ms = self._wall_ms()
        for number, (rows, session_id) in enumerate(self._scan(layout.SESSIONS, after, _LIST_CHUNK), 1):
            after = session_id
            found = effective_status(rows, session_id, judged_at_ms(rows, wall_ms))
            if found is not None and status in (0, found.status):
                session = with_status(rows, session_id, found)
                if session is not None and (predicate is None or predicate(session)):
                    sessions.append(rows.with_open(session))
            if len(sessions) == limit or number == SEARCHED_ROWS:
                return sessions, after, True
        return sessions, after, False

    def page_of_living(
        self, after: bytes, limit: int, matches: Callable[[Session], bool]
    ) -> tuple[list[bytes], bytes, bool]:
        """Return ids of sessions that match and that no written end concerns, ascending.

        An end of an ancestor counts. A time that has passed does not: the clock may be set back before the
        sweep writes the end. Reads at most ``LIVING_ROWS`` rows. The second value is the last id read, the
        third is True if rows may follow it.
        """
        ids: list[bytes] = []
        for number, (rows, session_id) in enumerate(self._scan(layout.SESSIONS, after, _LIST_CHUNK), 1):
            after = session_id
            found = effective_status(rows, session_id, 0)
            if found is not None and found.status is not SessionStatus.ENDED:
                session = rows.session(session_id)
                if session is not None and matches(session):
                    ids.append(session_id)
            if len(ids) == limit or number == LIVING_ROWS:
                return ids, after, True
        return ids, after, False

    def sessions_beginning(
        self, digits: str, after: bytes, limit: int, predicate: Callable[[Session], bool]
    ) -> list[Session]:
        """Return sessions as ``list_sessions`` does, of those whose id begins with these hex digits.

        Reads no other row.
        """
        sessions: list[Session] = []
        wall_ms = self._wall_ms()
        first = int(digits.ljust(2 * _ID_BYTES, "0"), 16)
        after = max(after, (first - 1).to_bytes(_ID_BYTES, "big") if first else b"")
        for rows, session_id in self._scan(layout.SESSIONS, after, limit):
            if not session_id.hex().startswith(digits):
                break
            session = effective_session(rows, session_id, judged_at_ms(rows, wall_ms))
            if session is not None and predicate(session):
                sessions.append(rows.with_open(session))
                if len(sessions) == limit:
                    break
        return sessions

    def census(self) -> census.StateStatistics:
        """Count all sessions, and open permits and approvals; takes some microseconds a session."""
        return census.take(self._source, self._wall_ms())

    def room(self) -> tuple[int, int]:
        """Return the bytes of the map that hold rows, and the size of the map."""
        env = self._source.env
        with self._source.rows() as rows:
            used = rows.used_bytes(int(env.stat()["psize"]))
        return used, int(env.info()["map_size"])

    def keys(self) -> list[KeyRecord]:
        """Return all issuer keys, by id."""
        with self._source.rows() as rows:
            return [key for key in map(rows.key, rows.key_ids()) if key is not None]

    def is_revoked(self, session_id: bytes, block_id: bytes) -> bool:
        """Return True if a block of a session is revoked."""
        with self._source.rows() as rows:
            return rows.is_revoked(session_id, block_id)

    def head(self) -> Head:
        """Return the head of the log."""
        with self._source.rows() as rows:
            return rows.head()

    def outcome(self, change_id: str) -> ChangeOutcome | None:
        """Return the first outcome of a request id, if it is still stored."""
        with self._source.rows() as rows:
            data = rows.get(layout.OUTCOMES, change_id.encode())
            return ChangeOutcome.decode(data) if data is not None else None

    def counts(self, session_id: bytes) -> SessionCounts:
        """Return the open permits and approvals of a session, and its number of counters."""
        with self._source.rows() as rows:
            return rows.counts(session_id)

    def permit(self, session_id: bytes, permit_id: bytes) -> Permit | None:
        """Return an open permit."""
        with self._source.rows() as rows:
            return rows.permit(session_id, permit_id)

    def approval(self, session_id: bytes, approval_id: bytes) -> ApprovalRecord | None:
        """Return a requested approval of any status, until the sweep removes it after its expiry."""
        with self._source.rows() as rows:
            return rows.approval(session_id, approval_id)

    def remaining(self, session_id: bytes, charges: Sequence[ApprovalCharge]) -> list[Number]:
        """Return the remaining budget for each charge: neither spent nor reserved, at least 0."""
        if not charges:
            return []
        with self._source.rows() as rows:
            ledgers = [rows.ledger(session_id, charge.ledger) for charge in charges]
        return [remaining_of(charge.limit, ledger) for charge, ledger in zip(charges, ledgers, strict=True)]

    def approvals(
        self,
        session_id: bytes = b"",
        after: bytes = b"",
        limit: int = 100,
        predicate: Callable[[ApprovalRecord, Session], bool] | None = None,
    ) -> list[ApprovalRecord]:
        """Return up to ``limit`` approvals that match the predicate, ordered by session id and id.

        ``session_id`` empty: of all sessions. ``after``: the session id and id of the last one of the page
        before (32 bytes). The predicate also gets the approval's session, without its lease deadline.
        The table is read in steps that are each consistent.
        """
        approvals: list[ApprovalRecord] = []
        for rows, key in self._scan(layout.APPROVALS, after, _APPROVALS_CHUNK, session_id):
            record = rows.approval(key[:_ID_BYTES], key[_ID_BYTES:])
            session = rows.session(key[:_ID_BYTES])
            if (
                record is not None
                and session is not None
                and (predicate is None or predicate(record, session))
            ):
                approvals.append(record)
                if len(approvals) == limit:
                    break
        return approvals

    def receipt(self, session_id: bytes) -> Receipt | None:
        """Return a session's finished receipt, if it is stored."""
        with self._source.rows() as rows:
            return evidence_rows.receipt(rows, session_id)

    def registrations(self) -> list[RegistrationRecord]:
        """Return the stored registrations, by name."""
        with self._source.rows() as rows:
            return evidence_rows.registrations(rows)

    def hosts(self) -> list[HostRecord]:
        """Return the hosts of the cluster, by name."""
        with self._source.rows() as rows:
            return host_rows.hosts(rows)

    def host(self, name: str) -> HostRecord | None:
        """Return a host of the cluster, if it is registered."""
        with self._source.rows() as rows:
            return host_rows.host(rows, name)

    def credentials(self) -> list[CredentialRecord]:
        """Return the credentials of the cluster, by name."""
        with self._source.rows() as rows:
            return credential_rows.credentials(rows)

    def registrations_since_ms(self) -> int:
        """Return the time before which registrations are not known, in ms since 1970; 0: all are known."""
        with self._source.rows() as rows:
            return evidence_rows.since_ms(rows)

    def _wall_ms(self) -> int:
        return self._clock.read().at_ms

    def _scan(
        self, table: str, after: bytes, step: int, prefix: bytes = b""
    ) -> Iterator[tuple[TxnRows, bytes]]:
        """Yield the keys after ``after`` that begin with ``prefix``, with the rows of one read a step."""
        while True:
            with self._source.rows() as rows:
                keys = rows.keys_after(table, after, step, prefix)
                for after in keys:
                    yield rows, after
            if len(keys) < step:
                return
