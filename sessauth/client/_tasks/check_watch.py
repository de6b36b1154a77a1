"""A watch of checks, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Self, cast

import grpc

from ...errors import SessauthError, Unavailable
from ...v1 import authorization_service_pb2 as pb
from .._async.transport import AsyncTransport
from .._failures import Failure, RpcFailure, unreadable
from .._requests import tokens as token_calls
from .._results import CheckItem
from .._transport import check_timeout
from .._watch.checks import PendingCalls, ProofSource, WatchedCall, closed, not_answered


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
