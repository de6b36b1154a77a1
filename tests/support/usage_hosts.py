"""Hosts of a cluster with a usage store each, and a network between them that drops and repeats reports."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from sessauth.client._usage_messages import session_message
from sessauth.clock import FixedClock
from sessauth.errors import NotLeader, ServerError
from sessauth.model.host import HostRecord
from sessauth.model.session import Session, SessionStatus
from sessauth.server.events import Event, UsesAfterEnd
from sessauth.server.sections import UsageSettings
from sessauth.server.usage.cluster_usage import ClusterUsage, RemovedHosts
from sessauth.server.usage.host_report import RESEND_MS, UsagePassOn, read_report
from sessauth.server.usage.store import UsageFiles, UsageStore
from sessauth.usage.session_usage import ObservationBatch, SessionObservation, UseAfterEnd
from sessauth.v1 import usage_service_pb2 as pb
from tests.support.observations import AT
from tests.support.usage_example import session as make_session

Fault = Literal["", "lost", "answer lost", "twice", "late"]


class UsageHost:
    """One host: its store in a folder, its report to the leader, and its own report if it leads."""

    def __init__(self, world: UsageWorld, name: str) -> None:
        """Start its process."""
        self.world = world
        self.name = name
        self.folder = world.folder / name.replace("/", "-")
        self.fault: Fault = ""
        self.delayed: list[pb.ReportHostUsageRequest] = []
        self.events: list[Event] = []
        self.start()

    def start(self) -> None:
        """Start its process, with what its folder holds."""
        world, settings = self.world, self.world.settings
        files = UsageFiles(self.folder, max_files=settings.max_sessions, max_bytes=settings.max_stored_bytes)
        self.store = UsageStore(world, settings, files, world.clock)
        self.uses = UsesAfterEnd(world, self.events.append)
        self.cluster = ClusterUsage(
            self.name,
            _State(world, self),
            self.store,
            RemovedHosts(self.folder, settings.keep_ms),
            self.uses,
            settings,
            lambda: world.term if world.leader is self else 0,
            world.clock,
        )
        self.pass_on = UsagePassOn(
            self.name, self.store, self.uses, self.send, lambda: world.leader is self, world.clock
        )
        self.store.on_change = self.pass_on.mark
        self.store.on_used_after_end = self._late

    def restart(self, *, killed: bool = False) -> None:
        """End its process, in order or not, and start the next."""
        if not killed:
            self.pass_on.close()
            self.store.close()
        # A process takes its time.
        self.world.clock.advance(1)
        self.start()

    def _late(self, session_id: bytes, verifier: str, use: UseAfterEnd) -> None:
        self.uses.on_used_after_end(session_id, f"{self.name}/{verifier}", use)
        self.cluster.on_used_after_end(session_id, verifier, use)
        self.pass_on.on_used_after_end(session_id, verifier, use)

    def observe(self, *sessions: SessionObservation, lost: int = 0, verifier: str = "gw") -> None:
        """Have a verifier report."""
        number = next(self.world.numbers)
        batch = ObservationBatch(number.to_bytes(16, "big"), 1, verifier, lost, sessions)
        self.store.report_observations(batch)

    def send(self, request: pb.ReportHostUsageRequest) -> pb.ReportHostUsageResponse:
        """Send a report to the leader, as far as the fault of the network lets it."""
        # What is on the network is bytes.
        request = pb.ReportHostUsageRequest.FromString(request.SerializeToString())
        fault, self.fault = self.fault, ""
        if fault == "late":
            self.delayed.append(request)
        if fault in ("lost", "late") or self.world.leader is None:
            raise NotLeader("nobody answered")
        answer = self.world.take(request)
        if fault == "twice":
            answer = self.world.take(request)
        if fault == "answer lost":
            raise NotLeader("nobody answered")
        return answer

    def deliver_late(self) -> None:
        """Have the delayed reports come in now, the last one first."""
        for request in reversed(self.delayed):
            if self.world.leader is not None:
                # One of an earlier run is refused.
                with suppress(ServerError):
                    self.world.take(request)
        self.delayed.clear()

    def report(self, session_id: bytes) -> pb.SessionReport:
        """Return the report of a session, as the leader."""
        report = self.cluster.report(session_id)
        assert report is not None
        return report


class _State:
    """The state as a host has it."""

    def __init__(self, world: UsageWorld, host: UsageHost) -> None:
        self._world = world
        self._host = host

    def get_session(self, session_id: bytes) -> Session | None:
        return self._world.get_session(session_id)

    def hosts(self) -> list[HostRecord]:
        return list(self._world.registered.values())

    def require_leading(self) -> None:
        if self._world.leader is not self._host:
            raise NotLeader("another server leads")


class UsageWorld:
    """Sessions and hosts of one cluster; nobody leads yet."""

    def __init__(self, folder: Path, *names: str, **settings: Any) -> None:
        """Start hosts; ``settings`` as in the section of the configuration."""
        self.folder = folder
        self.clock = FixedClock(AT)
        self.settings = UsageSettings(enabled=True, **settings)
        self.sessions: dict[bytes, Session] = {}
        self.numbers = iter(range(1, 1_000_000))
        self.term = 0
        self.leader: UsageHost | None = None
        self.registered: dict[str, HostRecord] = {}
        self.hosts: dict[str, UsageHost] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> UsageHost:
        """Register and start a host."""
        principal = "" if name.startswith("server/") else name
        self.registered[name] = HostRecord(name, principal, bytes(16), 3_000)
        self.hosts[name] = UsageHost(self, name)
        return self.hosts[name]

    def lead(self, name: str) -> UsageHost:
        """Have a host take over."""
        self.term += 1
        self.leader = self.hosts[name]
        return self.leader

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session, as the log does."""
        return self.sessions.get(session_id)

    def open(self, number: int = 1) -> bytes:
        """Open a session now."""
        session_id = number.to_bytes(16, "big")
        self.sessions[session_id] = make_session(
            id=session_id,
            status=SessionStatus.ACTIVE,
            ended_at_ms=0,
            opened_at_ms=self.clock.now_ms(),
            expires_at_ms=AT + 36_000_000,
        )
        return session_id

    def end(self, session_id: bytes) -> None:
        """End a session."""
        self.sessions[session_id] = replace(
            self.sessions[session_id], status=SessionStatus.ENDED, ended_at_ms=self.clock.now_ms()
        )

    def take(self, request: pb.ReportHostUsageRequest) -> pb.ReportHostUsageResponse:
        """Have the leader take a report."""
        assert self.leader is not None
        report = read_report(request, self.clock.now_ms(), usage=True)
        return self.leader.cluster.take(report)

    def settle(self, turns: int = 4) -> None:
        """Let time pass until each host has reported several times."""
        for _ in range(turns):
            self.clock.advance(RESEND_MS)
            self.each(lambda host: host.pass_on.step())
            self.each(lambda host: host.cluster.poll())

    def each(self, step: Callable[[UsageHost], object]) -> None:
        """Do something at every host."""
        for host in self.hosts.values():
            step(host)


def host_report(*sessions: SessionObservation, number: int = 1_000) -> pb.ReportHostUsageRequest:
    """Return a report of a run of its own."""
    return pb.ReportHostUsageRequest(
        host="edge-1",
        run_id=bytes(16),
        number=number,
        run_began_ms=AT + 10**9,
        first_late=1,
        sessions=[pb.HostSession(observation=session_message(each)) for each in sessions],
    )
