"""Parts of the blocking client that run beside calls: lease renewal, watches of checks, event streams.

``client/_tasks.py`` has the same names for asyncio. Both are written by hand: a thread here does what a task
does there. A stream is read by blocking; another thread cancels one that falls silent.
"""

from __future__ import annotations

import threading
import time
import weakref
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final, Self, cast

import grpc

from ..errors import SessauthError, Unavailable
from ..v1 import authorization_service_pb2 as pb
from ..v1 import event_service_pb2 as event_pb
from . import _live_state
from ._live_state import (
    EventCursor,
    LiveState,
    PendingCalls,
    ProofSource,
    WatchedCall,
    WatchPosition,
    closed,
    not_answered,
)
from ._requests import tokens as token_calls
from ._results import CheckItem
from ._sync.calls import Calls, Transport
from ._transport import Failure, RpcFailure, check_timeout


class LeaseRenewal:
    """The thread that renews a lease until it is stopped or the session is lost."""

    def __init__(self, client: Calls, live: LiveState) -> None:
        """Start the thread."""
        self._client = client.with_timeout(live._renewal_timeout_ms())
        self._live = live
        self._stopped = threading.Event()
        name = f"sessauth-lease-{live.id.hex()[:8]}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def stop(self) -> None:
        """Renew no more."""
        self._stopped.set()

    def _run(self) -> None:
        delay_s: float | None = self._live._renewal_interval_s()
        while delay_s is not None and not self._stopped.wait(delay_s):
            sent_at_s = time.monotonic()
            try:
                self._client.keep_alive(self._live.id)
                delay_s = self._live._renewed(sent_at_s)
            except SessauthError as error:
                delay_s = self._live._renewal_failed(error)


class Watch:
    """Checks calls over one stream; iterates over those whose allow was withdrawn.

    Made by :meth:`Client.watch`; leave its ``with`` block to close it. Safe to use from several threads:
    one may iterate while others ask.
    """

    def __init__(
        self,
        transport: Transport,
        proofs: ProofSource[CheckItem],
        audience: str,
        timeout_ms: int,
        stream_timeout_ms: int,
    ) -> None:
        """Open the stream."""
        self._proofs = proofs
        self._handle = handle = transport.channels.pick(checks=True)
        self._channels = transport.channels
        self._timeout_ms = timeout_ms
        self._stream_timeout_ms = check_timeout(stream_timeout_ms)
        self._calls = PendingCalls(audience)
        self._lock = threading.Lock()
        self._ended: SessauthError | None = None
        self._closed = False
        self._requests: SimpleQueue[pb.CheckStreamRequest | None] = SimpleQueue()
        # None follows the last one.
        self._withdrawn: SimpleQueue[WatchedCall | None] = SimpleQueue()
        method = handle.channel.stream_stream(token_calls.STREAM_PATH, **token_calls.STREAM_CODEC)
        stream = method(
            iter(self._requests.get, None), timeout=stream_timeout_ms / 1000, metadata=transport.metadata
        )
        # None: closed.
        self._stream: Any = stream
        self._reader = threading.Thread(target=self._read, args=(stream,), name="sessauth-watch", daemon=True)
        self._reader.start()

    def ask(self, item: CheckItem, *, at_least_revision: int = 0) -> WatchedCall:
        """Check one call, and watch it if it is allowed. Blocks for the answer.

        Raises the error that ended the stream, and Unavailable without a timely answer, which is never a yes.
        """
        sent = self._proofs.with_proof(item)
        call = self._ask(sent, at_least_revision)
        if self._proofs.drop_rejected_keys(item, sent, call.decision):
            call = self._ask(self._proofs.with_proof(item), at_least_revision)
        return call

    def _ask(self, item: CheckItem, at_least_revision: int) -> WatchedCall:
        waiter: Future[WatchedCall] = Future()
        with self._lock:
            if self._ended is not None:
                raise self._ended
            request = self._calls.ask(item, at_least_revision, waiter)
            self._requests.put(request)
        try:
            return waiter.result(self._timeout_ms / 1000)
        except TimeoutError:
            with self._lock:
                self._requests.put(self._calls.forget(request.id))
            raise not_answered(self._handle.target, self._timeout_ms) from None

    def forget(self, call: WatchedCall) -> None:
        """Watch a call no longer: it is done. This makes space for another one."""
        with self._lock:
            self._requests.put(self._calls.forget(call.number))

    def close(self) -> None:
        """End the stream; nothing is watched any more."""
        with self._lock:
            self._closed = True
            self._ended = self._ended or closed()
            self._requests.put(None)
            # Dropped here: while the interpreter ends, its finalizer could wait for a thread that has gone.
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()
        self._reader.join()

    def __iter__(self) -> Self:
        """Return the watch."""
        return self

    def __next__(self) -> WatchedCall:
        """Wait for the next call whose allow was withdrawn.

        Ends when the watch was closed. Raises the error that ended the stream otherwise.
        """
        call = self._withdrawn.get()
        if call is not None:
            return call
        # For the next caller.
        self._withdrawn.put(None)
        if self._closed:
            raise StopIteration
        raise cast("SessauthError", self._ended)

    def __enter__(self) -> Self:
        """Return the watch."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _read(self, stream: Any) -> None:
        error: SessauthError = Unavailable(f"{self._handle.target} ended the stream; open another watch")
        try:
            for answer in stream:
                with self._lock:
                    call = self._calls.accept(answer)
                if call is not None:
                    self._withdrawn.put(call)
        except grpc.RpcError as failed:
            failure = Failure.read(cast("RpcFailure", failed))
            if failure.elsewhere:
                self._channels.leave(self._handle)
            # The stream is its own exception: a traceback would make it refer to itself.
            failed.__traceback__ = None
            error = failure.error(target=self._handle.target, timeout_ms=self._stream_timeout_ms)
        with self._lock:
            self._ended = self._ended or error
            self._calls.end(self._ended)
            self._requests.put(None)
        self._withdrawn.put(None)


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

    def _receive(self) -> event_pb.WatchSessionsResponse:
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
            return cast("event_pb.WatchSessionsResponse", next(self._stream))
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
        if since_s and stream is not None and time.monotonic() - since_s > _live_state.QUIET_SECONDS:
            stream.cancel()


def _guard(watch: weakref.ref[EventStream], closed: threading.Event) -> None:
    while not closed.wait(_GUARD_SECONDS):
        stream = watch()
        if stream is None:
            return
        stream._cancel_if_quiet()
        # Dropped before the next wait, so that an abandoned watch can be collected.
        del stream
