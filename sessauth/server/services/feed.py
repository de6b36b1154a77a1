"""FeedService: the carried log of a cluster for followers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from ...clock import Clock, SystemClock
from ...errors import Rejected
from ...model.change import Rejection
from ...state.replication.carrier import CarrierError, CompactedRecords
from ...v1 import feed_service_pb2 as pb
from ..config.sections import HOST
from ..feed.cluster_feed import ClusterFeed
from ..feed.hosts import HostReport
from ..rpc.call import CallContext
from ..rpc.method import RawHandler, parse
from ..status import invalid, refused

INSTANCE_BYTES: Final = 16
# Period of checks of a stream's credential and deadline.
CALLER_SECONDS: Final = 1.0
CHUNK_BYTES: Final = 256 << 10


class FeedService:
    """Answers FeedService from the feed of this server."""

    def __init__(self, feed: ClusterFeed | None, clock: Clock | None = None) -> None:
        """Hand on what ``feed`` has; None: this server is a single host, and refuses."""
        self._feed = feed
        self._clock = clock or SystemClock()

    def methods(self) -> Mapping[str, Callable[..., object] | RawHandler]:
        """Return the RPCs of the service by name."""
        return {
            "Follow": RawHandler(self.follow),
            "Barrier": self.barrier,
            "Snapshot": RawHandler(self.snapshot),
        }

    def follow(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Answer one follower, encoded, until its deadline comes or it is ended."""
        records = self._required().records
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
        """Return a barrier that began after the call, and store what the host says of itself."""
        feed = self._required()
        if not HOST.fullmatch(request.host):
            raise invalid("host", "must be 1 to 64 letters, digits, '.', '_' or '-'")
        if len(request.instance) != INSTANCE_BYTES:
            raise invalid("instance", f"must be {INSTANCE_BYTES} bytes")
        report = HostReport(
            request.host, call.principal.name, request.instance, request.applied, self._clock.steady_ms()
        )
        head = feed.barriers.barrier(call.remaining).head
        # Behind the barrier: a host counts once it can have been granted freshness.
        feed.hosts.store(report)
        return pb.BarrierResponse(number=head.number, digest=head.digest, server_ms=self._clock.now_ms())

    def snapshot(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Answer with a copy of the state, encoded."""
        feed = self._required()
        parse(pb.SnapshotRequest, _only(requests))
        with feed.snapshot() as (header, file):
            yield pb.SnapshotResponse(header=header).SerializeToString()
            while data := file.read(CHUNK_BYTES):
                call.raise_if_expired()
                yield pb.SnapshotResponse(data=data).SerializeToString()

    def _required(self) -> ClusterFeed:
        if self._feed is None:
            raise refused(
                "NOT_IN_CLUSTER",
                "this server is a single host, so it can't be followed; name one of a cluster",
            )
        return self._feed


def _only(requests: Iterator[bytes]) -> bytes:
    data = next(requests, None)
    if data is None:
        raise invalid("request", "one message is needed, none was sent")
    return data
