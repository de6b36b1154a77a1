"""Parts of the asyncio client that run beside calls: lease renewal, watches of checks, event streams.

``client/_threads.py`` has the same names for the blocking client. Both are written by hand: a task here does
what a thread does there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable
from typing import Self, cast

import grpc

from ..errors import SessauthError, Unavailable
from ..v1 import authorization_service_pb2 as pb
from ..v1 import event_service_pb2 as event_pb
from . import _live_state
from ._async.calls import AsyncCalls, AsyncTransport
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
from ._transport import Failure, RpcFailure, check_timeout, unreadable


async def async_enumerate(
    items: Iterable[CheckItem] | AsyncIterable[CheckItem],
) -> AsyncIterator[tuple[int, CheckItem]]:
    """Yield each item with its number, counted from 0."""
    if isinstance(items, AsyncIterable):
        number = 0
        async for item in items:
            yield number, item
            number += 1
    else:
        for pair in enumerate(items):
            yield pair


class AsyncLeaseRenewal:
    """The task that renews a lease until it is stopped or the session is lost."""

    def __init__(self, client: AsyncCalls, live: LiveState) -> None:
        """Start the task."""
        self._client = client.with_timeout(live._renewal_timeout_ms())
        self._live = live
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Renew no more."""
        self._task.cancel()

    async def _run(self) -> None:
        delay_s: float | None = self._live._renewal_interval_s()
        while delay_s is not None:
            await asyncio.sleep(delay_s)
            sent_at_s = time.monotonic()
            try:
                await self._client.keep_alive(self._live.id)
                delay_s = self._live._renewed(sent_at_s)
            except SessauthError as error:
                delay_s = self._live._renewal_failed(error)


class AsyncWatch:
    """Checks calls over one stream; iterates over those whose allow was withdrawn.

    Made by :meth:`AsyncClient.watch`, for an ``async with`` block. For any number of tasks of one loop.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        proofs: ProofSource[Awaitable[CheckItem]],
        audience: str,
        timeout_ms: int,
        stream_timeout_ms: int,
    ) -> None:
        """Open nothing yet."""
        self._proofs = proofs
        self._transport = transport
        self._timeout_ms = timeout_ms
        self._stream_timeout_ms = check_timeout(stream_timeout_ms)
        self._calls = PendingCalls(audience)
        self._ended: SessauthError | None = None
        self._closed = False
        self._forgetting: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()
        # None follows the last one.
        self._withdrawn: asyncio.Queue[WatchedCall | None] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        """Open the stream."""
        self._handle = handle = self._transport.channels.pick(checks=True)
        method = handle.channel.stream_stream(token_calls.STREAM_PATH, **token_calls.STREAM_CODEC)
        self._stream = method(timeout=self._stream_timeout_ms / 1000, metadata=self._transport.metadata)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()

    async def ask(self, item: CheckItem, *, at_least_revision: int = 0) -> WatchedCall:
        """Check one call, and watch it if it is allowed.

        Raises the error that ended the stream, and Unavailable without a timely answer, which is never a yes.
        """
        sent = await self._proofs.with_proof(item)
        call = await self._ask(sent, at_least_revision)
        if self._proofs.drop_rejected_keys(item, sent, call.decision):
            call = await self._ask(await self._proofs.with_proof(item), at_least_revision)
        return call

    async def _ask(self, item: CheckItem, at_least_revision: int) -> WatchedCall:
        if self._ended is not None:
            raise self._ended
        waiter: asyncio.Future[WatchedCall] = asyncio.get_running_loop().create_future()
        request = self._calls.ask(item, at_least_revision, waiter)
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                await self._write(request)
                return await waiter
        except TimeoutError:
            self._forget_later(request.id)
            raise not_answered(self._handle.target, self._timeout_ms) from None
        except asyncio.CancelledError:
            self._forget_later(request.id)
            raise

    async def forget(self, call: WatchedCall) -> None:
        """Watch a call no longer: it is done. This makes space for another one."""
        await self._write(self._calls.forget(call.number))

    async def close(self) -> None:
        """End the stream; nothing is watched any more."""
        self._closed = True
        self._ended = self._ended or closed()
        self._stream.cancel()
        await self._reader

    def __aiter__(self) -> Self:
        """Return the watch."""
        return self

    async def __anext__(self) -> WatchedCall:
        """Wait for the next call whose allow was withdrawn.

        Ends when the watch was closed. Raises the error that ended the stream otherwise.
        """
        call = await self._withdrawn.get()
        if call is not None:
            return call
        # For the next caller.
        self._withdrawn.put_nowait(None)
        if self._closed:
            raise StopAsyncIteration
        raise cast("SessauthError", self._ended)

    def _forget_later(self, number: int) -> None:
        """Forget a call without waiting for that: its caller has gone."""
        task = asyncio.create_task(self._write(self._calls.forget(number)))
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    async def _write(self, request: pb.CheckStreamRequest) -> None:
        """Send a request. Waiters get the error that ended the stream; it is not raised here."""
        try:
            async with self._writing:
                await self._stream.write(request)
        except (grpc.RpcError, asyncio.InvalidStateError):
            await asyncio.shield(self._reader)

    async def _read(self) -> None:
        error: SessauthError = Unavailable(f"{self._handle.target} ended the stream; open another watch")
        try:
            async for answer in self._stream:
                if answer is None:
                    error = unreadable()
                    self._stream.cancel()
                    break
                call = self._calls.accept(answer)
                if call is not None:
                    self._withdrawn.put_nowait(call)
        except grpc.RpcError as failed:
            failure = Failure.read(cast("RpcFailure", failed))
            if failure.elsewhere:
                self._transport.channels.leave(self._handle)
            error = failure.error(target=self._handle.target, timeout_ms=self._stream_timeout_ms)
        except asyncio.CancelledError:
            # The call was cancelled, by close() or because the channel was closed.
            error = closed()
        self._ended = self._ended or error
        self._calls.end(self._ended)
        self._withdrawn.put_nowait(None)


class AsyncEventStream(WatchPosition):
    """Reads responses of WatchSessions; opens a stream where there is none."""

    def __init__(self, transport: AsyncTransport, cursor: EventCursor, for_ms: int) -> None:
        """Open nothing yet."""
        super().__init__(cursor, for_ms)
        self._transport = transport
        self._closed = asyncio.Event()

    async def close(self) -> None:
        """End it; a waiting reader learns that there is no next event."""
        self._closed.set()
        if self._stream is not None:
            self._stream.cancel()

    def _over(self) -> bool:
        return self._closed.is_set() or self._time_is_over()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except TimeoutError:
            return

    async def _receive(self) -> event_pb.WatchSessionsResponse:
        """Wait for the next response, on a new stream if there is none. Raises the error that ended it."""
        if self._stream is None:
            self._handle = self._transport.channels.pick(checks=False)
            self._open(self._handle, self._transport.metadata)
        stream, began_s = self._stream, time.monotonic()
        try:
            async with asyncio.timeout(_live_state.QUIET_SECONDS):
                response = await stream.read()
        except TimeoutError:
            stream.cancel()
            raise Unavailable(
                f"{self._handle.target} said nothing for {_live_state.QUIET_SECONDS:.0f} s"
            ) from None
        except asyncio.CancelledError:
            # Either close() cancelled the stream, or the waiting task was cancelled.
            if self._closed.is_set() and stream.cancelled():
                raise Unavailable("the watch is closed") from None
            stream.cancel()
            raise
        except grpc.RpcError as error:
            failure = Failure.read(cast("RpcFailure", error))
            if failure.elsewhere:
                self._transport.channels.leave(self._handle)
            raise failure.error(
                target=self._handle.target, timeout_ms=round(1000 * (time.monotonic() - began_s))
            ) from None
        if not isinstance(response, event_pb.WatchSessionsResponse):
            raise Unavailable(f"{self._handle.target} ended the stream")
        return response
