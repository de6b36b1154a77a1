"""EventService: streams session events from any position in the log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ... import limits
from ...clock import Clock
from ...errors import Rejected
from ...model.change import Rejection
from ...state.writer.state_writer import StateWriter
from ...v1 import event_service_pb2 as pb
from ..events import EventFilter, EventSubscriber, LogPosition, SessionEventPublisher, synced_response
from ..rpc.call import CallContext, RawHandler, parse
from ..status import invalid, refused
from ..transport.rpc import cancelled_error
from .base import Service

# Period of SYNCED, which says that nothing was left out.
SYNC_SECONDS: Final = 5.0
# Period of checks of the stream's credential and deadline.
CALLER_SECONDS: Final = 1.0
# How long a watch that comes from another server of the cluster waits for its place.
BEHIND_SECONDS: Final = 2.0
BEHIND_POLL_SECONDS: Final = 0.02
# Bound of one response.
RESPONSE_BYTES: Final = 64 << 10


@dataclass(eq=False)
class EventService(Service):
    """Streams the changes of ``writer`` from the log, and then the events that ``events`` publishes."""

    descriptor = pb.DESCRIPTOR.services_by_name["EventService"]

    writer: StateWriter
    events: SessionEventPublisher
    clock: Clock

    def watch_sessions(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Answer one watch, encoded, until its deadline comes or it is ended."""
        data = next(requests, None)
        if data is None:
            raise invalid("request", "one message is needed, none was sent")
        request = parse(pb.WatchSessionsRequest, data)
        begin, incarnation = self._position(request)
        admits = EventFilter(request, call.principal, self.writer.get_session)
        watcher = EventSubscriber(admits, begin)
        if not call.context.add_callback(lambda: watcher.fail(cancelled_error())):
            raise cancelled_error()
        with self.events.open(watcher):
            yield self._synced(watcher, incarnation)
            yield from self._stream(watcher, incarnation, call)

    def methods(self) -> Mapping[str, RawHandler]:
        """Return the RPCs of the service by name."""
        return {"WatchSessions": RawHandler(self.watch_sessions)}

    def _position(self, request: pb.WatchSessionsRequest) -> tuple[LogPosition, bytes]:
        """Return a watch's start, and the incarnation of the state.

        Raises COMPACTED if the changes after it are gone, or if its revision is from before a restore.
        """
        head = self.events.feed.head()
        if len(request.incarnation) not in (0, len(head.incarnation)):
            raise invalid("incarnation", f"must be {len(head.incarnation)} bytes, as received in SYNCED")
        if request.from_now:
            if request.after_revision:
                raise invalid("after_revision", "excludes from_now")
            return LogPosition(head.seq, head.revision), head.incarnation
        if request.after_revision > limits.MAX_TIME_MS:
            raise invalid("after_revision", f"must be at most {limits.MAX_TIME_MS}")
        if request.incarnation and request.incarnation != head.incarnation:
            raise Rejected(
                Rejection.COMPACTED.value,
                "incarnation: the state was restored since, and every session that was open then has ended; "
                "list the sessions, and watch from now on",
            )
        if request.incarnation and self.writer.is_carried:
            self._wait_for(request.after_revision)
        seq = self.events.feed.seq_at(request.after_revision)
        return LogPosition(seq, request.after_revision), head.incarnation

    def _wait_for(self, revision: int) -> None:
        """Wait until this host of a cluster holds a revision that another one sent.

        Raises ENGINE_UNREACHABLE if it is still behind after :data:`BEHIND_SECONDS`.
        """
        until = time.monotonic() + BEHIND_SECONDS
        while self.events.feed.head().revision < revision:
            if time.monotonic() >= until:
                raise refused(
                    "ENGINE_UNREACHABLE",
                    f"after_revision: this host does not hold revision {revision} yet; watch again",
                )
            time.sleep(BEHIND_POLL_SECONDS)

    def _stream(self, watcher: EventSubscriber, incarnation: bytes, call: CallContext) -> Iterator[bytes]:
        """Yield events of the log, then live ones, and the log again after falling behind."""
        while True:
            upto = self.events.join(watcher)
            while watcher.position.seq < upto.seq:
                watcher.raise_if_failed()
                _require_caller(call)
                events, position = self.events.read(watcher.position)
                admitted = (watcher.admits(event) for event in events)
                yield from _joined([response for response in admitted if response is not None])
                watcher.position = position
            yield self._synced(watcher, incarnation)
            yield from self._live(watcher, incarnation, call)

    def _live(self, watcher: EventSubscriber, incarnation: bytes, call: CallContext) -> Iterator[bytes]:
        """Yield live events, and SYNCED now and then; returns when it fell behind."""
        now = time.monotonic()
        sync_at, check_at = now + SYNC_SECONDS, now + CALLER_SECONDS
        while True:
            batch = watcher.next_batch(max(0.0, min(sync_at, check_at) - time.monotonic()))
            now = time.monotonic()
            if now >= check_at:
                _require_caller(call)
                check_at = now + CALLER_SECONDS
            if batch is None:
                return
            responses, position = batch
            yield from _joined(responses)
            watcher.position = position
            if now >= sync_at:
                yield self._synced(watcher, incarnation)
                sync_at = now + SYNC_SECONDS

    def _synced(self, watcher: EventSubscriber, incarnation: bytes) -> bytes:
        return synced_response(watcher.position.revision, self.clock.now_ms(), incarnation, watcher.missed)


def _require_caller(call: CallContext) -> None:
    """Raise if the deadline passed, or if the credential of the stream is no longer accepted."""
    call.raise_if_expired()
    call.require_accepted(call)


def _joined(responses: list[bytes]) -> Iterator[bytes]:
    """Join responses into few: each message costs both sides more than the events in it."""
    parts: list[bytes] = []
    size = 0
    for response in responses:
        if parts and size + len(response) > RESPONSE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(response)
        size += len(response)
    if parts:
        yield b"".join(parts)
