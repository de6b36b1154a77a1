"""A plain model of what sessions have spent and hold, in dicts and integers, and where its rows stand."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import lmdb

from sessauth.clock import FixedClock
from sessauth.errors import OutcomeUnknown
from sessauth.model.approval import ApprovalStatus
from sessauth.model.change import Change, ChangeKind, ChangeOutcome
from sessauth.state import layout
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb.feed import ChangeLog
from sessauth.state.lmdb.rows import TxnRows
from sessauth.state.rules.effects import CostRows
from sessauth.state.writer.group import Group, Retention
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW, MemoryRows

T = TypeVar("T")
MAP = 8 << 20


@dataclass
class ModelPermit:
    """An open permit: the epoch and gateway it is bound to, its deadline, and what it holds by ledger."""

    epoch: int
    gateway: str
    deadline_ms: int
    reserved: dict[bytes, int]


@dataclass
class ModelApproval:
    """An approval that was asked for, and who signed it."""

    call: int
    epoch: int
    expires_at_ms: int
    threshold: int
    status: ApprovalStatus = ApprovalStatus.PENDING
    signers: set[int] = field(default_factory=set)


@dataclass
class ModelSession:
    """A session and all that its calls have cost."""

    expires_at_ms: int
    parent: bytes = b""
    epoch: int = 1
    ended: bool = False
    suspended: bool = False
    uses: Counter[int] = field(default_factory=Counter)
    spent: Counter[bytes] = field(default_factory=Counter)
    permits: dict[bytes, ModelPermit] = field(default_factory=dict)
    approvals: dict[bytes, ModelApproval] = field(default_factory=dict)
    used_approvals: set[bytes] = field(default_factory=set)

    def reserved(self, ledger: bytes) -> int:
        """Return what open permits hold of a ledger."""
        return sum(permit.reserved.get(ledger, 0) for permit in self.permits.values())

    def waiting(self) -> int:
        """Return how many approvals wait."""
        return sum(
            approval.status is ApprovalStatus.PENDING and approval.epoch == self.epoch
            for approval in self.approvals.values()
        )


class InMemory:
    """Rows in dicts. Changes are judged one by one; what expires is found by walking the rows."""

    def __init__(self) -> None:
        """Start empty."""
        self.rows = MemoryRows()
        self.now_ms = NOW
        self._first: dict[str, ChangeOutcome] = {}

    def do(self, change: Change) -> ChangeOutcome:
        """Apply a change, or find what came of the consumption that had its id."""
        first = self._first.get(change.id)
        if first is not None:
            same = first.digest == change.digest()
            return first if same else ChangeOutcome(change.id, rejection="CONFLICT")
        outcome = self.rows.do(change, self.now_ms)
        if change.kind is ChangeKind.CONSUME and outcome.applied:
            self._first[change.id] = outcome
        return outcome

    def wait(self, ms: int) -> None:
        """Let time go by."""
        self.now_ms += ms

    def look(self, work: Callable[[CostRows], T]) -> T:
        """Return what ``work`` reads."""
        return work(self.rows)

    def crash(self, change: Change) -> None:
        """Apply a change to rows that are thrown away."""
        kept = {name: dict(table) for name, table in self.rows.tables.items()}
        current = self.rows.current
        self.rows.do(change, self.now_ms)
        self.rows.tables, self.rows.current = kept, current

    def close(self) -> None:
        """Do nothing."""


class OnDisk:
    """A real writer on a folder of its own; :meth:`crash` breaks its commit and opens the folder again."""

    def __init__(self) -> None:
        """Make the folder."""
        self._folder = Path(tempfile.mkdtemp(prefix="sessauth-model-"))
        self._clock = FixedClock(NOW)
        self.writer = self._open(create=True)

    def _open(self, *, create: bool = False) -> StateWriter:
        return StateWriter.open(
            self._folder / "state",
            create=create,
            map_size=MAP,
            clock=self._clock,
            retention=Retention(ended_ms=20),
        )

    @property
    def now_ms(self) -> int:
        """The writer's clock."""
        return self._clock.now_ms()

    def do(self, change: Change) -> ChangeOutcome:
        """Have a change made durable."""
        return self.writer.decide(lambda group: group.submit(change), 1024).result(20)

    def wait(self, ms: int) -> None:
        """Let time go by; the sweep comes round."""
        self._clock.advance(ms)
        while self.writer.sweep().more:
            pass

    def look(self, work: Callable[[CostRows], T]) -> T:
        """Return what ``work`` reads, after all rows were held against each other."""

        def read(group: Group) -> T:
            verify(group.rows)
            return work(group.rows)

        return self.writer.decide(read, 0).result(20)

    def crash(self, change: Change) -> None:
        """Lose a change: it is judged and written, its commit fails, and the writer starts anew."""

        def lose(group: Group) -> None:
            group.submit(change)
            raise lmdb.Error("the disk is gone")

        try:
            self.writer.decide(lose, 1024).result(20)
        except OutcomeUnknown:
            self.reopen()
            return
        raise AssertionError("a commit that failed was acknowledged")

    def reopen(self) -> None:
        """Close the writer, and open the folder again."""
        self.writer.close()
        self.writer = self._open()
        assert not self.writer.braked

    def followed(self) -> None:
        """Hold that whoever applies the log's changes reaches the very rows of the writer."""
        feed, follower = ChangeLog(self.writer.source()), MemoryRows()
        while changes := feed.changes(follower.head().seq):
            for _, change in changes:
                follower.do(change, change.at_ms)
        assert follower.head().digest == feed.head().digest

        def rows_of(rows: TxnRows, table: str) -> dict[bytes, bytes | None]:
            return {key: rows.get(table, key) for key in rows.keys_after(table, b"", 100_000)}

        def compare(group: Group) -> None:
            for table in (layout.SESSIONS, layout.COUNTERS, layout.PERMITS, layout.APPROVALS):
                assert rows_of(group.rows, table) == follower.tables[table]

        self.writer.decide(compare, 0).result(20)

    def close(self) -> None:
        """Remove the folder."""
        self.writer.close()
        shutil.rmtree(self._folder)


def tables_of(session_id: bytes, rows: CostRows) -> int:
    """Return how many rows of costs a session has."""
    names = (layout.COUNTERS, layout.PERMITS, layout.APPROVALS)
    if isinstance(rows, TxnRows):
        return sum(len(rows.keys_after(name, b"", 10_000, session_id)) for name in names)
    assert isinstance(rows, MemoryRows)
    return sum(key.startswith(session_id) for name in names for key in rows.tables[name])
