"""Effective status: the status of a session as a check finds it, by its own row and those of its ancestors.

An end or a suspension is one row, whatever the number of descendants. A time that has passed has no row until
the sweep. Each check evaluates these at call time. Here the same rule of the kernel evaluates the same rows
on every read, and nothing is stored. Counts of sessions, and of their open permits and approvals, are made
row by row by that rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from ..._fast import _check as kernel
from ..._fast._check import replaced, session_refusal
from ...limits import MAX_ANCESTORS
from ...model.session import EndCause, Session, SessionStatus
from ...reasons import Reason
from .. import layout
from ..rules import effects
from .environment import LmdbSource
from .rows import TxnRows, field_number

# Ascending.
_FIELDS: Final = tuple(
    field_number("SessionRecord", name)
    for name in ("parent_id", "status", "expires_at_ms", "lease_ms", "end_cause", "revision")
)


# As numbers: these are compared for each row of a table.
_SUSPENDED: Final = int(Reason.SESSION_SUSPENDED)
_ENDED: Final = int(SessionStatus.ENDED)
_PARENT_ENDED: Final = int(EndCause.PARENT_ENDED)


class EffectiveStatus(NamedTuple):
    """The effective status of a session.

    ``decided_by`` is the id of the session whose row decides it: its own or an ancestor's. An end decides
    before a suspension, and the nearer row before the farther one, unless all it holds is its parent's end.
    ``reason`` is a check's; 0 for an active session.
    """

    status: SessionStatus
    decided_by: bytes
    reason: int


def judged_at_ms(rows: TxnRows, wall_ms: int) -> int:
    """Return the time that a check uses at a time of the wall clock: never before a logged change."""
    return max(wall_ms, rows.current.clock_floor_ms)


def effective_status(rows: TxnRows, session_id: bytes, now_ms: int) -> EffectiveStatus | None:
    """Return the effective status of a session at ``now_ms``; None if there is no such session.

    Decodes no row as a whole. Raises WireError for a row that is none.
    """
    ended = suspended = None
    member_id = session_id
    for _ in range(MAX_ANCESTORS + 1):
        row = rows.get(layout.SESSIONS, member_id)
        if row is None:
            break
        parent_id, status, expires_at_ms, lease_ms, cause, revision = kernel.read_fields(row, _FIELDS)
        if (revision or 0) < rows.current.incarnation_revision:
            status = _ENDED
        deadline_ms = int.from_bytes(rows.get(layout.LEASES, member_id) or b"", "big") if lease_ms else 0
        reason = session_refusal(status or 0, expires_at_ms or 0, lease_ms or 0, deadline_ms, now_ms)
        if reason == _SUSPENDED:
            suspended = suspended or EffectiveStatus(SessionStatus.SUSPENDED, member_id, reason)
        elif reason:
            ended = EffectiveStatus(SessionStatus.ENDED, member_id, reason)
            if cause != _PARENT_ENDED:
                return ended
        if not parent_id:
            return ended or suspended or EffectiveStatus(SessionStatus.ACTIVE, session_id, 0)
        member_id = parent_id
    if member_id == session_id:
        return None
    # An ancestor is gone, or there are too many.
    return ended or EffectiveStatus(SessionStatus.ENDED, member_id, Reason.UNKNOWN_SESSION)


def effective_session(rows: TxnRows, session_id: bytes, now_ms: int) -> Session | None:
    """Return a session with its lease deadline and its effective status; None if there is no such session."""
    found = effective_status(rows, session_id, now_ms)
    return None if found is None else with_status(rows, session_id, found)


def with_status(rows: TxnRows, session_id: bytes, found: EffectiveStatus) -> Session | None:
    """Return a session with its lease deadline and the effective status that was ``found`` in the same read.

    Time and reason of an end, and the reason of a suspension, are those of the session that decides.
    """
    session = rows.leased_session(session_id)
    own = found.decided_by == session_id
    if session is None or (own and found.status is session.status):
        return session
    decider = session if own else rows.leased_session(found.decided_by)
    shown = replaced(session, status=found.status, inherited_from=b"" if own else found.decided_by)
    if found.status is SessionStatus.SUSPENDED:
        return replaced(shown, reason="" if decider is None else decider.reason)
    cause = EndCause.PARENT_ENDED
    if own:
        lapsed = found.reason == Reason.LEASE_LAPSED
        cause = EndCause.LEASE_LAPSED if lapsed else EndCause.EXPIRED
    ended_at_ms, reason = _end(decider or session, found.reason)
    return replaced(shown, ended_at_ms=ended_at_ms, end_cause=cause, reason=reason)


def _end(session: Session, reason: int) -> tuple[int, str]:
    """Return when a session ended and why; no reason where its row does not hold the end yet."""
    if session.status is SessionStatus.ENDED:
        return session.ended_at_ms, session.reason
    if reason == Reason.LEASE_LAPSED:
        return session.lease_deadline_ms, ""
    return session.expires_at_ms, ""


# Rows that one transaction reads: a longer one blocks the reuse of pages, a shorter one costs more.
CHUNK: Final = 1_024
_EPOCH: Final = field_number("SessionRecord", "epoch")
_PERMITS: Final = field_number("SessionCounts", "open_permits")
_APPROVALS: Final = field_number("SessionCounts", "open_approvals")
_APPROVALS_EPOCH: Final = field_number("SessionCounts", "approvals_epoch")


@dataclass(slots=True)
class StateStatistics:
    """Sessions by effective status; the open permits and pending approvals of those that have not ended."""

    active: int = 0
    suspended: int = 0
    ended: int = 0
    permits: int = 0
    approvals: int = 0

    def _add(self, status: SessionStatus, session: bytes, counts: bytes | None) -> None:
        """Count a session by its status, its row and its counts."""
        if status is SessionStatus.ENDED:
            self.ended += 1
            return
        if status is SessionStatus.SUSPENDED:
            self.suspended += 1
        else:
            self.active += 1
        if counts is not None:
            self.permits += kernel.read_number(counts, _PERMITS)
            if kernel.read_number(counts, _APPROVALS_EPOCH) == kernel.read_number(session, _EPOCH):
                self.approvals += kernel.read_number(counts, _APPROVALS)


def take(source: LmdbSource, wall_ms: int) -> StateStatistics:
    """Count the rows of all sessions as they are at a wall time, in steps that are each one consistent read.

    Takes some microseconds a session. Raises StateError if the state can't be read.
    """
    census = StateStatistics()
    after = b""
    while True:
        with source.rows() as rows:
            ids, now_ms = rows.ids_after(after, CHUNK), judged_at_ms(rows, wall_ms)
            for after in ids:
                session = rows.get(layout.SESSIONS, after)
                found = effective_status(rows, after, now_ms)
                if session is not None and found is not None:
                    counts = rows.get(layout.COUNTERS, effects.counts_key(after))
                    census._add(found.status, session, counts)
        if len(ids) < CHUNK:
            return census
