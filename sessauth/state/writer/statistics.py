"""How many sessions there are, and what they have open, counted row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..._fast.codec import protobuf
from ...model.log_records import Head
from ...model.session import SessionStatus
from .. import layout
from ..lmdb.environment import LmdbSource
from ..lmdb.rows import TxnRows, field_number, status_in
from ..rules import counter_keys

# Rows that one read transaction looks at: a longer one holds up pages, a shorter one costs more.
CHUNK: Final = 1_024
_EPOCH: Final = field_number("SessionRecord", "epoch")
_PERMITS: Final = field_number("SessionCounts", "open_permits")
_APPROVALS: Final = field_number("SessionCounts", "open_approvals")
_APPROVALS_EPOCH: Final = field_number("SessionCounts", "approvals_epoch")


@dataclass(slots=True)
class StateStatistics:
    """Sessions by what their rows say, and what those that live have open.

    ``approvals`` wait for an answer; ``permits`` were neither committed nor released.
    """

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
    """Count the rows of all sessions, in steps of which each is consistent in itself.

    Takes some microseconds a session. Raises StateError where the state can't be read.
    """
    census = StateStatistics()
    after = b""
    while True:
        txn = source.reading()
        try:
            rows = TxnRows(txn, source.tables)
            ids = rows.ids_after(after, CHUNK)
            for after in ids:
                session = rows.get(layout.SESSIONS, after)
                if session is not None:
                    counts = rows.get(layout.COUNTERS, counter_keys.counts_key(after))
                    census._add(session, counts, rows.head())
        finally:
            txn.abort()
        if len(ids) < CHUNK:
            return census
