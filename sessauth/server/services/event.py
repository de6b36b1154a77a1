"""EventService: tells what happens to sessions, from wherever in the log a watcher stands."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

from ... import limits
from ...clock import Clock, SystemClock
from ...errors import Rejected
from ...model.change import Rejection
from ...state.writer.state_writer import StateWriter
from ...v1 import event_service_pb2 as pb
from ..events.event import synced
from ..events.filter import EventFilter
from ..events.publisher import SessionEventPublisher
from ..events.subscriber import EventSubscriber, LogPosition
from ..rpc.call import CallContext
from ..rpc.method import RawHandler, parse
from ..status import invalid, refused

# How often a watcher hears that nothing was kept from it.
SYNC_SECONDS: Final = 5.0
# How often its credential and its deadline are looked at.
LOOK_SECONDS: Final = 1.0
# What one response may weigh: beyond it there is another one.
RESPONSE_BYTES: Final = 64 << 10


class EventService:
    """Answers EventService from the log."""

    def __init__(self, log: StateWriter, events: SessionEventPublisher, clock: Clock | None = None) -> None:
        """Tell what ``events`` hands on, and before that what ``log`` holds."""
        self._log = log
        self._events = events
        self._clock = clock or SystemClock()

    def watch_sessions(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Answer one watch, encoded, until its deadline comes or something ends it."""
        data = next(requests, None)
        if data is None:
            raise invalid("request", "one message is needed, none was sent")
        request = parse(pb.WatchSessionsRequest, data)
        begin, incarnation = self._position(request)
        admits = EventFilter(request, call.principal, self._log.get_session)
        watcher = EventSubscriber(admits, begin)
        if not call.context.add_callback(lambda: watcher.fail(refused("CANCELLED", "the call is over"))):
            raise refused("CANCELLED", "the call is over")
        with self._events.open(watcher):
            yield self._synced(watcher, incarnation)
            yield from self._told(watcher, incarnation, call)

    def methods(self) -> Mapping[str, RawHandler]:
        """Return the RPCs of the service by name."""
        return {"WatchSessions": RawHandler(self.watch_sessions)}

    def _position(self, request: pb.WatchSessionsRequest) -> tuple[LogPosition, bytes]:
        """Return where a watch begins, and the incarnation of the state.

        Raises COMPACTED if what would come next is gone, or the revision is of before a restore.
        """
        head = self._events.feed.head()
        if len(request.incarnation) not in (0, len(head.incarnation)):
            raise invalid("incarnation", f"must be {len(head.incarnation)} bytes, as SYNCED told it")
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
        seq = self._events.feed.seq_at(request.after_revision)
        return LogPosition(seq, request.after_revision), head.incarnation

    def _told(self, watcher: EventSubscriber, incarnation: bytes, call: CallContext) -> Iterator[bytes]:
        """Yield what the log has first, then what happens, and the log again when it fell behind."""
        while True:
            upto = self._events.join(watcher)
            while watcher.position.seq < upto.seq:
                watcher.raise_if_failed()
                _require_caller(call)
                events, reached = self._events.read(watcher.position)
                found = (watcher.admits(event) for event in events)
                yield from _joined([response for response in found if response is not None])
                watcher.position = reached
            yield self._synced(watcher, incarnation)
            yield from self._live(watcher, incarnation, call)

    def _live(self, watcher: EventSubscriber, incarnation: bytes, call: CallContext) -> Iterator[bytes]:
        """Yield what happens, and now and then that nothing else did; returns when it fell behind."""
        now = time.monotonic()
        sync_at, look_at = now + SYNC_SECONDS, now + LOOK_SECONDS
        while True:
            taken = watcher.take(max(0.0, min(sync_at, look_at) - time.monotonic()))
            now = time.monotonic()
            if now >= look_at:
                _require_caller(call)
                look_at = now + LOOK_SECONDS
            if taken is None:
                return
            yield from _joined(taken.responses)
            watcher.position = taken.position
            if now >= sync_at:
                yield self._synced(watcher, incarnation)
                sync_at = now + SYNC_SECONDS

    def _synced(self, watcher: EventSubscriber, incarnation: bytes) -> bytes:
        return synced(watcher.position.revision, self._clock.now_ms(), incarnation, watcher.missed)


def _require_caller(call: CallContext) -> None:
    """Raise if the deadline passed, or if the credential of the stream is no longer accepted."""
    call.raise_if_expired()
    call.require_accepted(call)


def _joined(responses: list[bytes]) -> Iterator[bytes]:
    """Put responses together into few: each message costs both sides more than the events in it."""
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
