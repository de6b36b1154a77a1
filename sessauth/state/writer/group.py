"""One group: the changes that share a commit, each judged against the rows that the ones before it left."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...errors import Rejected, StateError, StateFull
from ...model.change import Change, ChangeKind, ChangeOutcome, Rejection, end_session
from ...model.costs import ONCE_PREFIX
from ...model.log_records import ChangeResult, SessionTrace
from ...model.session import EndCause, Session, SessionStatus
from .. import layout
from ..lmdb import evidence_rows
from ..lmdb.rows import TxnRows
from ..rules.apply import Applied, apply, chained, conflict, is_protective
from ..rules.validation import ancestor_ids, ancestors, why_dead
from .guarded_clock import ClockReading

_SEQ_BYTES = 8
# What agents and gateways cause by asking: a refusal of theirs is an answer and costs no write.
_UNLOGGED_REFUSALS = (ChangeKind.CONSUME, ChangeKind.SETTLE_PERMIT, ChangeKind.REQUEST_APPROVAL)
# Behind the session id in a row of DUE: what the id behind it is of. Nothing: the session itself is due.
DUE_PERMIT = b"p"
DUE_APPROVAL = b"a"


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of the past is kept: changes and outcomes by count, outcomes also by age in ms."""

    changes: int = layout.KEEP_CHANGES
    outcomes: int = layout.KEEP_OUTCOMES
    outcomes_ms: int = layout.KEEP_OUTCOMES_MS
    ended_ms: int = layout.KEEP_ENDED_MS


class Group:
    """Judges and writes within one write transaction. ``dirty`` says whether there is anything to commit."""

    def __init__(self, rows: TxnRows, now: ClockReading, *, full: bool, keep: Retention) -> None:
        """Take the transaction's rows and what the clock says. ``full``: above the 85 % mark."""
        self.rows = rows
        self.wall_ms = now.at_ms
        self.suspect = now.suspect
        self.full = full
        self.keep = keep
        self.dirty = False
        # Whether what its rows show is committed; set once that is known.
        self.durable = False

    @property
    def at_ms(self) -> int:
        """The writer's clock in ms: the wall clock, but never behind a change that was logged before."""
        return max(self.rows.current.clock_floor_ms, self.wall_ms)

    def submit(self, change: Change) -> ChangeOutcome:
        """Apply a caller's change, or find its first outcome.

        A consumption, a settlement or a request for an approval that is refused is neither logged nor
        remembered. Unless the change only takes authority away, raises StateFull above the mark, and
        StateError while the wall clock is not believed.
        """
        once = change.id.startswith(ONCE_PREFIX)
        first = None if once else self.first_outcome(change.id)
        if first is not None:
            return first if first.digest == change.digest() else conflict(change, self.rows.current)
        if not is_protective(change):
            self.require_room()
        if change.kind is ChangeKind.OPEN_SESSION:
            self._settle(bytes(change.body.get("parent_id", b"")))  # type: ignore[call-overload]
        elif change.kind not in (ChangeKind.REVOKE, ChangeKind.PURGE_SESSION):
            self._settle(change.session_id)
        outcome = self.log(change)
        if outcome.seq and not once:
            self._remember(outcome)
        return outcome

    def first_outcome(self, change_id: str) -> ChangeOutcome | None:
        """Return the outcome of the first change with this id, if there was one and it is still kept."""
        stored = self.rows.get(layout.OUTCOMES, change_id.encode())
        return None if stored is None else ChangeOutcome.decode(stored)

    def require_room(self) -> None:
        """Raise StateFull above the 85 % mark, and StateError while the wall clock is not believed."""
        if self.full:
            raise StateFull(
                "the state is above 85 % of its map: only ends, suspensions, narrowings and revocations are "
                "written; purge ended sessions, or raise map_size and restart"
            )
        if self.suspect:
            raise StateError(self.suspect)

    def log(self, change: Change) -> ChangeOutcome:
        """Stamp, apply and log a change, whatever its id. ``seq`` is 0 where a refusal was not logged."""
        applied = apply(self.rows, change.stamped(self.at_ms))
        if not applied.outcome.applied and change.kind in _UNLOGGED_REFUSALS:
            return replace(applied.outcome, seq=0)
        self.rows.perform(applied.writes)
        self.rows.current = applied.head
        order = applied.head.seq.to_bytes(_SEQ_BYTES, "big")
        self.rows.put(layout.CHANGES, order, applied.encoded)
        self._note_result(change, applied, order)
        if applied.outcome.applied:
            self._schedule_new(change, applied.outcome)
            if change.kind is ChangeKind.PURGE_SESSION:
                evidence_rows.forget_session(self.rows, change.session_id)
        self.dirty = True
        return applied.outcome

    def _note_result(self, change: Change, applied: Applied, order: bytes) -> None:
        """Keep what became of a change, and of a purged session whose it was."""
        outcome, session = applied.outcome, applied.session
        fresh = outcome.applied and change.kind is ChangeKind.NEW_INCARNATION
        purged = session is not None and change.kind is ChangeKind.PURGE_SESSION
        result = ChangeResult(
            outcome.revision,
            outcome.rejection,
            epoch=session.epoch if session is not None else 0,
            incarnation=applied.head.incarnation if fresh else b"",
            purged_id=change.session_id if purged else b"",
        )
        self.rows.put(layout.RESULTS, order, result.encode())
        if session is not None and purged:
            owner = session.owner if len(session.owner.encode()) <= layout.TRACE_OWNER_BYTES else ""
            trace = SessionTrace(owner, ancestor_ids(self.rows, session))
            self.rows.put(layout.RESULTS, layout.TRACE_PREFIX + session.id, trace.encode())

    def _forget_result(self, order: bytes) -> None:
        """Drop what became of a change that is compacted away; with a purge goes the session's trace."""
        data = self.rows.get(layout.RESULTS, order)
        if data is None:
            return
        self.rows.delete(layout.RESULTS, order)
        purged_id = ChangeResult.decode(data).purged_id
        if purged_id:
            self.rows.delete(layout.RESULTS, layout.TRACE_PREFIX + purged_id)

    def keep_alive(self, session_id: bytes) -> int:
        """Renew a lease; returns the durable deadline in ms.

        Nothing is written while more than half of the lease is left. Raises Rejected for a session that
        is not there, has ended (a lapse is final), or has no lease.
        """
        self._settle(session_id)
        session = self.rows.leased_session(session_id)
        if session is None:
            raise Rejected(Rejection.NOT_FOUND.value, "session_id: no such session")
        reason = why_dead(self.rows, session, self.at_ms)
        if reason:
            raise Rejected(Rejection.ALREADY_ENDED.value, reason)
        if not session.lease_ms:
            raise Rejected(Rejection.INVALID.value, "session_id: the session has no lease to keep alive")
        if session.lease_deadline_ms - self.at_ms > session.lease_ms // 2:
            return session.lease_deadline_ms
        deadline = max(session.lease_deadline_ms, self.at_ms + session.lease_ms)
        self.rows.put(layout.LEASES, session_id, deadline.to_bytes(8, "big"))
        self.dirty = True
        return deadline

    def fresh_deadline(self, session_id: bytes) -> int:
        """Return a live session's deadline in ms if it need not be written yet, else 0. Writes nothing."""
        session = self.rows.leased_session(session_id)
        if session is None or session.lease_deadline_ms - self.at_ms <= session.lease_ms // 2:
            return 0
        if why_dead(self.rows, session, self.at_ms):
            return 0
        for ancestor in ancestors(self.rows, session) or ():
            leased = self.rows.leased_session(ancestor.id)
            if leased is None or self.lapse(leased) is not None:
                return 0
        return session.lease_deadline_ms

    def schedule(self, session_id: bytes, due_ms: int, what: bytes = b"") -> None:
        """Have the sweep look at a session, or at something of it, at ``due_ms``."""
        self.rows.put(layout.DUE, due_ms.to_bytes(8, "big") + session_id + what, b"")
        self.dirty = True

    def _schedule_new(self, change: Change, outcome: ChangeOutcome) -> None:
        """Have the sweep look at what a change made, when that is over."""
        session_id = change.session_id
        if change.kind is ChangeKind.OPEN_SESSION:
            session = self.rows.leased_session(session_id)
            if session is not None:
                self.schedule(session_id, session.ends_at_ms())
        elif outcome.permit_id:
            self.schedule(session_id, outcome.permit_deadline_ms, DUE_PERMIT + outcome.permit_id)
        elif change.kind is ChangeKind.REQUEST_APPROVAL:
            approval_id: bytes = change.body["approval"]["id"]  # type: ignore[index]
            approval = self.rows.approval(session_id, approval_id)
            if approval is not None:
                self.schedule(session_id, approval.expires_at_ms, DUE_APPROVAL + approval.id)

    def lapse(self, session: Session) -> EndCause | None:
        """Return why a session that has not been ended is over by now; None if it is not."""
        if session.status is SessionStatus.ENDED:
            return None
        if session.lease_ms and self.at_ms >= session.lease_deadline_ms:
            return EndCause.LEASE_LAPSED
        if self.at_ms >= session.expires_at_ms:
            return EndCause.EXPIRED
        line = ancestors(self.rows, session)
        if line is None or any(member.status is SessionStatus.ENDED for member in line):
            return EndCause.PARENT_ENDED
        return None

    def end(self, session: Session, cause: EndCause) -> None:
        """Log the end of a session that nobody asked for."""
        change_id = f"{layout.SYSTEM_PREFIX}{cause.name.lower()}/{session.id.hex()}"
        self.log(end_session(change_id, session.id, actor=layout.SYSTEM_ACTOR, cause=cause))

    def _settle(self, session_id: bytes) -> None:
        """End a session and its ancestors where their leases lapsed, before a change is judged by them.

        Leases are not in the log, so a lapse must be a change of its own before anything depends on it.
        """
        session = self.rows.leased_session(session_id) if session_id else None
        for _ in range(8):
            if session is None:
                return
            if self.lapse(session) is EndCause.LEASE_LAPSED:
                self.end(session, EndCause.LEASE_LAPSED)
            session = self.rows.leased_session(session.parent_id) if session.parent_id else None

    def _remember(self, outcome: ChangeOutcome) -> None:
        change_id = outcome.change_id.encode()
        self.rows.put(layout.OUTCOMES, change_id, outcome.encode())
        order = outcome.seq.to_bytes(_SEQ_BYTES, "big")
        self.rows.put(layout.OUTCOME_ORDER, order, outcome.at_ms.to_bytes(8, "big") + change_id)

    def finish(self) -> None:
        """Drop what is too old, a bounded step of it, and write the head."""
        if self.dirty:
            self._compact_changes()
            self._forget_outcomes()
            self.rows.write_head()

    def _compact_changes(self) -> None:
        handle = self.rows.tables[layout.CHANGES]
        keep = self.keep.changes // 8 if self.full else self.keep.changes
        surplus = min(int(self.rows.txn.stat(handle)["entries"]) - keep, layout.COMPACT_STEP)
        if surplus <= 0:
            return
        anchor = self.rows.get(layout.META, layout.COMPACTED_KEY) or bytes(_SEQ_BYTES + 32)
        seq, digest = int.from_bytes(anchor[:_SEQ_BYTES], "big"), anchor[_SEQ_BYTES:]
        with self.rows.txn.cursor(db=handle) as cursor:
            found = cursor.first()
            while found and surplus:
                seq = int.from_bytes(cursor.key(), "big")
                digest = chained(digest, seq, bytes(cursor.value()))
                self._forget_result(bytes(cursor.key()))
                found = cursor.delete() and bool(cursor.key())
                surplus -= 1
        self.rows.put(layout.META, layout.COMPACTED_KEY, seq.to_bytes(_SEQ_BYTES, "big") + digest)

    def _forget_outcomes(self) -> None:
        handle = self.rows.tables[layout.OUTCOME_ORDER]
        surplus = int(self.rows.txn.stat(handle)["entries"]) - self.keep.outcomes
        oldest_ms = self.at_ms - self.keep.outcomes_ms
        with self.rows.txn.cursor(db=handle) as cursor:
            found = cursor.first()
            for _ in range(layout.COMPACT_STEP):
                if not found:
                    return
                value = bytes(cursor.value())
                if surplus <= 0 and int.from_bytes(value[:8], "big") >= oldest_ms:
                    return
                self.rows.delete(layout.OUTCOMES, value[8:])
                found = cursor.delete() and bool(cursor.key())
                surplus -= 1
