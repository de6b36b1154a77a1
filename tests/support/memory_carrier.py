"""An engine in memory with the semantics of the port, whose clock is driven and whose faults a test sets."""

from __future__ import annotations

import copy
import threading
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from sessauth.clock import Clock
from sessauth.state.replication.carrier import (
    DIGEST_BYTES,
    MAX_RECORD_BYTES,
    Appended,
    AppendStatus,
    Barrier,
    CarrierError,
    CompactedRecords,
    EngineRoom,
    Leader,
    LogHead,
    OwnBeats,
    beat_digest,
)

ATTEMPT_MS: Final = 1000
NO_RECORD: Final = LogHead(0, b"")


class Fault(Enum):
    """The fate of one attempt to append."""

    LOST_BEFORE = "the answer is lost, and the record is not appended"
    LOST_AFTER = "the answer is lost, and the record is appended"
    REFUSED = "refused"


@dataclass
class Past:
    """Everything that an engine stores."""

    revision: int = 1
    leader: Leader | None = None
    leader_until_ms: int = 0
    ttl_ms: int = 0
    head: LogHead = NO_RECORD
    log: dict[int, bytes] = field(default_factory=dict)
    beats: dict[str, bytes] = field(default_factory=dict)
    beat_revisions: dict[str, int] = field(default_factory=dict)


class MemoryEngine:
    """An engine that several carriers share. Leases pass by ``clock``.

    ``faults`` are of the next attempts to append, one each. While ``silent`` no call is answered, and none of
    the servers named in ``cut``.
    """

    def __init__(self, clock: Clock, engine_id: str = "engine") -> None:
        """Begin with nothing."""
        self.changed = threading.Condition(threading.RLock())
        self.faults: deque[Fault] = deque()
        self.silent = False
        self.cut: set[str] = set()
        self._clock = clock
        self._engine_id = engine_id
        self._past = Past()

    def save(self) -> Past:
        """Return a copy of everything, as a backup."""
        with self.changed:
            return copy.deepcopy(self._past)

    def restore(self, past: Past) -> None:
        """Go back to an earlier point; the id stays."""
        with self.changed:
            self._past = copy.deepcopy(past)

    def wipe(self) -> None:
        """Lose everything; the id stays."""
        self.restore(Past())

    def alter(self, number: int, record: bytes) -> None:
        """Replace a record, as an intruder could."""
        with self.changed:
            self._past.log[number] = record

    def replay(self, number: int, as_number: int) -> None:
        """Store a record under another number as well, as an intruder could."""
        self.alter(as_number, self._past.log[number])

    def record(self, number: int) -> bytes | None:
        """Return a record."""
        return self._past.log.get(number)

    def head(self) -> LogHead:
        """Return the end of the log."""
        return self._past.head

    def lead(self, name: str, address: str, ttl_ms: int) -> Leader | None:
        """Make a server the leader if there is none."""
        with self.changed:
            if self.leader() is not None:
                return None
            past = self._past
            past.leader = Leader(name, address, self._next())
            past.ttl_ms, past.leader_until_ms = ttl_ms, self._clock.steady_ms() + ttl_ms
            return past.leader

    def hold(self, leader: Leader) -> bool:
        """Extend the lease of the leader."""
        with self.changed:
            if self.leader() != leader:
                return False
            self._past.leader_until_ms = self._clock.steady_ms() + self._past.ttl_ms
            return True

    def resign(self, leader: Leader) -> None:
        """Remove the leader."""
        with self.changed:
            if self.leader() == leader:
                self._past.leader = None
                self._next()

    def leader(self) -> Leader | None:
        """Return the leader; its key goes with its lease."""
        with self.changed:
            past = self._past
            if past.leader is not None and self._clock.steady_ms() >= past.leader_until_ms:
                past.leader = None
                self._next()
            return past.leader

    def append(self, term: int, head: LogHead, record: bytes, new: LogHead, *, lost: bool) -> Appended:
        """Append a record behind ``head``; ``lost``: an attempt before had no answer."""
        with self.changed:
            past, leader = self._past, self.leader()
            at = past.log.get(new.number)
            if at is not None:
                if at == record:
                    return Appended(AppendStatus.APPENDED)
                return Appended(AppendStatus.FENCED, f"record {new.number} is another one")
            if past.head == new:
                return Appended(AppendStatus.APPENDED)
            if past.head.number > new.number or (
                lost and past.head != head and past.head.number <= head.number
            ):
                return Appended(AppendStatus.UNKNOWN, f"the log is at {past.head.number}")
            if past.head != head:
                return Appended(AppendStatus.FENCED, f"the log is at {past.head.number}")
            if leader is None or leader.term != term:
                return Appended(AppendStatus.FENCED, "another server leads")
            past.log[new.number], past.head = record, new
            self._next()
            return Appended(AppendStatus.APPENDED)

    def barrier(self, name: str, beat: bytes) -> Barrier:
        """Store a beat."""
        with self.changed:
            self._past.beats[name] = beat
            revision = self._past.beat_revisions[name] = self._next()
            return Barrier(self._past.head, self._engine_id, revision)

    def beats(self) -> dict[str, tuple[int, bytes]]:
        """Return all beats, each with its revision."""
        with self.changed:
            past = self._past
            return {name: (past.beat_revisions[name], beat) for name, beat in past.beats.items()}

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return records behind ``after``."""
        with self.changed:
            found = sorted(item for item in self._past.log.items() if item[0] > after)
            if not found and self._past.head.number > after:
                raise CompactedRecords(self._past.head.number + 1)
            if found and found[0][0] != after + 1:
                raise CompactedRecords(found[0][0])
            return found[: max(limit, 1)]

    def trim(self, up_to: int) -> None:
        """Remove records up to a number."""
        with self.changed:
            log = {number: record for number, record in self._past.log.items() if number > up_to}
            if log != self._past.log:
                self._past.log = log
                self._next()

    def seed(self, current: LogHead, head: LogHead) -> bool:
        """Replace the head, if it is the current one."""
        with self.changed:
            if self._past.head == current:
                self._past.head = head
                self._next()
            return self._past.head == head

    def _next(self) -> int:
        self._past.revision += 1
        self.changed.notify_all()
        return self._past.revision


class MemoryCarrier:
    """One server's connection to an engine in memory."""

    def __init__(self, engine: MemoryEngine, server: str) -> None:
        """Connect a server; its name is that in ``engine.cut``."""
        self._engine = engine
        self._server = server
        self._closed = False
        self._terms: set[int] = set()
        self._own = OwnBeats()

    def _reached(self) -> MemoryEngine:
        if self._closed or self._lost():
            raise CarrierError("closed" if self._closed else "no answer")
        return self._engine

    def _lost(self) -> bool:
        return self._engine.silent or self._server in self._engine.cut

    def lead(self, name: str, address: str, ttl_ms: int) -> Leader | None:
        """Try to become the leader."""
        self._own.require()
        leader = self._reached().lead(name, address, ttl_ms)
        if leader is not None:
            self._terms.add(leader.term)
        return leader

    def hold(self, leader: Leader) -> bool:
        """Keep a leader's key; False for a term that this carrier did not get."""
        self._own.require()
        return self._reached().hold(leader) and leader.term in self._terms

    def resign(self, leader: Leader) -> None:
        """Give the key back."""
        if leader.term in self._terms and not self._closed and not self._lost():
            self._engine.resign(leader)

    def leader(self) -> Leader | None:
        """Return who leads."""
        return self._reached().leader()

    def append(self, term: int, head: LogHead, record: bytes, digest: bytes, give_up_ms: int) -> Appended:
        """Append a record; a lost attempt counts as a second of ``give_up_ms``."""
        if len(digest) != DIGEST_BYTES:
            raise ValueError("a digest has 32 bytes")
        if term < 1:
            return Appended(AppendStatus.FENCED, "no leader has the term 0")
        if not 0 < len(record) <= MAX_RECORD_BYTES:
            return Appended(AppendStatus.REFUSED, "too large")
        engine, new, lost = self._engine, LogHead(head.number + 1, digest), False
        for _ in range(0, give_up_ms, ATTEMPT_MS):
            if self._closed or self._lost():
                lost = True
                continue
            fault = engine.faults.popleft() if engine.faults else None
            if fault is Fault.REFUSED:
                return Appended(AppendStatus.UNKNOWN if lost else AppendStatus.REFUSED, "refused")
            if fault is not Fault.LOST_BEFORE:
                answer = engine.append(term, head, record, new, lost=lost)
                if fault is None:
                    return answer
            lost = True
        return Appended(AppendStatus.UNKNOWN, "no answer")

    def barrier(self, name: str, beat: bytes) -> Barrier:
        """Write a beat, and read the head."""
        engine = self._reached()
        with engine.changed:
            self._own.send(name, beat)
            revision, stored = engine.beats().get(name, (0, b""))
            self._own.learn(name, revision, beat_digest(stored))
            self._own.send(name, beat)
            barrier = engine.barrier(name, beat)
            self._own.learn(name, barrier.engine_revision, beat_digest(beat))
            return barrier

    def beats(self) -> dict[str, bytes]:
        """Return the last beat of each server."""
        beats = self._reached().beats()
        for name, (revision, beat) in beats.items():
            self._own.check(name, revision, beat_digest(beat))
        return {name: beat for name, (_, beat) in beats.items()}

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return records behind ``after``."""
        return self._reached().read(after, limit)

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return soon after a record behind ``after`` exists, or after the time-out."""
        with self._engine.changed:
            self._engine.changed.wait_for(lambda: self._closed or self._newer(after), timeout_ms / 1000)
        if self._closed:
            raise CarrierError("closed")

    def _newer(self, after: int) -> bool:
        return not self._lost() and self._engine.head().number > after

    def trim(self, up_to: int) -> None:
        """Remove records up to this number."""
        self._reached().trim(up_to)

    def compact(self) -> None:
        """Do nothing: no history is kept."""
        self._reached()

    def room(self) -> EngineRoom:
        """Return the size of the records."""
        self._reached()
        return EngineRoom(sum(map(len, self._engine.save().log.values())), 0, full=False)

    def seed(self, current: LogHead, head: LogHead) -> bool:
        """Replace the head, if it is the current one."""
        return self._reached().seed(current, head)

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        with self._engine.changed:
            self._engine.changed.notify_all()
