"""A group: the changes that share a commit, each applied to the rows that the ones before it left.

**The view.** The writer checks a call by the rows that its change is then applied to: those of its own write
transaction, with the uncommitted changes of earlier jobs of the group.

**Refusals.** While everything is frozen an operator gets no new authority, and no session opens that a ban
fits.

**The clock.** A change is stamped with the wall clock, and the clock floor never goes back before a stamp. So
one wrong step of the clock, stamped once, would leave the floor in the future, and every check would deny
until real time reached it. The writer therefore compares the wall clock with a monotonic clock that counts
suspend, from the moment it was opened, with the same bound as the kernel's checks.

**The log of a cluster** has a port here; a single host has none. A host that reads only an earlier format of
it raises its alarm at anything that a later one added. So the leader writes none of it until each host of the
cluster said that it reads it; `raise_format` then has the log itself say so. A kind or a row that is not
listed here is of the latest format. To add one, raise ``FORMAT`` if the last release had that already, and
list that release's kinds and rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import lmdb

from ... import limits
from ..._fast._check import replaced
from ...clock import Clock
from ...errors import NotLeader, Rejected, StateError, StateFull
from ...model.change import (
    ONCE_PREFIX,
    RETRY_PREFIX,
    Change,
    ChangeKind,
    ChangeOutcome,
    ChangeResult,
    Rejection,
    SessionTrace,
    end_session,
)
from ...model.host import FORMAT, OLDEST_FORMAT, SECOND_FORMAT, CarriedRow
from ...model.session import EndCause, Session, SessionStatus, ancestor_ids, lineage
from ...scopes.parts import Accessor, Operator
from .. import layout
from ..lmdb import cluster_rows, terms
from ..lmdb.cluster_rows import HOST, host_format, read_position
from ..lmdb.environment import LmdbSource
from ..lmdb.rows import TxnRows
from ..rules.apply import Applied, apply, chain_digest, conflict_outcome, only_removes_authority
from ..rules.validation import ancestors, ended_reason, require_admitted

_SEQ_BYTES = 8
# Agents and gateways cause these by their calls: a rejection answers the call and costs no write.
_UNLOGGED_REJECTIONS = (ChangeKind.CONSUME, ChangeKind.SETTLE_PERMIT, ChangeKind.REQUEST_APPROVAL)
# The kind of the id that follows the session id in a key of DUE. Without it the session itself is due.
DUE_PERMIT = b"p"
DUE_APPROVAL = b"a"


@dataclass(frozen=True, slots=True)
class Retention:
    """Retention of past rows: changes and outcomes by count, outcomes and ended sessions by age in ms."""

    changes: int = layout.KEEP_CHANGES
    outcomes: int = layout.KEEP_OUTCOMES
    outcomes_ms: int = layout.KEEP_OUTCOMES_MS
    ended_ms: int = layout.KEEP_ENDED_MS


def has_outcome(change_id: str) -> bool:
    """Return True if a repeat of a request id gets the first outcome: all but the log's own ids."""
    return not change_id.startswith(layout.SYSTEM_PREFIX) or change_id.startswith(RETRY_PREFIX)


class Group:
    """Applies changes within one write transaction. ``dirty`` is True if there is anything to commit.

    ``changes`` are the encoded changes that it logged, for the carried log of a cluster.
    """

    def __init__(
        self,
        rows: TxnRows,
        now: ClockReading,
        *,
        full: bool,
        retention: Retention,
        refusal: StateError | None = None,
        frozen: str = "",
    ) -> None:
        """Write through a transaction's rows. ``full``: the state is above the 85 % mark.

        ``refusal`` is raised by every write that the whole cluster would share; None: this server may.
        ``frozen`` is why no authority may be given; empty: it may.
        """
        self.rows = rows
        self.changes: list[bytes] = []
        self._refusal = refusal
        self._frozen = frozen
        self._carried_keys: dict[tuple[str, bytes], None] = {}
        self.wall_ms = now.at_ms
        self.suspect = now.suspect
        self.full = full
        self.retention = retention
        self.dirty = False
        # The session as the last submitted change left it; None where it left none, or was rejected.
        self.changed: Session | None = None
        self.is_replay = False  # True: its changes come from the carried log.
        # True: it is carried even without a change, so that a new leader's term begins in the log.
        self.begins_term = False
        # True: an operator has the log go on at another engine.
        self.begins_engine = False
        # The later format that the cluster writes from this group on; 0: as before.
        self.raised_format = 0
        self.has_end = False  # True if it has the end of a session.
        # True if it wrote the row of the cluster's brake: the page of this host follows.
        self.moves_brake = False
        self._dropped = False
        # True once the log of the cluster has it.
        self.appended = False
        # True once the group's rows are committed.
        self.durable = False

    @property
    def at_ms(self) -> int:
        """The writer's clock in ms: the wall clock, but never before a logged change."""
        return max(self.rows.current.clock_floor_ms, self.wall_ms)

    def submit(self, change: Change) -> ChangeOutcome:
        """Apply a caller's change, or return the first outcome of its id.

        A rejected consumption, settlement or request for an approval is neither logged nor stored. Unless the
        change only removes authority, raises StateFull above the 85 % mark, and StateError while the wall
        clock is suspect.
        """
        self.require_leading()
        self.changed = None
        once = change.id.startswith(ONCE_PREFIX)
        first = None if once else self.first_outcome(change.id)
        if first is not None:
            return first if first.digest == change.digest() else conflict_outcome(change, self.rows.current)
        self._require_admitted(change)
        if change.kind is ChangeKind.OPEN_SESSION:
            self._end_lapsed(bytes(change.body.get("parent_id", b"")))  # type: ignore[call-overload]
        elif change.kind not in (ChangeKind.REVOKE, ChangeKind.PURGE_SESSION):
            self._end_lapsed(change.session_id)
        return self.log(change)

    def require_applicable(self, change: Change) -> None:
        """Raise as :meth:`submit` would, or Rejected for an outcome that is none; writes nothing."""
        self.require_leading()
        self._require_admitted(change)
        apply(self.rows, change.stamped(self.at_ms)).outcome.raise_if_rejected()

    def _require_admitted(self, change: Change) -> None:
        if not only_removes_authority(change):
            self.require_room()
        require_permitted(self.rows, change, self.at_ms, self._frozen)

    def changed_session(self) -> Session | None:
        """Return the session that the last change left, as a reader will find it once the group is durable.

        None where the change left none, and where an ancestor may decide the session's status.
        """
        session = self.changed
        if session is None or (session.parent_id and session.end_cause is not EndCause.ASKED):
            return None
        if session.lease_ms:
            session = self.rows.leased_session(session.id) or session
        return self.rows.with_open(session)

    def first_outcome(self, change_id: str) -> ChangeOutcome | None:
        """Return the outcome of the first change with this id, if it is still stored."""
        stored = self.rows.get(layout.OUTCOMES, change_id.encode())
        return None if stored is None else ChangeOutcome.decode(stored)

    def require_room(self) -> None:
        """Raise StateFull above the 85 % mark, and StateError while the wall clock is suspect."""
        if self.full:
            raise StateFull(
                "the state is above 85 % of its map: only ends, suspensions, narrowings and revocations are "
                "written; stop the server, raise server.map_size_bytes and start it again"
            )
        if self.suspect:
            raise StateError(self.suspect)

    def log(self, change: Change) -> ChangeOutcome:
        """Stamp, apply and log a change, even if its id is known. An unlogged rejection has the ``seq`` 0."""
        self.require_leading()
        self._require_format(change_format(change))
        applied = apply(self.rows, change.stamped(self.at_ms))
        if not applied.outcome.applied and change.kind in _UNLOGGED_REJECTIONS:
            return replaced(applied.outcome, seq=0)
        self._write(change, applied)
        return applied.outcome

    def replay(self, encoded: bytes) -> None:
        """Apply a change that another server stamped and logged; raises ValueError if it is none."""
        change = Change.decode(encoded)
        self._write(change, apply(self.rows, change))

    def replay_row(self, row: CarriedRow) -> None:
        """Write a row that another server wrote beside its changes."""
        if row.removed:
            self.rows.delete(row.table, row.key)
        else:
            self.rows.put(row.table, row.key, row.value)
        self._wrote_row(row.table, row.key)

    def require_leading(self) -> None:
        """Raise NotLeader if only another server of the cluster may write."""
        if self._refusal is not None:
            raise self._refusal

    @property
    def writes(self) -> int:
        """The format of the carried log that is written; a single host writes the latest."""
        position = read_position(self.rows)
        return FORMAT if position is None else max(position.writes, self.raised_format)

    def _require_format(self, needed: int) -> None:
        """Refuse a change of a later format than the cluster writes. Raises Rejected OLD_FORMAT."""
        if needed > OLDEST_FORMAT and needed > self.writes:
            raise Rejected(
                "OLD_FORMAT",
                f"the cluster writes format {self.writes} of its log, and this needs {needed}: upgrade "
                "the hosts that 'sessauth cluster status' names",
            )

    def put_carried(self, table: str, key: bytes, value: bytes) -> None:
        """Write a row that no change writes and that all hosts have in common."""
        self.require_leading()
        self._require_format(row_format(table, key, value))
        self.rows.put(table, key, value)
        self._carried_keys[table, key] = None
        self._wrote_row(table, key)

    def delete_carried(self, table: str, key: bytes) -> None:
        """Remove such a row."""
        self.require_leading()
        self.rows.delete(table, key)
        self._carried_keys[table, key] = None
        self._wrote_row(table, key)

    def _wrote_row(self, table: str, key: bytes) -> None:
        self.moves_brake = self.moves_brake or (table, key) == (layout.EVIDENCE, cluster_rows.BRAKE)
        self.dirty = True

    def carried_rows(self) -> tuple[CarriedRow, ...]:
        """Return the rows that :meth:`put_carried` and :meth:`delete_carried` touched, as they are now."""
        touched = ((table, key, self.rows.get(table, key)) for table, key in self._carried_keys)
        return tuple(
            CarriedRow(table, key, value or b"", removed=value is None) for table, key, value in touched
        )

    @property
    def is_carried(self) -> bool:
        """True if there is anything that the other hosts need."""
        return not self.is_replay and bool(self.changes or self._carried_keys or self.begins_term)

    def _write(self, change: Change, applied: Applied) -> None:
        """Write a change's effects, and the change itself into the log."""
        terms.follow(self.rows, applied.writes, applied.session)
        self.rows.perform(applied.writes)
        self.rows.current = applied.head
        order = applied.head.seq.to_bytes(_SEQ_BYTES, "big")
        self.rows.put(layout.CHANGES, order, applied.encoded)
        self.changed = applied.session
        self._store_result(change, applied, order)
        if applied.outcome.applied:
            self._schedule_created(change, applied.outcome)
            if change.kind is ChangeKind.PURGE_SESSION:
                cluster_rows.drop_receipt(self.rows, change.session_id)
        if has_outcome(change.id):
            self._store_outcome(applied.outcome)
        self.has_end = self.has_end or change.kind is ChangeKind.END_SESSION
        self.changes.append(applied.encoded)
        self.dirty = True

    def _store_result(self, change: Change, applied: Applied, order: bytes) -> None:
        """Store a change's result, and the trace of a purged session."""
        outcome, session = applied.outcome, applied.session
        began = outcome.applied and change.kind is ChangeKind.NEW_INCARNATION
        purged = session is not None and change.kind is ChangeKind.PURGE_SESSION
        result = ChangeResult(
            outcome.revision,
            outcome.rejection,
            epoch=session.epoch if session is not None else 0,
            incarnation=applied.head.incarnation if began else b"",
            purged_id=change.session_id if purged else b"",
        )
        self.rows.put(layout.RESULTS, order, result.encode())
        if session is not None and purged:
            owner = session.owner if len(session.owner.encode()) <= layout.TRACE_OWNER_BYTES else ""
            trace = SessionTrace(owner, ancestor_ids(session, self.rows.session))
            self.rows.put(layout.RESULTS, layout.TRACE_PREFIX + session.id, trace.encode())

    def _drop_result(self, order: bytes) -> None:
        """Remove the result of a compacted change, and of a purge the session's trace."""
        data = self.rows.get(layout.RESULTS, order)
        if data is None:
            return
        self.rows.delete(layout.RESULTS, order)
        purged_id = ChangeResult.decode(data).purged_id
        if purged_id:
            self.rows.delete(layout.RESULTS, layout.TRACE_PREFIX + purged_id)

    def keep_alive(self, session_id: bytes) -> int:
        """Renew a lease; return the durable deadline in ms.

        Writes nothing while more than half of the lease is left. Raises Rejected NOT_FOUND, ALREADY_ENDED (a
        lapse is final), or INVALID for a session without a lease. Raises NotLeader: by the rows of a server
        that follows, a new session is not there.
        """
        self.require_leading()
        self._end_lapsed(session_id)
        session = self.rows.leased_session(session_id)
        if session is None:
            raise Rejected(Rejection.NOT_FOUND.value, "session_id: no such session")
        reason = ended_reason(self.rows, session, self.at_ms)
        if reason:
            raise Rejected(Rejection.ALREADY_ENDED.value, reason)
        if not session.lease_ms:
            raise Rejected(Rejection.INVALID.value, "session_id: the session has no lease to keep alive")
        if session.lease_deadline_ms - self.at_ms > session.lease_ms // 2:
            return session.lease_deadline_ms
        deadline = max(session.lease_deadline_ms, self.at_ms + session.lease_ms)
        self.put_carried(layout.LEASES, session_id, deadline.to_bytes(8, "big"))
        return deadline

    def fresh_deadline(self, session_id: bytes) -> int:
        """Return a live session's deadline in ms if its renewal needs no write yet, else 0."""
        session = self.rows.leased_session(session_id)
        if session is None or session.lease_deadline_ms - self.at_ms <= session.lease_ms // 2:
            return 0
        if ended_reason(self.rows, session, self.at_ms):
            return 0
        for ancestor in ancestors(self.rows, session) or ():
            leased = self.rows.leased_session(ancestor.id)
            if leased is None or self.lapse(leased) is not None:
                return 0
        return session.lease_deadline_ms

    def schedule_due(self, session_id: bytes, due_ms: int, item: bytes = b"") -> None:
        """Have the sweep visit a session, or an item of it (kind and id), at ``due_ms``."""
        self.put_carried(layout.DUE, _due_key(due_ms, session_id, item), b"")

    def _schedule_created(self, change: Change, outcome: ChangeOutcome) -> None:
        """Schedule the end of the session, permit or approval that a change created."""
        session_id = change.session_id
        if change.kind is ChangeKind.OPEN_SESSION:
            session = self.changed
            if session is not None and session.lease_ms:
                session = self.rows.leased_session(session_id)
            if session is not None:
                self._schedule(session_id, session.ends_at_ms())
        elif outcome.permit_id:
            self._schedule(session_id, outcome.permit_deadline_ms, DUE_PERMIT + outcome.permit_id)
        elif change.kind is ChangeKind.REQUEST_APPROVAL:
            approval_id: bytes = change.body["approval"]["id"]  # type: ignore[index]
            approval = self.rows.approval(session_id, approval_id)
            if approval is not None:
                self._schedule(session_id, approval.expires_at_ms, DUE_APPROVAL + approval.id)

    def _schedule(self, session_id: bytes, due_ms: int, item: bytes = b"") -> None:
        """Schedule by a change, which does the same on every host."""
        self.rows.put(layout.DUE, _due_key(due_ms, session_id, item), b"")

    def lapse(self, session: Session) -> EndCause | None:
        """Return the cause for which a session that has not ended is over by now; None if it is not.

        An ancestor's end is the cause if it came before the session's own time.
        """
        if session.status is SessionStatus.ENDED:
            return None
        expired = EndCause.EXPIRED if self.at_ms >= session.expires_at_ms else None
        own = EndCause.LEASE_LAPSED if self._lease_lapsed(session) else expired
        line = ancestors(self.rows, session)
        ended = [member.ended_at_ms for member in line or () if member.status is SessionStatus.ENDED]
        if own is None:
            return EndCause.PARENT_ENDED if line is None or ended else None
        return EndCause.PARENT_ENDED if ended and min(ended) < session.ends_at_ms() else own

    def end(self, session: Session, cause: EndCause) -> None:
        """Log the end of a session by the writer itself.

        Its reason is that of the suspension which stood, so that a lapse lets nobody forget it.
        """
        change_id = f"{layout.SYSTEM_PREFIX}{cause.name.lower()}/{session.id.hex()}"
        reason = (session.reason or "suspended") if session.status is SessionStatus.SUSPENDED else ""
        self.log(end_session(change_id, session.id, reason, actor=layout.SYSTEM_ACTOR, cause=cause))

    def _end_lapsed(self, session_id: bytes) -> None:
        """End a session and those of its ancestors whose leases lapsed, before a change depends on them.

        Leases are not in the log, so a lapse must be a change of its own.
        """
        if not self.rows.has_lease(session_id):
            return
        session = self.rows.leased_session(session_id) if session_id else None
        for member in lineage(session, self.rows.leased_session):
            if member.status is not SessionStatus.ENDED and self._lease_lapsed(member):
                self.end(member, EndCause.LEASE_LAPSED)

    def _lease_lapsed(self, session: Session) -> bool:
        return bool(session.lease_ms) and self.at_ms >= session.lease_deadline_ms

    def _store_outcome(self, outcome: ChangeOutcome) -> None:
        change_id = outcome.change_id.encode()
        self.rows.put(layout.OUTCOMES, change_id, outcome.encode())
        order = outcome.seq.to_bytes(_SEQ_BYTES, "big")
        self.rows.put(layout.OUTCOME_ORDER, order, outcome.at_ms.to_bytes(8, "big") + change_id)

    def finish(self) -> None:
        """Drop a bounded number of the oldest rows, and write the head."""
        if self.dirty:
            if not self._dropped and self.is_carried:
                self.drop_old_rows()
            self.rows.write_head()

    def drop_old_rows(self) -> None:
        """Drop a bounded number of the oldest rows, once a group; a follower does so once a record."""
        self._dropped = True
        self._compact_changes()
        self._drop_outcomes()

    def _compact_changes(self) -> None:
        handle = self.rows.tables[layout.CHANGES]
        retained = self.retention.changes // 8 if self.full else self.retention.changes
        surplus = min(int(self.rows.txn.stat(handle)["entries"]) - retained, layout.COMPACT_STEP)
        if surplus <= 0:
            return
        seq, digest = self.rows.compacted()
        with self.rows.txn.cursor(db=handle) as cursor:
            more = cursor.first()
            while more and surplus:
                seq = int.from_bytes(cursor.key(), "big")
                digest = chain_digest(digest, seq, bytes(cursor.value()))
                self._drop_result(bytes(cursor.key()))
                more = cursor.delete() and bool(cursor.key())
                surplus -= 1
        self.rows.put_compacted(seq, digest)

    def _drop_outcomes(self) -> None:
        handle = self.rows.tables[layout.OUTCOME_ORDER]
        surplus = int(self.rows.txn.stat(handle)["entries"]) - self.retention.outcomes
        oldest_ms = self.at_ms - self.retention.outcomes_ms
        with self.rows.txn.cursor(db=handle) as cursor:
            more = cursor.first()
            for _ in range(layout.COMPACT_STEP):
                if not more:
                    return
                value = bytes(cursor.value())
                if surplus <= 0 and int.from_bytes(value[:8], "big") >= oldest_ms:
                    return
                self.rows.delete(layout.OUTCOMES, value[8:])
                more = cursor.delete() and bool(cursor.key())
                surplus -= 1


def _due_key(due_ms: int, session_id: bytes, item: bytes) -> bytes:
    return due_ms.to_bytes(8, "big") + session_id + item


# Kinds that let somebody do more than before. A statement for an approval does so too.
GIVING: Final = (ChangeKind.OPEN_SESSION, ChangeKind.UPDATE_FACTS, ChangeKind.RESUME_SESSION)


def frozen_error(reason: str) -> Rejected:
    """Return the error of a change that would give authority while everything is frozen for a reason."""
    return Rejected(Rejection.FROZEN, f"no authority is given until it is thawed: {reason}")


def _grants(change: Change) -> bool:
    return change.kind is ChangeKind.ANSWER_APPROVAL and bool(change.body.get("statement"))


def require_permitted(rows: TxnRows, change: Change, at_ms: int, frozen: str) -> None:
    """Raise Rejected FROZEN or BANNED for a change that gives authority which an operator refuses.

    Nothing of it is logged or stored, so its request id is free to ask again. ``frozen`` is why everything
    is; empty: it is not.
    """
    if frozen and (change.kind in GIVING or _grants(change)):
        raise frozen_error(frozen)
    if change.kind is ChangeKind.OPEN_SESSION:
        require_admitted(rows, change.body, at_ms)


_OLDEST_KINDS: Final = frozenset(
    {
        ChangeKind.OPEN_SESSION,
        ChangeKind.NARROW_SESSION,
        ChangeKind.UPDATE_FACTS,
        ChangeKind.SUSPEND_SESSION,
        ChangeKind.RESUME_SESSION,
        ChangeKind.END_SESSION,
        ChangeKind.REVOKE,
        ChangeKind.ADD_KEY,
        ChangeKind.SET_KEY_STATUS,
        ChangeKind.PURGE_SESSION,
        ChangeKind.NEW_INCARNATION,
        ChangeKind.CONSUME,
        ChangeKind.SETTLE_PERMIT,
        ChangeKind.REQUEST_APPROVAL,
        ChangeKind.ANSWER_APPROVAL,
    }
)
_LATEST_KINDS: Final = frozenset({ChangeKind.CUT_LOGINS})
# Fields of a body that came with the second format, later than its kind.
_LATER_FIELDS: Final = frozenset({"observe", "enforce", "mint_digest"})
_OLDEST_TABLES: Final = (layout.LEASES, layout.DUE)
_OLDEST_EVIDENCE: Final = (cluster_rows.RECEIPT, HOST)


def kind_format(kind: ChangeKind) -> int:
    """Return the format that a kind of change came with."""
    if kind in _OLDEST_KINDS:
        return OLDEST_FORMAT
    return FORMAT if kind in _LATEST_KINDS else SECOND_FORMAT


def _is_of_latest_format(scope: Mapping[str, Any]) -> bool:
    """Return True for a scope with a kind that came with the latest format."""
    return bool(scope.get("exception")) or any(
        condition.get("any")
        or condition.get("operator", 0) > Operator.ABSENT
        or condition.get("accessor", 0) > Accessor.PORT
        for condition in scope.get("where", ())
    )


def change_format(change: Change) -> int:
    """Return the format that a change came with: of its kind, or of a later addition to it."""
    if not _LATER_FIELDS.isdisjoint(change.body) and any(map(change.body.get, _LATER_FIELDS)):
        return SECOND_FORMAT
    ceiling = change.body.get("ceiling")
    if isinstance(ceiling, dict) and any(map(_is_of_latest_format, ceiling.get("scopes", ()))):
        return FORMAT
    approval = change.body.get("approval")
    if isinstance(approval, dict) and (approval.get("scope_text") or approval.get("charges")):
        return SECOND_FORMAT
    return kind_format(change.kind)


def row_format(table: str, key: bytes, value: bytes) -> int:
    """Return the format that a carried row came with; of a host's row, that of its fields."""
    if table == layout.EVIDENCE and key.startswith(HOST) and value:
        return host_format(value)
    is_oldest = table in _OLDEST_TABLES or (table == layout.EVIDENCE and key.startswith(_OLDEST_EVIDENCE))
    if is_oldest:
        return OLDEST_FORMAT
    return SECOND_FORMAT if (table, key) == (layout.EVIDENCE, cluster_rows.BRAKE) else FORMAT


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A time in ms to stamp changes with, and the reason why the wall clock is suspect (empty: it is not)."""

    at_ms: int
    suspect: str = ""


class GuardedClock:
    """Reads a clock; safe to use from any thread."""

    def __init__(self, clock: Clock) -> None:
        """Trust the wall clock as it is now, and measure deviations from it."""
        self._clock = clock
        self._offset_ms = clock.now_ms() - clock.steady_ms()

    def read(self) -> ClockReading:
        """Return the wall time; while it is suspect, the earlier of it and of the expected time.

        The earlier of the two can neither put a stamp into the future nor let a lease live longer.
        """
        wall_ms = self._clock.now_ms()
        expected_ms = self._clock.steady_ms() + self._offset_ms
        moved_ms = wall_ms - expected_ms
        if abs(moved_ms) <= limits.CLOCK_STEP_MS:
            return ClockReading(wall_ms)
        return ClockReading(
            min(wall_ms, expected_ms),
            f"the wall clock moved by {round(moved_ms / 1000)} s against the monotonic one since the state "
            "was opened, so only ends, suspensions, narrowings, revocations and distrust are written; set "
            "the clock right, or restart the server if it is right now",
        )


class GroupTooLarge(StateError):
    """A group does not fit into one record; its jobs may, one by one."""


class EngineRefused(StateError):
    """The engine of the log takes no such record; the message has its reason."""


class EngineFull(EngineRefused):
    """The engine of the log has no space, and takes no record at all."""


class GroupLog(Protocol):
    """The order of groups that all servers of a cluster share."""

    def refusal(self) -> NotLeader | None:
        """Return the error for callers that write; None while this server leads."""
        ...

    def append(self, group: Group) -> None:
        """Append a finished group, which is committed next.

        Raises StateError if the group must not be committed: NotLeader, OutcomeUnknown,
        EngineRefused, GroupTooLarge.
        """
        ...

    def commit_failed(self, reason: str) -> None:
        """Take notice that an appended group could not be committed on this host."""
        ...


class GroupSource:
    """A source of the kernel's view over one group after another; only for the writer's thread.

    Each :meth:`enter` gives later reads a new identity, so that a view reads all rows again for each job. It
    has no commit id for the same reason.
    """

    def __init__(self, source: LmdbSource) -> None:
        """Read the tables of ``source``, within the group that was entered last."""
        self.sessions = source.sessions
        self.leases = source.leases
        self.revoked = source.revoked
        self.keys = source.keys
        self.tallies = source.tallies
        self.meta = source.meta
        self.brake = source.brake
        self._identity = 0
        self._group: Group | None = None

    def enter(self, group: Group) -> None:
        """Read from ``group`` until :meth:`leave`."""
        self._identity += 1
        self._group = group

    def leave(self) -> None:
        """End reading from the group, whose transaction may be over."""
        self._group = None

    def begin(self) -> GroupReading:
        """Start a read. Raises RuntimeError outside of a group."""
        if self._group is None:
            raise RuntimeError("rows of a group are read within it only")
        return GroupReading(self._group, self._identity, self.meta)


class GroupReading:
    """A read within a group's transaction, which it does not end."""

    __slots__ = ("_get", "_group", "_identity", "_meta")

    def __init__(self, group: Group, identity: int, meta: object) -> None:
        """Read the rows of ``group`` under this identity."""
        self._group = group
        self._get: Callable[..., Any] = group.rows.txn.get
        self._identity = identity
        self._meta = meta

    def id(self) -> int:
        """Return the identity that :meth:`GroupSource.enter` gave."""
        return self._identity

    def get(self, key: bytes, default: None, db: object) -> bytes | None:
        """Return a row's value."""
        if db is self._meta and key == layout.HEAD_KEY:
            # A group holds the head beside the rows, and writes it once at the end.
            return self._group.rows.current.encode()
        value: bytes | None = self._get(key, None, db)
        return value

    def cursor(self, *, db: Any) -> lmdb.Cursor:
        """Return a cursor over a table."""
        return self._group.rows.txn.cursor(db=db)

    def abort(self) -> None:
        """Do nothing: the transaction is the group's."""
