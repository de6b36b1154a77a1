"""A watch of sessions for the blocking client: one stream after the other, and no event twice."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any, Final, Self, cast

import grpc

from ...errors import SessauthError, Unavailable
from ...v1 import event_service_pb2 as pb
from .._failures import Failure, RpcFailure
from .._transport import SyncTransport
from . import events
from .events import EventCursor, SessionEvent

_GUARD_SECONDS: Final = 1.0


class SessionWatch:
    """Iterates over what happens to sessions; made by :meth:`Client.watch_sessions`.

    A stream that breaks is opened again from where it broke. It stands when its ``with`` block is entered,
    else when the first event is asked for; leave the block, or close it, to end it. For one thread, except
    for :meth:`close`.
    """

    def __init__(self, transport: SyncTransport, following: EventCursor, for_ms: int) -> None:
        """Open nothing yet."""
        self._transport = transport
        self._following = following
        self._ends = time.monotonic() + for_ms / 1000 if for_ms else 0.0
        self._closed = threading.Event()
        self._stream: Any = None
        # When the stream was last heard, while somebody waits for it; 0 else.
        self._waits_since = 0.0
        self._guard: threading.Thread | None = None

    @property
    def revision(self) -> int:
        """Everything up to here was handed out: where another watch may go on."""
        return self._following.revision

    @property
    def incarnation(self) -> bytes:
        """What belongs to the revision, for another watch; 16 bytes, empty before something was heard."""
        return self._following.incarnation

    @property
    def missed(self) -> int:
        """How many uses after an end this watch was too slow for; nothing else can be missed."""
        return self._following.missed

    def close(self) -> None:
        """End it; who waits for the next event hears that there is none. From any thread."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def __iter__(self) -> Self:
        """Return the watch."""
        return self

    def __next__(self) -> SessionEvent:
        """Wait for the next event.

        Ends when the watch was closed or its time is over. Raises Unavailable when no server was heard for
        too long, Rejected COMPACTED when what comes next is gone, and what else a server refuses.
        """
        while not self._over():
            event = self._following.next()
            if event is not None:
                return event
            self._hear()
        self.close()
        raise StopIteration

    def __enter__(self) -> Self:
        """Return the watch once it stands: it misses nothing that happens from here on."""
        try:
            while not self._following.stands and not self._over():
                self._hear()
        except BaseException:
            # Nobody gets it, so nobody else could.
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _over(self) -> bool:
        return self._closed.is_set() or bool(self._ends and time.monotonic() >= self._ends)

    def _left(self, seconds: float) -> float:
        """Return ``seconds``, or what is left of the watch's time."""
        return min(seconds, max(0.001, self._ends - time.monotonic())) if self._ends else seconds

    def _hear(self) -> None:
        """Take what is heard next, or pause where a stream broke. Raises what ends the watch."""
        try:
            self._following.take(self._heard())
        except SessauthError as error:
            self._stream = None
            if not self._over():
                self._closed.wait(self._left(self._following.pause(error)))

    def _heard(self) -> pb.WatchSessionsResponse:
        """Wait for the next response, on a new stream if there is none. Raises what ended it."""
        lane = self._transport.lanes.pick(checks=False)
        if self._stream is None:
            method = lane.channel.unary_stream(events.PATH, **events.CODEC)
            self._stream = method(
                self._following.request,
                timeout=self._left(events.STREAM_SECONDS),
                metadata=self._transport.metadata,
            )
            self._watch_over()
        if self._closed.is_set():
            # It was closed before there was a stream to cancel.
            self._stream.cancel()
        self._waits_since = time.monotonic()
        try:
            return cast("pb.WatchSessionsResponse", next(self._stream))
        except StopIteration:
            raise Unavailable(f"{lane.target} ended the stream") from None
        except grpc.RpcError as error:
            failure = Failure.read(cast("RpcFailure", error))
            # The stream is its own exception: with a traceback it would keep itself, and so the watch.
            error.__traceback__ = None
            raise failure.error(
                target=lane.target, timeout_ms=round(1000 * (time.monotonic() - self._waits_since))
            ) from None
        finally:
            self._waits_since = 0.0

    def _watch_over(self) -> None:
        """Have a thread break off a stream on which nothing is heard any more, not even a heartbeat."""
        if self._guard is None or not self._guard.is_alive():
            self._guard = threading.Thread(
                target=_guard,
                args=(weakref.ref(self), self._closed),
                name="sessauth-session-watch",
                daemon=True,
            )
            self._guard.start()

    def _break_off_if_quiet(self) -> None:
        since, stream = self._waits_since, self._stream
        if since and stream is not None and time.monotonic() - since > events.QUIET_SECONDS:
            stream.cancel()


def _guard(watch: weakref.ref[SessionWatch], closed: threading.Event) -> None:
    while not closed.wait(_GUARD_SECONDS):
        alive = watch()
        if alive is None:
            return
        alive._break_off_if_quiet()
        # Held no longer than it takes, so that a watch that nobody has any more is collected.
        del alive
