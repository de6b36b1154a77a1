"""A watch of sessions for asyncio. What it promises stands in ``_watch_sessions.py``."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Self, cast

import grpc

from ...errors import SessauthError, Unavailable
from ...v1 import event_service_pb2 as pb
from .._failures import Failure, RpcFailure
from .._transport import AsyncTransport
from . import events
from .events import EventCursor, SessionEvent


class AsyncSessionWatch:
    """Iterates over what happens to sessions; made by :meth:`AsyncClient.watch_sessions`.

    A stream that breaks is opened again from where it broke. It stands when its ``async with`` block is
    entered, else when the first event is asked for; leave the block, or close it, to end it. For one task,
    except for :meth:`close`.
    """

    def __init__(self, transport: AsyncTransport, following: EventCursor, for_ms: int) -> None:
        """Open nothing yet."""
        self._transport = transport
        self._following = following
        self._ends = time.monotonic() + for_ms / 1000 if for_ms else 0.0
        self._closed = asyncio.Event()
        self._stream: Any = None

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

    async def close(self) -> None:
        """End it; who waits for the next event hears that there is none."""
        self._closed.set()
        if self._stream is not None:
            self._stream.cancel()

    def __aiter__(self) -> Self:
        """Return the watch."""
        return self

    async def __anext__(self) -> SessionEvent:
        """Wait for the next event.

        Ends when the watch was closed or its time is over. Raises Unavailable when no server was heard for
        too long, Rejected COMPACTED when what comes next is gone, and what else a server refuses.
        """
        while not self._over():
            event = self._following.next()
            if event is not None:
                return event
            await self._hear()
        await self.close()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        """Return the watch once it stands: it misses nothing that happens from here on."""
        while not self._following.stands and not self._over():
            await self._hear()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()

    def _over(self) -> bool:
        return self._closed.is_set() or bool(self._ends and time.monotonic() >= self._ends)

    def _left(self, seconds: float) -> float:
        """Return ``seconds``, or what is left of the watch's time."""
        return min(seconds, max(0.001, self._ends - time.monotonic())) if self._ends else seconds

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except TimeoutError:
            return

    async def _hear(self) -> None:
        """Take what is heard next, or pause where a stream broke. Raises what ends the watch."""
        try:
            self._following.take(await self._heard())
        except SessauthError as error:
            self._stream = None
            if not self._over():
                await self._pause(self._left(self._following.pause(error)))

    async def _heard(self) -> pb.WatchSessionsResponse:
        """Wait for the next response, on a new stream if there is none. Raises what ended it."""
        lane = self._transport.lanes.pick(checks=False)
        if self._stream is None:
            method = lane.channel.unary_stream(events.PATH, **events.CODEC)
            self._stream = method(
                self._following.request,
                timeout=self._left(events.STREAM_SECONDS),
                metadata=self._transport.metadata,
            )
        stream, began = self._stream, time.monotonic()
        try:
            async with asyncio.timeout(events.QUIET_SECONDS):
                response = await stream.read()
        except TimeoutError:
            stream.cancel()
            raise Unavailable(f"{lane.target} said nothing for {events.QUIET_SECONDS:.0f} s") from None
        except asyncio.CancelledError:
            # Of the stream, by close(), or of whoever waits.
            if self._closed.is_set() and stream.cancelled():
                raise Unavailable("the watch is closed") from None
            stream.cancel()
            raise
        except grpc.RpcError as error:
            failure = Failure.read(cast("RpcFailure", error))
            raise failure.error(
                target=lane.target, timeout_ms=round(1000 * (time.monotonic() - began))
            ) from None
        if not isinstance(response, pb.WatchSessionsResponse):
            raise Unavailable(f"{lane.target} ended the stream")
        return response
