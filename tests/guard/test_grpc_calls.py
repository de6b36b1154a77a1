"""Calls of a gRPC service behind interceptors: what their handlers and clients do."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2

from sessauth.decisions.outward import Outward
from sessauth.errors import UsageError
from sessauth.guard import Guard
from sessauth.guard.grpc import GuardInterceptor
from sessauth.guard.grpc_client import GuardClientInterceptor, OutgoingCalls, aio_interceptors
from sessauth.tokens.prover import HolderKey, Prover
from tests.guard.grpc_shop import (
    CODEC,
    METHODS,
    SERVICE,
    aio_serving,
    answer_of,
    method,
    requests_of,
    serving,
    texts_of,
    value_of,
)
from tests.guard.shop import CEILING, NewerRequest, OrderRequest
from tests.guard.world import World
from tests.support.server_fixture import AUDIENCE


def test_a_handler_is_stopped_when_its_permission_ends(world: World) -> None:
    """A coroutine is cancelled, and a function asks; the client learns that its token does not stand."""
    token = world.token("read:orders/*", session=world.session(ceiling=CEILING))
    guard = Guard(world.server.verifier, METHODS, audience=AUDIENCE, watch=True)
    ended: list[str] = []

    async def awaiting(*_: Any) -> Any:
        world.end(token)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def run() -> grpc.RpcError:
        handler = grpc.unary_unary_rpc_method_handler(awaiting, **CODEC)
        interceptors = aio_interceptors(OutgoingCalls(token))
        async with (
            aio_serving(world, guard, lambda _: {"read": handler}) as target,
            grpc.aio.insecure_channel(target, interceptors=interceptors) as channel,
        ):
            with pytest.raises(grpc.RpcError) as error:
                await method(channel, "read")(OrderRequest(order_id="17"), timeout=20)
        return error.value

    assert answer_of(asyncio.run(run())).outward is Outward.UNAUTHENTICATED
    assert ended == ["cancelled"]


def test_an_error_of_a_handler_stays_what_it_is(world: World) -> None:
    """It is no refusal: neither an abort of its own, nor an exception."""
    token = world.token("read:orders/*", session=world.session(ceiling=CEILING))
    guard = Guard(world.server.verifier, METHODS, audience=AUDIENCE)

    def refusing(_: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such order")

    async def arefusing(_: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such order")

    def failing(*_: Any) -> Any:
        raise ValueError("broken")

    async def status_in_tasks(behaviour: Any) -> grpc.StatusCode:
        handler = grpc.unary_unary_rpc_method_handler(behaviour, **CODEC)
        interceptors = aio_interceptors(OutgoingCalls(token))
        async with (
            aio_serving(world, guard, lambda _: {"read": handler}) as target,
            grpc.aio.insecure_channel(target, interceptors=interceptors) as channel,
        ):
            with pytest.raises(grpc.RpcError) as error:
                await method(channel, "read")(OrderRequest(order_id="17"), timeout=20)
        return error.value.code()

    for behaviour, status in (
        (refusing, grpc.StatusCode.NOT_FOUND),
        (arefusing, grpc.StatusCode.NOT_FOUND),
        (failing, grpc.StatusCode.UNKNOWN),
    ):
        assert asyncio.run(status_in_tasks(behaviour)) is status


def test_a_client_proves_each_call_of_a_bound_token(world: World) -> None:
    """Blocking and awaited; without a prover each call is refused."""
    holder = HolderKey.generate()
    session = world.session(ceiling=CEILING)
    token = world.server.operator.mint(
        session.id, ["read,write:orders/**"], [AUDIENCE], ending="bound", to=holder.public, may_seal=False
    )
    prover = Prover(holder, world.server.operator.verifier_keys())
    calls = OutgoingCalls(token, prover=prover, methods=METHODS)
    guard = Guard(world.server.verifier, METHODS, audience=AUDIENCE)
    request = OrderRequest(order_id="17", amount=5)

    async def awaited(target: str) -> str:
        async with grpc.aio.insecure_channel(target, interceptors=aio_interceptors(calls)) as channel:
            answer = await method(channel, "refund")(request, timeout=20)
            return str(answer.string_value)

    with serving(world, guard) as target, grpc.insecure_channel(target) as plain:
        channel = grpc.intercept_channel(plain, GuardClientInterceptor(calls))
        for _ in range(2):
            assert method(channel, "refund")(request, timeout=20).string_value == "refund done"
        assert texts_of(method(channel, "upload", "stream_unary")(requests_of("stream"), timeout=20))
        assert asyncio.run(awaited(target)) == "refund done"
        without = grpc.intercept_channel(plain, GuardClientInterceptor(OutgoingCalls(token)))
        with pytest.raises(grpc.RpcError) as error:
            method(without, "refund")(request, timeout=20)
    assert answer_of(error.value).outward is Outward.DENIED


def test_a_place_in_the_resource_of_a_stream_is_refused(world: World) -> None:
    """The start of a stream of requests has no values for it."""
    token = world.token("read,write:orders/**", session=world.session(ceiling=CEILING))
    guard = Guard(world.server.verifier, METHODS, audience=AUDIENCE, on_denied=world.denied.append)
    with serving(world, guard) as target, grpc.insecure_channel(target) as plain:
        channel = grpc.intercept_channel(plain, GuardClientInterceptor(OutgoingCalls(token)))
        with pytest.raises(grpc.RpcError):
            method(channel, "misplaced", "stream_unary")(requests_of("stream"), timeout=20)

    assert (world.ran, world.denied[-1].reason) == ([], "BAD_CALL")


def test_public_methods_need_no_token(world: World) -> None:
    """Those that are named, and no others."""
    guard = Guard(world.server.verifier, METHODS, audience=AUDIENCE)
    public = [f"/{SERVICE}/purge"]
    with serving(world, guard, public=public) as target, grpc.insecure_channel(target) as channel:
        assert method(channel, "purge")(OrderRequest(), timeout=20).string_value == "purge done"
        with pytest.raises(grpc.RpcError) as error:
            method(channel, "read")(OrderRequest(order_id="17"), timeout=20)

    assert answer_of(error.value).outward is Outward.UNAUTHENTICATED


def test_what_the_service_does_not_have_is_unimplemented(world: World) -> None:
    """The answer of gRPC itself stands."""
    guard = Guard(world.server.verifier, METHODS, audience=AUDIENCE)
    with (
        serving(world, guard) as target,
        grpc.insecure_channel(target) as channel,
        pytest.raises(grpc.RpcError) as error,
    ):
        method(channel, "nothing")(OrderRequest(), timeout=20)

    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_unknown_fields_do_not_reach_the_handler(world: World) -> None:
    """A newer client's field is not judged, so it is not handed on either."""
    token = world.token("read:orders/*", session=world.session(ceiling=CEILING))
    guard = Guard(world.server.verifier, METHODS, audience=AUDIENCE)
    sizes = []

    def read(request: Any, _: Any) -> Any:
        sizes.append(request.ByteSize())
        return value_of("read done")

    pool = ThreadPoolExecutor(2)
    server = grpc.server(pool, interceptors=[GuardInterceptor(guard)])
    handler = grpc.unary_unary_rpc_method_handler(read, **CODEC)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"read": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as plain:
        channel = grpc.intercept_channel(plain, GuardClientInterceptor(OutgoingCalls(token)))
        call = channel.unary_unary(
            f"/{SERVICE}/read", NewerRequest.SerializeToString, struct_pb2.Value.FromString
        )
        call(NewerRequest(order_id="17", secret="x" * 100), timeout=20)
    server.stop(None).wait()
    pool.shutdown()

    assert sizes == [OrderRequest(order_id="17").ByteSize()]


def test_a_guard_needs_the_table_of_the_service(world: World, tmp_path: Path) -> None:
    """A catalogue of tools is another thing."""
    with pytest.raises(UsageError, match="MethodTable"):
        GuardInterceptor(world.guard())
