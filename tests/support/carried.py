"""A carried log in memory, and servers on folders of their own that share it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from sessauth.clock import Clock
from sessauth.model.host import ServerKey
from sessauth.state import layout
from sessauth.state.lmdb.environment import LmdbSource
from sessauth.state.replication.carried_log import CarriedLog, apply_records
from sessauth.state.replication.carrier import (
    Appended,
    AppendStatus,
    Barrier,
    CarrierError,
    CompactedRecords,
    EngineRoom,
    Leader,
    LogHead,
)
from sessauth.state.replication.membership import admit, found
from sessauth.state.replication.snapshot import install
from sessauth.state.writer.group import Retention
from sessauth.state.writer.state_writer import StateWriter

NOTHING = LogHead(0, b"")
LONGEST_WAIT_MS = 50
COMMON = tuple(name for name in layout.TABLES if name not in (layout.META, layout.EVIDENCE))


@dataclass
class OneEngine:
    """The carrier of all servers of a test: a list, and who leads."""

    records: dict[int, bytes] = field(default_factory=dict)
    head: LogHead = NOTHING
    leading: Leader | None = None
    terms: int = 0
    trimmed: int = 0
    compacted: int = 0
    has_room: EngineRoom = field(default_factory=lambda: EngineRoom(0, 0, full=False))
    # Answers of the next appends instead of APPENDED; ``lost`` ones took effect.
    answers: list[tuple[AppendStatus, bool]] = field(default_factory=list)
    silent: bool = False
    engine_id: str = "one"
    changed: threading.Condition = field(default_factory=threading.Condition)
    beat_of: dict[str, bytes] = field(default_factory=dict)

    def lead(self, name: str, address: str, ttl_ms: int) -> Leader | None:
        """Give the lead, if nobody has it."""
        if self.leading is not None:
            return None
        self.terms += 1
        self.leading = Leader(name, address, self.terms)
        return self.leading

    def hold(self, leader: Leader) -> bool:
        """Return True while it leads."""
        self._answer()
        return self.leading == leader

    def resign(self, leader: Leader) -> None:
        """Take the lead back."""
        if self.leading == leader:
            self.leading = None

    def leader(self) -> Leader | None:
        """Return who leads."""
        self._answer()
        return self.leading

    def append(self, term: int, head: LogHead, record: bytes, digest: bytes, give_up_ms: int) -> Appended:
        """Append in order and in the term."""
        status, effect = self.answers.pop(0) if self.answers else (AppendStatus.APPENDED, True)
        number = head.number + 1
        with self.changed:
            if self.records.get(number) == record:
                return Appended(AppendStatus.APPENDED)
            if self.leading is None or self.leading.term != term or self.head != head:
                return Appended(AppendStatus.FENCED, "another leads")
            if effect:
                self.records[number] = record
                self.head = LogHead(number, digest)
                self.changed.notify_all()
        return Appended(status, "" if status is AppendStatus.APPENDED else "as the test wants")

    def barrier(self, name: str = "", beat: bytes = b"") -> Barrier:
        """Store the beat, and return the head."""
        self._answer()
        self.beat_of[name] = beat
        return Barrier(self.head, self.engine_id, self.head.number)

    def beats(self) -> dict[str, bytes]:
        """Return the last beat of each server."""
        self._answer()
        return dict(self.beat_of)

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return what comes behind a number."""
        self._answer()
        with self.changed:
            if after < self.trimmed or (after < self.head.number and after + 1 not in self.records):
                raise CompactedRecords(self.trimmed + 1)
            last = min(after + limit, self.head.number)
            return [(number, self.records[number]) for number in range(after + 1, last + 1)]

    def wait(self, after: int, timeout_ms: int) -> None:
        """Wait for more, not as long as one may: who ends a follower waits until it looks again."""
        with self.changed:
            self.changed.wait_for(lambda: self.head.number > after, min(timeout_ms, LONGEST_WAIT_MS) / 1000)

    def trim(self, up_to: int) -> None:
        """Forget the beginning."""
        self.trimmed = up_to

    def compact(self) -> None:
        """Count it."""
        self._answer()
        self.compacted += 1

    def room(self) -> EngineRoom:
        """Return the room that a test states."""
        self._answer()
        return self.has_room

    def seed(self, current: LogHead, head: LogHead) -> bool:
        """Replace the head, if it is the current one."""
        if self.head == current:
            self.head = head
        return self.head == head

    def close(self) -> None:
        """Do nothing."""

    def _answer(self) -> None:
        if self.silent:
            raise CarrierError("no member answers")


class Member:
    """A server of a cluster: its folder, key, and writer."""

    def __init__(
        self,
        engine: OneEngine,
        folder: Path,
        name: str,
        key: ServerKey,
        clock: Clock,
        retention: Retention | None = None,
    ) -> None:
        """Open a folder of the cluster."""
        self.name, self.key = name, key
        self.engine = engine
        self.folder, self._clock, self._retention = folder, clock, retention
        self._open()

    def _open(self) -> None:
        self.carried = CarriedLog(self.engine, self.name, self.key)
        self.writer = StateWriter.open(
            self.folder,
            carried=self.carried,
            map_size=32 << 20,
            clock=self._clock,
            retention=self._retention,
        )

    def restart(self) -> None:
        """Close the folder and open it again; this server leads no more."""
        self.writer.close()
        if self.carried.leader is not None:
            self.engine.resign(self.carried.leader)
        self._open()

    def lead(self) -> None:
        """Follow to the end and take the lead, which nobody has."""
        leader = self.engine.lead(self.name, f"{self.name}:1", 5000)
        assert leader is not None
        self.follow()
        self.carried.lead(leader, self.engine.barrier().engine_id)
        self.writer.run(self.carried.begin_term)

    def follow(self, page: int = 7) -> None:
        """Apply what the engine has, page by page."""
        while records := self.engine.read(self.number, page):
            encoded = [record for _, record in records]
            self.writer.run(lambda group, page=encoded: apply_records(group, page))

    @property
    def number(self) -> int:
        """The number of the last record here."""
        return self.writer.run(lambda group: apply_records(group, []))

    def tables(self) -> dict[str, dict[bytes, bytes]]:
        """Return all rows that hosts have in common, and the head."""
        return common_rows(self.writer.source())


def common_rows(source: LmdbSource) -> dict[str, dict[bytes, bytes]]:
    """Return the rows of a folder that hosts have in common, by table."""
    with source.rows() as rows:
        found = {}
        for name in COMMON:
            with rows.txn.cursor(db=rows.tables[name]) as cursor:
                found[name] = {bytes(key): bytes(value) for key, value in cursor}
        found["head"] = {b"head": rows.head().encode()}
        return found


def begin_cluster(
    folder: Path, clock: Clock, names: tuple[str, ...], retention: Retention | None = None
) -> tuple[OneEngine, list[Member]]:
    """Make a cluster of servers in folders below ``folder``; the first one leads."""
    engine, keys = OneEngine(), {name: ServerKey(name.encode().ljust(32, b"k")) for name in names}
    first = folder / names[0]
    StateWriter.open(first, create=True, map_size=32 << 20, clock=clock).close()
    found(first, names[0], keys[names[0]])
    members = [Member(engine, first, names[0], keys[names[0]], clock, retention)]
    members[0].lead()
    for name in names[1:]:
        admit(members[0].writer, name, keys[name].public_key)
        join(folder / name, members[0].writer.source(), clock)
        members.append(Member(engine, folder / name, name, keys[name], clock, retention))
    return engine, members


def join(folder: Path, source: LmdbSource, clock: Clock) -> None:
    """Make a folder a copy of a server's."""
    with (
        StateWriter.open(folder, create=True, map_size=32 << 20, clock=clock) as writer,
        source.rows() as rows,
    ):
        writer.run(lambda group: install(group, rows))
