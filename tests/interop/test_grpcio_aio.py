"""The asyncio client of grpcio at a native worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.interop_server import BATCH, CHECK, STREAM, TRANSPORTS, InteropServer
from tests.support.watching import item


class Asker:
    """One channel to a worker."""

    def __init__(self, served: InteropServer, transport: str, channel: grpc.aio.Channel) -> None:
        """Call by this channel."""
        self.served = served
        self.options: dict[str, Any] = {"metadata": served.metadata(transport), "timeout": 20}
        self._check = channel.unary_unary(CHECK, response_deserializer=pb.CheckResponse.FromString)
        self._batch = channel.unary_unary(BATCH, response_deserializer=pb.CheckBatchResponse.FromString)
        self._stream: Any = channel.stream_stream(
            STREAM,
            request_serializer=pb.CheckStreamRequest.SerializeToString,
            response_deserializer=pb.CheckStreamResponse.FromString,
        )

    async def check(self, data: bytes, **options: Any) -> pb.Decision:
        """Return the decision of an encoded check."""
        return (await self._check(data, **{**self.options, **options})).decision

    async def batch(self, data: bytes) -> list[bool]:
        """Return which items of an encoded batch are allowed."""
        return [each.allowed for each in (await self._batch(data, **self.options)).decisions]

    def stream(self, **options: Any) -> Any:
        """Open a stream."""
        return self._stream(**{**self.options, **options})

    async def word(self, data: bytes, **options: Any) -> tuple[str, str]:
        """Return code and word of a refused check."""
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.check(data, **options)
        details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
        info = error_details_pb2.ErrorInfo()
        assert status_pb2.Status.FromString(details).details[0].Unpack(info)
        return refused.value.code().name, info.reason


@asynccontextmanager
async def _asker(served: InteropServer, transport: str) -> AsyncIterator[Asker]:
    credentials = served.channel_credentials(transport)
    target = served.target(transport)
    channel = (
        grpc.aio.insecure_channel(target)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials)
    )
    async with channel:
        yield Asker(served, transport, channel)


async def _answers(asker: Asker) -> None:
    served = asker.served
    assert (await asker.check(served.check())).allowed
    assert (await asker.check(served.check(b"logs"))).reason == pb.REASON_OUT_OF_SCOPE
    assert await asker.batch(served.batch()) == [True, False, True]
    together = await asyncio.gather(*(asker.check(served.check()) for _ in range(400)))
    assert all(decision.allowed for decision in together)


async def _errors(asker: Asker) -> None:
    assert await asker.word(b"") == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert await asker.word(asker.served.check(), timeout=None) == ("INVALID_ARGUMENT", "DEADLINE_REQUIRED")
    late = asker.stream(timeout=0.2)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await late.read()
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def _streams(asker: Asker) -> None:
    session_id, token = asker.served.session()
    call = asker.stream()
    for number in range(4):
        await call.write(pb.CheckStreamRequest(id=number, item=item(token), watch=number == 3))
    answers = [await call.read() for _ in range(4)]
    assert [(each.id, each.decision.allowed) for each in answers] == [(number, True) for number in range(4)]
    await asyncio.to_thread(asker.served.end, session_id)
    withdrawn = await call.read()
    assert (withdrawn.id, withdrawn.withdrawn, withdrawn.decision.reason) == (
        3,
        True,
        pb.REASON_SESSION_ENDED,
    )
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK

    cancelled = asker.stream()
    await cancelled.write(pb.CheckStreamRequest(id=1, item=item(asker.served.token), watch=True))
    assert (await cancelled.read()).decision.allowed
    assert cancelled.cancel()
    assert await cancelled.code() is grpc.StatusCode.CANCELLED
    assert (await asker.check(asker.served.check())).allowed


@pytest.mark.parametrize("play", [_answers, _errors, _streams])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_asyncio_is_served(
    server: InteropServer,
    tls_server: InteropServer,
    transport: str,
    play: Callable[[Asker], Awaitable[None]],
) -> None:
    """Answers, many at once; refusals with their details, deadlines; streams, withdrawals, cancellation."""
    served = tls_server if transport == "tls" else server

    async def run() -> None:
        async with _asker(served, transport) as asker:
            await play(asker)

    asyncio.run(run())
    assert served.process.poll() is None
