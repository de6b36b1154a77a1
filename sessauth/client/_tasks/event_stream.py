"""The stream of a session watch, for asyncio."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import grpc

from ...errors import Unavailable
from ...v1 import event_service_pb2 as pb
from .._async.transport import AsyncTransport
from .._failures import Failure, RpcFailure
from .._watch import events
from .._watch.events import EventCursor, WatchPosition


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

    async def _receive(self) -> pb.WatchSessionsResponse:
        """Wait for the next response, on a new stream if there is none. Raises the error that ended it."""
        if self._stream is None:
            self._handle = self._transport.channels.pick(checks=False)
            self._open(self._handle, self._transport.metadata)
        stream, began_s = self._stream, time.monotonic()
        try:
            async with asyncio.timeout(events.QUIET_SECONDS):
                response = await stream.read()
        except TimeoutError:
            stream.cancel()
            raise Unavailable(
                f"{self._handle.target} said nothing for {events.QUIET_SECONDS:.0f} s"
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
        if not isinstance(response, pb.WatchSessionsResponse):
            raise Unavailable(f"{self._handle.target} ended the stream")
        return response
