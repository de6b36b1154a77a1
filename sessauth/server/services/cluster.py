"""ClusterService and FeedService: a host's position in the carried log, and the log for followers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ...clock import Clock, SystemClock
from ...errors import NotLeader, Rejected
from ...limits import MAX_STALENESS_MS, MIN_STALENESS_MS
from ...model.change import Rejection
from ...model.host import INSTANCE_BYTES, HostRecord
from ...state.lmdb.cluster_rows import read_position
from ...state.replication.carrier import CarrierError, CompactedRecords
from ...state.writer.state_writer import StateWriter
from ...v1 import cluster_service_pb2 as cluster_pb
from ...v1 import feed_service_pb2 as feed_pb
from ..cluster.cluster_feed import Feed, HostReport
from ..cluster.role import ClusterRole
from ..evidence.host_evidence import HostEvidence
from ..rpc.call import CallContext, RawHandler, parse
from ..sections import HOST
from ..status import invalid, refused
from .base import Service


@dataclass(eq=False)
class ClusterService(Service):
    """Answers ClusterService from the folder, and by the process's ``part``; a single host has none."""

    descriptor = cluster_pb.DESCRIPTOR.services_by_name["ClusterService"]

    writer: StateWriter
    part: ClusterRole
    clock: Clock

    def get_standing(
        self, request: cluster_pb.GetStandingRequest, call: CallContext
    ) -> cluster_pb.GetStandingResponse:
        """Return the standing of this host."""
        part = self._required()
        with self.writer.source().rows() as rows:
            head, position = rows.head(), read_position(rows)
        alarm = part.alarm
        answer = cluster_pb.GetStandingResponse(
            cluster_id=head.cluster_id,
            incarnation=head.incarnation,
            host=part.host,
            revision=head.revision,
            leading=self.writer.leads,
            fresh=alarm is None and not self.writer.stale,
            alarm="" if alarm is None else alarm.fault,
            alarm_message="" if alarm is None else str(alarm),
            brake=self.writer.braked,
            cluster_brake=self.writer.cluster_brake,
            hosts=self._hosts(part),
            refused_by=", ".join(part.refused_by),
        )
        if position is not None:
            answer.number, answer.digest, answer.term = position.number, position.digest, position.term
        return answer

    def _hosts(self, part: ClusterRole) -> list[cluster_pb.HostStanding]:
        reports = {} if part.feed is None else part.feed.hosts.by_host()
        now_ms, hosts = self.clock.steady_ms(), []
        for record in self.writer.hosts():
            standing = cluster_pb.HostStanding(name=record.name, address=record.address)
            report = reports.get((record.principal, record.name))
            if report is not None:
                standing.reported, standing.age_ms = True, max(0, now_ms - report.at_ms)
                standing.number, standing.alarm = report.applied, report.alarm
            hosts.append(standing)
        return hosts

    def _required(self) -> ClusterRole:
        if self.part.carried is None:
            raise refused("NOT_IN_CLUSTER", "this server is a single host")
        return self.part


# Period of checks of a stream's credential and deadline.
CALLER_SECONDS: Final = 1.0
CHUNK_BYTES: Final = 256 << 10
ALARM: Final = re.compile("[A-Z_]{1,32}")


@dataclass(eq=False)
class FeedService(Service):
    """Answers FeedService with the records of ``feed``; None: this process feeds nobody, and refuses.

    ``evidence`` has the hosts as a leader knows them. ``refusal()`` is the error of a host that only follows;
    None: without a feed this server is a single host.
    """

    descriptor = feed_pb.DESCRIPTOR.services_by_name["FeedService"]

    feed: Feed | None
    clock: Clock = field(default_factory=SystemClock)
    evidence: HostEvidence | None = None
    refusal: Callable[[], NotLeader] | None = None

    def methods(self) -> Mapping[str, Callable[..., object] | RawHandler]:
        """Return the RPCs of the service by name."""
        return {
            "Follow": RawHandler(self.follow),
            "Barrier": self.barrier,
            "Snapshot": RawHandler(self.snapshot),
            "RegisterHost": self.register_host,
            "RemoveHost": self.remove_host,
        }

    def follow(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Answer one follower, encoded, until its deadline comes or it is ended."""
        feed = self._required()
        _require_part(feed, call)
        records = feed.records
        after = parse(feed_pb.FollowRequest, _only(requests)).after
        check_at = time.monotonic() + CALLER_SECONDS
        while True:
            try:
                response, after = records.next(after, max(0.0, check_at - time.monotonic()))
            except CompactedRecords as compacted:
                message = f"records below {compacted.first} are gone; take a snapshot"
                raise Rejected(Rejection.COMPACTED.value, message) from compacted
            except CarrierError as error:
                raise refused("ENGINE_UNREACHABLE", f"the engine can't be read: {error}") from error
            if time.monotonic() >= check_at:
                call.raise_if_expired()
                call.require_accepted(call)
                check_at = time.monotonic() + CALLER_SECONDS
            if response:
                yield response

    def barrier(self, request: feed_pb.BarrierRequest, call: CallContext) -> feed_pb.BarrierResponse:
        """Return a barrier that began after the call, and store the host's statement of itself."""
        feed, host = self._required(), _host(request, call)
        _require_part(feed, call, host.name)
        if request.alarm and not ALARM.fullmatch(request.alarm):
            raise invalid("alarm", "must be 1 to 32 capital letters or '_'")
        if not request.alarm:
            feed.registration.require(host, call)
        report = HostReport(
            host.name,
            host.principal,
            host.instance,
            request.applied,
            self.clock.steady_ms(),
            host.staleness_ms,
            request.reads,
            request.alarm,
        )
        # Before the barrier, whose beat names the host that may be granted freshness by it.
        feed.hosts.store(report)
        if request.alarm:
            # It says how far it is, and must get no proof.
            return feed_pb.BarrierResponse(server_ms=self.clock.now_ms())
        barrier = feed.barriers.barrier(call.remaining)
        feed.registration.require_at(host, barrier.head.number)
        return feed_pb.BarrierResponse(
            number=barrier.head.number,
            digest=barrier.head.digest,
            server_ms=self.clock.now_ms(),
            engine_id=barrier.engine_id,
            engine_revision=barrier.engine_revision,
        )

    def snapshot(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Answer with a copy of the state, encoded."""
        feed = self._required()
        _require_part(feed, call)
        parse(feed_pb.SnapshotRequest, _only(requests))
        with feed.snapshot() as (header, file):
            yield feed_pb.SnapshotResponse(header=header).SerializeToString()
            while data := file.read(CHUNK_BYTES):
                call.raise_if_expired()
                yield feed_pb.SnapshotResponse(data=data).SerializeToString()

    def register_host(
        self, request: feed_pb.RegisterHostRequest, call: CallContext
    ) -> feed_pb.RegisterHostResponse:
        """Register a host of the caller, or its next instance."""
        feed, host = self._required(), _host(request, call)
        # Another server forwards it.
        _require_part(feed, call, host.name, by_server=True)
        feed.registration.store(host)
        return feed_pb.RegisterHostResponse()

    def remove_host(
        self, request: feed_pb.RemoveHostRequest, call: CallContext
    ) -> feed_pb.RemoveHostResponse:
        """Remove a host that may not allow."""
        if self.refusal is not None:
            raise self.refusal()
        self._required()
        if self.evidence is not None:
            self.evidence.remove(request.host)
        return feed_pb.RemoveHostResponse()

    def _required(self) -> Feed:
        if self.refusal is not None:
            raise refused("NOT_IN_CLUSTER", "this host only follows itself; name a server of the cluster")
        if self.feed is None:
            raise refused(
                "NOT_IN_CLUSTER",
                "this server is a single host, so it can't be followed; name one of a cluster",
            )
        return self.feed


def _host(request: feed_pb.BarrierRequest | feed_pb.RegisterHostRequest, call: CallContext) -> HostRecord:
    """Return the host that a request comes from; raises INVALID_ARGUMENT naming the field."""
    if not HOST.fullmatch(request.host):
        raise invalid("host", "must be 1 to 64 letters, digits, '.', '_' or '-'")
    if len(request.instance) != INSTANCE_BYTES:
        raise invalid("instance", f"must be {INSTANCE_BYTES} bytes")
    if not MIN_STALENESS_MS <= request.staleness_ms <= MAX_STALENESS_MS:
        raise invalid("staleness_ms", f"must be {MIN_STALENESS_MS} to {MAX_STALENESS_MS}")
    return HostRecord(request.host, call.principal.name, request.instance, request.staleness_ms)


def _require_part(feed: Feed, call: CallContext, host: str = "", *, by_server: bool = False) -> None:
    """Raise OTHER_HOST for a connection by a certificate of another host."""
    problem = feed.parts.problem(call.context, host, by_server=by_server)
    if problem:
        raise refused("OTHER_HOST", problem)


def _only(requests: Iterator[bytes]) -> bytes:
    data = next(requests, None)
    if data is None:
        raise invalid("request", "one message is needed, none was sent")
    return data
