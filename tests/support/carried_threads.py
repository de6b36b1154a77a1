"""A server of a cluster with its threads: follower, election and freshness, on an engine in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sessauth.clock import Clock, SystemClock
from sessauth.errors import RecordRefused
from sessauth.state.replication.carrier import EngineSource
from sessauth.state.replication.election import Election
from sessauth.state.replication.follower import Freshness, ReplicationThread
from tests.support.carried import Member, OneEngine, begin_cluster

PATIENCE_S = 15.0


@dataclass
class Grants:
    """The page of a host: until when it is fresh, and all that was written there, in order."""

    written: list[int] = field(default_factory=list)

    def extend(self, until_ms: int) -> None:
        """Write a time."""
        self.written.append(until_ms)

    def deny(self) -> None:
        """Write that nothing is fresh."""
        self.written.append(0)


class Host:
    """A member with its threads, which :meth:`start` starts."""

    def __init__(self, member: Member, clock: Clock, *, ttl_ms: int = 600, bound_ms: int = 3_000) -> None:
        """Wire the threads as a server does."""
        self.member, self.grants = member, Grants()
        self.alarms: list[RecordRefused] = []
        self.lost: list[str] = []
        carried, source = member.carried, EngineSource(member.engine, member.name)
        carried.on_step_down = self.lost.append
        self.follower = ReplicationThread(source, member.writer, idle=lambda: carried.leader is not None)
        self.follower.on_alarm = self.alarms.append
        self.freshness = Freshness(
            source, self.follower, clock, self.grants.extend, self.grants.deny, bound_ms=bound_ms
        )
        address = f"{member.name}:1"
        self.election = Election(carried, self.follower, member.writer, address, ttl_ms=ttl_ms)

    @property
    def leads(self) -> bool:
        """True while this host leads."""
        return self.member.carried.leader is not None

    def start(self, *, election: bool = True) -> None:
        """Start the threads."""
        self.follower.start()
        self.freshness.start()
        if election:
            self.election.start()

    def close(self) -> None:
        """End the threads and close the folder, each within the time that it may take."""
        began = time.monotonic()
        for part in (self.election, self.freshness, self.follower):
            part.close()
        self.member.writer.close()
        assert time.monotonic() - began < PATIENCE_S


@contextmanager
def hosts_of(folder: Path, clock: Clock | None = None, *names: str) -> Iterator[tuple[OneEngine, list[Host]]]:
    """Begin a cluster in which nobody leads yet, and no thread runs."""
    clock = clock or SystemClock()
    engine, members = begin_cluster(folder, clock, names or ("one", "two"))
    for member in members:
        leader = member.carried.leader
        if leader is not None:
            member.carried.step_down("for the test")
            engine.resign(leader)
    hosts = [Host(member, clock) for member in members]
    try:
        yield engine, hosts
    finally:
        engine.silent = False
        for host in hosts:
            host.close()


def until(true: Callable[[], object], what: str = "it") -> None:
    """Wait until something is so; fails after a long time."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.01)
