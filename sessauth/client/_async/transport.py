"""Runs described calls over gRPC channels: deadline, credential, retries."""

from __future__ import annotations

import asyncio
from typing import TypeVar, cast

import grpc

from ...errors import SessauthError
from .._failures import Failure, RpcFailure, unreadable
from .._transport import CallMetadata, ChannelPool, Endpoint, RetryState, RpcRequest

T = TypeVar("T")


class AsyncTransport(CallMetadata):
    """Runs calls on the event loop that it was made on."""

    def __init__(self, endpoint: Endpoint, *, trace: bool = False) -> None:
        """Make the channels; nothing connects before the first call. ``trace``: calls name their trace."""
        super().__init__(endpoint, trace)
        if not trace:  # async only
            # Each call would make it of a tuple.  # async only
            self._metadata = grpc.aio.Metadata(*endpoint.metadata)  # async only
        self.channels = ChannelPool(endpoint, grpc.aio)

    async def run(self, call: RpcRequest[T], timeout_ms: int) -> T:
        """Make the call and return its result. Raises the errors of ``Failure.error``."""
        retries = RetryState(call, timeout_ms, self.channels.servers(call.checks))
        while True:
            handle = self.channels.pick(call.checks)
            try:
                answer = await handle.unary(call)(
                    call.request, timeout=retries.remaining_s(), metadata=self.metadata
                )
            except grpc.RpcError as error:
                failure = Failure.read(cast("RpcFailure", error))
                if failure.elsewhere:
                    self.channels.leave(handle)
                verdict = retries.judge(failure, handle.target)
            else:
                if answer is None:  # async only
                    raise unreadable()  # async only
                return call.convert(answer)
            if isinstance(verdict, SessauthError):
                raise verdict
            await asyncio.sleep(verdict)

    async def close(self) -> None:
        """Close all channels; calls under way are cancelled."""
        for handle in self.channels.close():
            await handle.channel.close()
