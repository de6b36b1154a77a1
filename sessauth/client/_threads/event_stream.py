"""The stream of a session watch, read by blocking; a thread cancels a stream that falls silent."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Final, cast

import grpc

from ...errors import Unavailable
from ...v1 import event_service_pb2 as pb
from .._failures import Failure, RpcFailure
from .._sync.transport import Transport
from .._watch import events
from .._watch.events import EventCursor, WatchPosition

_GUARD_SECONDS: Final = 1.0


class EventStream(WatchPosition):
    """Reads responses of WatchSessions; opens a stream where there is none."""

    def __init__(self, transport: Transport, cursor: EventCursor, for_ms: int) -> None:
        """Open nothing yet."""
        super().__init__(cursor, for_ms)
        self._transport = transport
        self._closed = threading.Event()
        # Start of the present wait for a response; 0 outside of one.
        self._waits_since_s = 0.0
        self._guard: threading.Thread | None = None

    def close(self) -> None:
        """End it; a waiting reader learns that there is no next event. From any thread."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def _over(self) -> bool:
        return self._closed.is_set() or self._time_is_over()

    def _pause(self, seconds: float) -> None:
        self._closed.wait(seconds)

    def _receive(self) -> pb.WatchSessionsResponse:
        """Wait for the next response, on a new stream if there is none. Raises the error that ended it."""
        if self._stream is None:
            self._handle = self._transport.channels.pick(checks=False)
            self._open(self._handle, self._transport.metadata)
            self._start_guard()
        if self._closed.is_set():
            # It was closed before there was a stream to cancel.
            self._stream.cancel()
        self._waits_since_s = time.monotonic()
        try:
            return cast("pb.WatchSessionsResponse", next(self._stream))
        except StopIteration:
            raise Unavailable(f"{self._handle.target} ended the stream") from None
        except grpc.RpcError as error:
            failure = Failure.read(cast("RpcFailure", error))
            if failure.elsewhere:
                self._transport.channels.leave(self._handle)
            # The stream is its own exception: a traceback would make it refer to itself, and so to the watch.
            error.__traceback__ = None
            raise failure.error(
                target=self._handle.target, timeout_ms=round(1000 * (time.monotonic() - self._waits_since_s))
            ) from None
        finally:
            self._waits_since_s = 0.0

    def _start_guard(self) -> None:
        """Have a thread cancel a stream on which nothing arrives any more, not even a heartbeat."""
        if self._guard is None or not self._guard.is_alive():
            self._guard = threading.Thread(
                target=_guard,
                args=(weakref.ref(self), self._closed),
                name="sessauth-session-watch",
                daemon=True,
            )
            self._guard.start()

    def _cancel_if_quiet(self) -> None:
        since_s, stream = self._waits_since_s, self._stream
        if since_s and stream is not None and time.monotonic() - since_s > events.QUIET_SECONDS:
            stream.cancel()


def _guard(watch: weakref.ref[EventStream], closed: threading.Event) -> None:
    while not closed.wait(_GUARD_SECONDS):
        stream = watch()
        if stream is None:
            return
        stream._cancel_if_quiet()
        # Dropped before the next wait, so that an abandoned watch can be collected.
        del stream
