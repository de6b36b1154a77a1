"""Counts of sessions and of their open permits and approvals, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..._fast.codec import protobuf
from ...model.log_records import Head
from ...model.session import SessionStatus
from .. import layout
from ..lmdb.environment import LmdbSource
from ..lmdb.rows import field_number, status_in
from ..rules import cost_rows

# Rows that one transaction reads: a longer one blocks the reuse of pages, a shorter one costs more.
CHUNK: Final = 1_024
_EPOCH: Final = field_number("SessionRecord", "epoch")
_PERMITS: Final = field_number("SessionCounts", "open_permits")
_APPROVALS: Final = field_number("SessionCounts", "open_approvals")
_APPROVALS_EPOCH: Final = field_number("SessionCounts", "approvals_epoch")


@dataclass(slots=True)
class StateStatistics:
    """Sessions by status, and the open permits and pending approvals of those that have not ended."""

    active: int = 0
    suspended: int = 0
    ended: int = 0
    permits: int = 0
    approvals: int = 0

    def _add(self, session: bytes, counts: bytes | None, head: Head) -> None:
        """Count a session by its row and its counts."""
        status = status_in(session, head)
        if status == SessionStatus.ENDED:
            self.ended += 1
            return
        if status == SessionStatus.SUSPENDED:
            self.suspended += 1
        else:
            self.active += 1
        if counts is not None:
            self.permits += protobuf.number(counts, _PERMITS)
            if protobuf.number(counts, _APPROVALS_EPOCH) == protobuf.number(session, _EPOCH):
                self.approvals += protobuf.number(counts, _APPROVALS)


def take(source: LmdbSource) -> StateStatistics:
    """Count the rows of all sessions, in steps that are each one consistent read.

    Takes some microseconds a session. Raises StateError if the state can't be read.
    """
    census = StateStatistics()
    after = b""
    while True:
        with source.rows() as rows:
            ids = rows.ids_after(after, CHUNK)
            for after in ids:
                session = rows.get(layout.SESSIONS, after)
                if session is not None:
                    counts = rows.get(layout.COUNTERS, cost_rows.counts_key(after))
                    census._add(session, counts, rows.head())
        if len(ids) < CHUNK:
            return census
