"""Answers that are no messages: an error of the package from every call of either client, never an allow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sessauth.client import AsyncClient, CheckItem, Client
from sessauth.errors import ServerError
from sessauth.v1 import authorization_service_pb2 as pb

from .conftest import FakeServer

CHECK = "AuthorizationService/Check"
BATCH = "AuthorizationService/CheckBatch"
STREAM = "AuthorizationService/CheckStream"
ITEM = CheckItem(b"t", "read", "files/a")
ALLOW = pb.Decision(allowed=True, reason=pb.REASON_ALLOWED)
MESSAGE = "INTERNAL: Exception deserializing response!"


def raw(data: bytes) -> Any:
    """Bytes in the place of a message."""
    return SimpleNamespace(SerializeToString=lambda: data)


WHOLE = pb.CheckResponse(decision=ALLOW).SerializeToString()
UNREADABLE = {
    "cut": WHOLE[:-1],
    "cut behind the flag": WHOLE[:4],
    "too long": WHOLE + b"\x0a",
    "no field": b"\xff",
    "no text": b"\x0a\x06\x08\x01\x10\x01\x6a\x01\xff"[:9],
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("call", ["check", "check_batch"])
def test_an_unreadable_answer_is_the_servers_error(server: FakeServer, call: str, data: bytes) -> None:
    """Both clients raise the same error."""
    server.answers[CHECK] = server.answers[BATCH] = lambda _request, _context: raw(data)
    arguments: tuple[Any, ...] = (b"t", "read", "files/a") if call == "check" else ([ITEM],)

    async def ask() -> None:
        async with AsyncClient(server.target, "") as client:
            await getattr(client, call)(*arguments)

    with Client(server.target, "") as client, pytest.raises(ServerError) as blocking:
        getattr(client, call)(*arguments)
    with pytest.raises(ServerError) as awaited:
        asyncio.run(ask())

    assert str(blocking.value) == str(awaited.value) == MESSAGE
    assert len(server.seen) == 2


def answers(_requests: Any) -> Iterator[Any]:
    """An allow, and then no message."""
    next(_requests)
    yield pb.CheckStreamResponse(id=1, decision=ALLOW)
    next(_requests, None)
    yield raw(b"\x12\x7f")
    for _ in _requests:
        pass


def test_an_unreadable_answer_of_a_stream_ends_it(server: FakeServer) -> None:
    """The answers before it count."""
    # One request: the stream ends when no more come.
    server.streams[STREAM] = lambda requests: answers(iter([next(requests)]))

    async def ask(numbers: list[int]) -> None:
        async with AsyncClient(server.target, "") as client:
            async for number, _ in client.check_stream([ITEM]):
                numbers.append(number)

    def ask_and_block(numbers: list[int]) -> None:
        with Client(server.target, "") as client:
            numbers.extend(number for number, _ in client.check_stream([ITEM]))

    for run in (ask_and_block, lambda numbers: asyncio.run(ask(numbers))):
        numbers: list[int] = []
        with pytest.raises(ServerError, match="deserializing"):
            run(numbers)
        assert numbers == [1]


def test_an_unreadable_answer_ends_a_watch(server: FakeServer) -> None:
    """No call that was allowed on it is allowed any more."""
    server.streams[STREAM] = answers

    async def watched() -> tuple[bool, bool]:
        async with AsyncClient(server.target, "") as client, client.watch() as watch:
            call = await watch.ask(ITEM)
            allowed = bool(call)
            with pytest.raises(ServerError, match="deserializing"):
                await watch.ask(ITEM)
            return allowed, bool(call)

    with Client(server.target, "") as client, client.watch() as watch:
        call = watch.ask(ITEM)
        assert call
        with pytest.raises(ServerError, match="deserializing"):
            watch.ask(ITEM)
        assert not call
    assert asyncio.run(watched()) == (True, False)
