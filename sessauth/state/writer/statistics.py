"""Counts of sessions and of their open permits and approvals, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..._fast import _check as kernel
from ...model.session import SessionStatus
from .. import layout
from ..lmdb.effective_status import effective_status, judged_at_ms
from ..lmdb.environment import LmdbSource
from ..lmdb.rows import field_number
from ..rules import cost_rows

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
                    counts = rows.get(layout.COUNTERS, cost_rows.counts_key(after))
                    census._add(found.status, session, counts)
        if len(ids) < CHUNK:
            return census
