"""A gRPC service behind interceptors, for threads and for tasks, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from sessauth.decisions.outward import Outward
from sessauth.guard import Guard
from sessauth.guard.grpc_client import GuardClientInterceptor, OutgoingCalls, aio_interceptors
from tests.guard.grpc_shop import (
    KINDS,
    METHODS,
    SERVICE,
    aio_handlers,
    aio_serving,
    answer_of,
    handlers,
    method,
    requests_of,
    serving,
    texts_of,
)
from tests.guard.shop import CEILING, Answer, OrderRequest, ShopStories
from tests.guard.world import World
from tests.support.server_fixture import AUDIENCE


class GrpcStories(ShopStories):
    """Calls of a gRPC service."""

    table = METHODS

    def judged(self, name: str, arguments: dict[str, Any]) -> tuple[str, str, bytes]:
        """Return the call by the table."""
        return METHODS.call(f"/{SERVICE}/{name}", OrderRequest(**arguments), streamed=False)


class TestGrpc(GrpcStories):
    """A server and a client with threads."""

    __test__ = True

    def call(
        self,
        world: World,
        guard: Guard,
        name: str,
        arguments: dict[str, Any],
        headers: list[tuple[str, str]],
    ) -> Answer:
        """Call over a channel."""
        with serving(world, guard) as target, grpc.insecure_channel(target) as channel:
            try:
                answer = method(channel, name)(OrderRequest(**arguments), metadata=headers, timeout=20)
            except grpc.RpcError as error:
                return answer_of(error)
        return Answer(answer.string_value)


class TestGrpcAio(GrpcStories):
    """A server and a client with tasks."""

    __test__ = True
    make = staticmethod(aio_handlers)

    def call(
        self,
        world: World,
        guard: Guard,
        name: str,
        arguments: dict[str, Any],
        headers: list[tuple[str, str]],
    ) -> Answer:
        """Call over a channel of grpc.aio."""

        async def run() -> Answer:
            async with (
                aio_serving(world, guard, self.make) as target,
                grpc.aio.insecure_channel(target) as channel,
            ):
                request = OrderRequest(**arguments)
                try:
                    answer = await method(channel, name)(request, metadata=headers, timeout=20)
                except grpc.RpcError as error:
                    return answer_of(error)
            return Answer(answer.string_value)

        return asyncio.run(run())


class TestGrpcAioWithThreads(TestGrpcAio):
    """A server with tasks whose handlers are for threads."""

    make = staticmethod(handlers)


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_streams_are_judged_at_their_start(world: World, name: str, kind: str) -> None:
    """A stream runs whole or not at all; a stream of requests is judged without arguments."""
    token = world.token("read,write:orders/*", session=world.session(ceiling=CEILING))
    other = world.token("read:orders/other", session=world.session(ceiling=CEILING))
    guard = Guard(world.server.verifier, METHODS, audience=AUDIENCE)
    with serving(world, guard) as target, grpc.insecure_channel(target) as plain:
        refused, allowed = (
            method(grpc.intercept_channel(plain, GuardClientInterceptor(OutgoingCalls(each))), name, kind)
            for each in (other, token)
        )
        with pytest.raises(grpc.RpcError) as error:
            texts_of(refused(requests_of(kind), timeout=20))
        assert answer_of(error.value).outward is Outward.DENIED
        assert world.ran == []
        texts = texts_of(allowed(requests_of(kind), timeout=20))

    assert texts == [f"{name} done"] * (1 if name == "upload" else 2)


# A handler for threads can't iterate over the requests that grpc.aio gives it.
@pytest.mark.parametrize(
    ("make", "name", "kind"),
    [(aio_handlers, *kind) for kind in KINDS] + [(handlers, *kind) for kind in KINDS if kind[0] != "upload"],
)
def test_streams_are_judged_at_their_start_in_tasks(world: World, make: Any, name: str, kind: str) -> None:
    """The same with grpc.aio, on both sides, for each kind of handler."""
    token = world.token("read,write:orders/*", session=world.session(ceiling=CEILING))
    other = world.token("read:orders/other", session=world.session(ceiling=CEILING))
    guard = Guard(world.server.verifier, METHODS, audience=AUDIENCE)

    async def silent() -> AsyncIterator[Any]:
        # A client of grpc.aio whose request meets the end of the call calls that its own internal error.
        await asyncio.sleep(20)
        yield OrderRequest()

    async def answers(target: str, with_token: Any) -> list[str]:
        interceptors = aio_interceptors(OutgoingCalls(with_token))
        requests = silent() if with_token is other and kind != "unary_stream" else requests_of(kind)
        async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
            call = method(channel, name, kind)(requests, timeout=20)
            if kind.endswith("stream"):
                return [each.string_value async for each in call]
            return [(await call).string_value]

    async def run() -> list[str]:
        async with aio_serving(world, guard, make) as target:
            with pytest.raises(grpc.RpcError) as error:
                await answers(target, other)
            assert answer_of(error.value).outward is Outward.DENIED
            assert world.ran == []
            return await answers(target, token)

    assert asyncio.run(run()) == [f"{name} done"] * (1 if name == "upload" else 2)
