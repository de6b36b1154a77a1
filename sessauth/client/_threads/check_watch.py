"""A watch of checks: a thread reads the stream."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Self, cast

import grpc

from ...errors import SessauthError, Unavailable
from ...v1 import authorization_service_pb2 as pb
from .._failures import Failure, RpcFailure
from .._requests import tokens as token_calls
from .._results import CheckItem
from .._sync.transport import Transport
from .._transport import check_timeout
from .._watch.checks import PendingCalls, ProofSource, WatchedCall, closed, not_answered


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
