"""Calls that are watched: a server says when what it allowed is no longer true. The blocking side.

The server judges a watched call again whenever the state changes or its time comes, and takes the allow
back at once. A stream that ended, for whatever reason, watches nothing: from then on no call of it counts
as allowed, and what still goes on is to be asked about anew, on another watch.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar, cast

import grpc

from ...errors import SessauthError, Unavailable, UsageError
from ...v1 import authorization_service_pb2 as pb
from .._decision import RemoteDecision, decision_from_message
from .._failures import Failure, RpcFailure
from .._requests import tokens as token_calls
from .._results import CheckItem
from .._transport import SyncTransport, check_timeout

P = TypeVar("P", covariant=True)

# Asks for nothing, under the number of a call that is to be watched no longer: the last one counts.
NOTHING: Final = CheckItem(b"", "none", "none")


class ProofSource(NamedTuple, Generic[P]):
    """How a client proves: ``proven(item)`` is what is sent; ``missed(item, sent, decision)``: once more."""

    proven: Callable[[CheckItem], P]
    missed: Callable[[CheckItem, CheckItem, RemoteDecision], bool]


class WatchedCall:
    """A call that was asked about on a watch, and what it came to.

    ``decision`` is the answer; ``withdrawn`` is the decision that took it back, or None. True as a bool
    exactly while the call is allowed: answered so, not taken back, and still watched.
    """

    __slots__ = ("_over", "decision", "item", "number", "withdrawn")

    decision: RemoteDecision

    def __init__(self, number: int, item: CheckItem) -> None:
        """Begin without an answer."""
        self.number = number
        self.item = item
        self.withdrawn: RemoteDecision | None = None
        self._over = False

    def __bool__(self) -> bool:
        """Whether the call may go on."""
        return bool(self.decision) and self.withdrawn is None and not self._over

    def __repr__(self) -> str:
        """Show the number and the last decision."""
        return f"<WatchedCall {self.number} {self.withdrawn or self.decision!r}>"


class PendingCalls:
    """The calls of one watch by their numbers; what an answer means for them. For either client."""

    def __init__(self, audience: str) -> None:
        """Hold no calls yet; ``audience`` is which verifier asks."""
        self._audience = audience
        self._numbers = itertools.count(1)
        self.asked: dict[int, tuple[WatchedCall, Any]] = {}
        self._watched: dict[int, WatchedCall] = {}

    def ask(self, item: CheckItem, at_least_revision: int, waiter: Any) -> pb.CheckStreamRequest:
        """Return the request that asks about a call; its answer is for ``waiter``, a future."""
        call = WatchedCall(next(self._numbers), item)
        self.asked[call.number] = call, waiter
        return token_calls.stream_message(call.number, item, self._audience, at_least_revision, watch=True)

    def forget(self, number: int) -> pb.CheckStreamRequest:
        """Return the request that lets go of a call."""
        self.asked.pop(number, None)
        call = self._watched.pop(number, None)
        if call is not None:
            call._over = True
        return token_calls.stream_message(number, NOTHING, self._audience, 0)

    def take(self, answer: pb.CheckStreamResponse) -> WatchedCall | None:
        """Hand an answer to who waits for it; returns the call if it is one that was taken back."""
        decision = decision_from_message(answer.decision)
        if answer.withdrawn:
            call = self._watched.pop(answer.id, None)
            if call is not None:
                # Whatever the decision says: it was taken back.
                call.withdrawn = replace(decision, allowed=False)
            return call
        waiting = self.asked.pop(answer.id, None)
        if waiting is not None:
            call, waiter = waiting
            call.decision = decision
            if decision:
                self._watched[call.number] = call
            waiter.set_result(call)
        return None

    def end(self, error: SessauthError) -> None:
        """Let nobody wait, and nothing count as allowed any more."""
        for call in self._watched.values():
            call._over = True
        self._watched.clear()
        waiting, self.asked = self.asked, {}
        for _, waiter in waiting.values():
            if not waiter.done():
                waiter.set_exception(error)


def closed() -> UsageError:
    """Return the error for a watch that was closed here."""
    return UsageError("the watch is closed; open another one")


def not_answered(target: str, timeout_ms: int) -> Unavailable:
    """Return the error for an answer that did not come in time."""
    return Unavailable(
        f"{target} did not answer within {timeout_ms} ms; raise timeout_ms if that is too short"
    )


class Watch:
    """Asks about calls over one stream; iterates over those whose allow was taken back.

    Made by :meth:`Client.watch`; leave its ``with`` block to close it. Safe to use from several threads:
    one may iterate while others ask.
    """

    def __init__(
        self,
        transport: SyncTransport,
        proving: ProofSource[CheckItem],
        audience: str,
        timeout_ms: int,
        stream_timeout_ms: int,
    ) -> None:
        """Open the stream."""
        self._proving = proving
        lane = transport.lanes.pick(checks=True)
        self._target = lane.target
        self._timeout_ms = timeout_ms
        self._stream_timeout_ms = check_timeout(stream_timeout_ms)
        self._calls = PendingCalls(audience)
        self._lock = threading.Lock()
        self._ended: SessauthError | None = None
        self._closed = False
        self._requests: SimpleQueue[pb.CheckStreamRequest | None] = SimpleQueue()
        # None behind the last one.
        self._withdrawn: SimpleQueue[WatchedCall | None] = SimpleQueue()
        method = lane.channel.stream_stream(token_calls.STREAM_PATH, **token_calls.STREAM_CODEC)
        self._stream = method(
            iter(self._requests.get, None), timeout=stream_timeout_ms / 1000, metadata=transport.metadata
        )
        self._reader = threading.Thread(target=self._read, name="sessauth-watch", daemon=True)
        self._reader.start()

    def ask(self, item: CheckItem, *, at_least_revision: int = 0) -> WatchedCall:
        """Judge one call, and watch it if it is allowed. Blocks for the answer.

        Raises what ended the stream, and Unavailable if no answer came in time, which is never a yes.
        """
        sent = self._proving.proven(item)
        call = self._ask(sent, at_least_revision)
        if self._proving.missed(item, sent, call.decision):
            call = self._ask(self._proving.proven(item), at_least_revision)
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
            raise not_answered(self._target, self._timeout_ms) from None

    def forget(self, call: WatchedCall) -> None:
        """Watch a call no longer: it is done. It makes room for another one."""
        with self._lock:
            self._requests.put(self._calls.forget(call.number))

    def close(self) -> None:
        """End the stream; nothing is watched any more."""
        with self._lock:
            self._closed = True
            self._ended = self._ended or closed()
            self._requests.put(None)
        self._stream.cancel()
        self._reader.join()

    def __iter__(self) -> Self:
        """Return the watch."""
        return self

    def __next__(self) -> WatchedCall:
        """Wait for the next call whose allow was taken back.

        Ends when the watch was closed. Raises what ended the stream otherwise.
        """
        call = self._withdrawn.get()
        if call is not None:
            return call
        # For whoever asks next.
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

    def _read(self) -> None:
        error: SessauthError = Unavailable(f"{self._target} ended the stream; open another watch")
        try:
            for answer in self._stream:
                with self._lock:
                    call = self._calls.take(answer)
                if call is not None:
                    self._withdrawn.put(call)
        except grpc.RpcError as failed:
            failure = Failure.read(cast("RpcFailure", failed))
            error = failure.error(target=self._target, timeout_ms=self._stream_timeout_ms)
        with self._lock:
            self._ended = self._ended or error
            self._calls.end(self._ended)
            self._requests.put(None)
        self._withdrawn.put(None)
