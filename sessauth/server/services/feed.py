"""FeedService: the carried log of a cluster for followers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Final

from google.protobuf.descriptor import ServiceDescriptor

from ...clock import Clock, SystemClock
from ...errors import NotLeader, Rejected
from ...limits import MAX_STALENESS_MS, MIN_STALENESS_MS
from ...model.change import Rejection
from ...model.host import INSTANCE_BYTES, HostRecord
from ...state.replication.carrier import CarrierError, CompactedRecords
from ...v1 import feed_service_pb2 as pb
from ..config.sections import HOST
from ..evidence.host_evidence import HostEvidence
from ..feed.cluster_feed import ClusterFeed
from ..feed.hosts import HostReport
from ..rpc.call import CallContext
from ..rpc.method import RawHandler, parse
from ..status import invalid, refused

# Period of checks of a stream's credential and deadline.
CALLER_SECONDS: Final = 1.0
CHUNK_BYTES: Final = 256 << 10
ALARM: Final = re.compile("[A-Z_]{1,32}")


class FeedService:
    """Answers FeedService from the feed of this server."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["FeedService"]

    def __init__(
        self,
        feed: ClusterFeed | None,
        clock: Clock | None = None,
        *,
        evidence: HostEvidence | None = None,
        refusal: Callable[[], NotLeader] | None = None,
    ) -> None:
        """Pass on the records of ``feed``; None: this process feeds nobody, and refuses.

        ``evidence`` has the hosts as a leader knows them. ``refusal()`` is the error of a host that only
        follows; None: without a feed this server is a single host.
        """
        self._refusal = refusal
        self._feed = feed
        self._evidence = evidence
        self._clock = clock or SystemClock()

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
        after = parse(pb.FollowRequest, _only(requests)).after
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

    def barrier(self, request: pb.BarrierRequest, call: CallContext) -> pb.BarrierResponse:
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
            self._clock.steady_ms(),
            host.staleness_ms,
            request.reads,
            request.alarm,
        )
        # Before the barrier, whose beat names the host that may be granted freshness by it.
        feed.hosts.store(report)
        if request.alarm:
            # It says how far it is, and must get no proof.
            return pb.BarrierResponse(server_ms=self._clock.now_ms())
        barrier = feed.barriers.barrier(call.remaining)
        feed.registration.require_at(host, barrier.head.number)
        return pb.BarrierResponse(
            number=barrier.head.number,
            digest=barrier.head.digest,
            server_ms=self._clock.now_ms(),
            engine_id=barrier.engine_id,
            engine_revision=barrier.engine_revision,
        )

    def snapshot(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Answer with a copy of the state, encoded."""
        feed = self._required()
        _require_part(feed, call)
        parse(pb.SnapshotRequest, _only(requests))
        with feed.snapshot() as (header, file):
            yield pb.SnapshotResponse(header=header).SerializeToString()
            while data := file.read(CHUNK_BYTES):
                call.raise_if_expired()
                yield pb.SnapshotResponse(data=data).SerializeToString()

    def register_host(self, request: pb.RegisterHostRequest, call: CallContext) -> pb.RegisterHostResponse:
        """Register a host of the caller, or its next instance."""
        feed, host = self._required(), _host(request, call)
        # Another server forwards it.
        _require_part(feed, call, host.name, by_server=True)
        feed.registration.store(host)
        return pb.RegisterHostResponse()

    def remove_host(self, request: pb.RemoveHostRequest, call: CallContext) -> pb.RemoveHostResponse:
        """Remove a host that may not allow."""
        if self._refusal is not None:
            raise self._refusal()
        self._required()
        if self._evidence is not None:
            self._evidence.remove(request.host)
        return pb.RemoveHostResponse()

    def _required(self) -> ClusterFeed:
        if self._refusal is not None:
            raise refused("NOT_IN_CLUSTER", "this host only follows itself; name a server of the cluster")
        if self._feed is None:
            raise refused(
                "NOT_IN_CLUSTER",
                "this server is a single host, so it can't be followed; name one of a cluster",
            )
        return self._feed


def _host(request: pb.BarrierRequest | pb.RegisterHostRequest, call: CallContext) -> HostRecord:
    """Return the host that a request comes from; raises INVALID_ARGUMENT naming the field."""
    if not HOST.fullmatch(request.host):
        raise invalid("host", "must be 1 to 64 letters, digits, '.', '_' or '-'")
    if len(request.instance) != INSTANCE_BYTES:
        raise invalid("instance", f"must be {INSTANCE_BYTES} bytes")
    if not MIN_STALENESS_MS <= request.staleness_ms <= MAX_STALENESS_MS:
        raise invalid("staleness_ms", f"must be {MIN_STALENESS_MS} to {MAX_STALENESS_MS}")
    return HostRecord(request.host, call.principal.name, request.instance, request.staleness_ms)


def _require_part(feed: ClusterFeed, call: CallContext, host: str = "", *, by_server: bool = False) -> None:
    """Raise OTHER_HOST for a connection by a certificate of another host."""
    problem = feed.parts.problem(call.context, host, by_server=by_server)
    if problem:
        raise refused("OTHER_HOST", problem)


def _only(requests: Iterator[bytes]) -> bytes:
    data = next(requests, None)
    if data is None:
        raise invalid("request", "one message is needed, none was sent")
    return data
