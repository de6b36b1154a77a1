"""A gRPC service behind interceptors, for threads and for tasks, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2, status_pb2

from sessauth.decisions.outward import Outward
from sessauth.errors import UsageError
from sessauth.guard import Guard
from sessauth.guard.grpc import AioGuardInterceptor, GuardInterceptor
from sessauth.guard.grpc_client import GuardClientInterceptor, OutgoingCalls, aio_interceptors
from sessauth.guard.services.methods import MethodTable, ServiceMethod
from sessauth.tokens.holder import HolderKey
from sessauth.tokens.prover import Prover
from tests.guard.shop import CEILING, Answer, NewerRequest, OrderRequest, ShopStories
from tests.guard.world import World
from tests.support.server_fixture import AUDIENCE

SERVICE = "shop.Orders"
METHODS = MethodTable(
    {
        f"/{SERVICE}/read": ServiceMethod("read", "orders/{order_id}"),
        f"/{SERVICE}/refund": ServiceMethod("write", "orders/{order_id}"),
        f"/{SERVICE}/follow": ServiceMethod("read", "orders/{order_id}"),
        f"/{SERVICE}/upload": ServiceMethod("write", "orders/uploads"),
        f"/{SERVICE}/chat": ServiceMethod("write", "orders/chats"),
        f"/{SERVICE}/misplaced": ServiceMethod("write", "orders/{order_id}"),
    }
)
_serialize = {
    "request_deserializer": OrderRequest.FromString,
    "response_serializer": struct_pb2.Value.SerializeToString,
}


def _value(text: str) -> Any:
    return struct_pb2.Value(string_value=text)


def _fields(request: Any) -> dict[str, Any]:
    return {field.name: value for field, value in request.ListFields()}


def handlers(world: World) -> dict[str, Any]:
    """Return handlers for threads."""

    def unary(name: str) -> Callable[..., Any]:
        return lambda request, _: _value(world.run(name, **_fields(request)))

    def follow(request: Any, _: Any) -> Iterator[Any]:
        yield from (_value(world.run("follow", **_fields(request))) for _ in range(2))

    def upload(requests: Iterator[Any], _: Any) -> Any:
        return _value(world.run("upload", count=len(list(requests))))

    def chat(requests: Iterator[Any], _: Any) -> Iterator[Any]:
        for request in requests:
            yield _value(world.run("chat", **_fields(request)))

    return _handlers(unary, follow, upload, chat)


def aio_handlers(world: World) -> dict[str, Any]:
    """Return handlers for tasks."""

    def unary(name: str) -> Callable[..., Any]:
        async def handle(request: Any, _: Any) -> Any:
            return _value(world.run(name, **_fields(request)))

        return handle

    async def follow(request: Any, _: Any) -> AsyncIterator[Any]:
        for _ in range(2):
            yield _value(world.run("follow", **_fields(request)))

    async def upload(requests: AsyncIterator[Any], _: Any) -> Any:
        return _value(world.run("upload", count=len([each async for each in requests])))

    async def chat(_: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(_value(world.run("chat", **_fields(request))))

    return _handlers(unary, follow, upload, chat)


def _handlers(unary: Callable[..., Any], follow: Any, upload: Any, chat: Any) -> dict[str, Any]:
    return {
        **{
            name: grpc.unary_unary_rpc_method_handler(unary(name), **_serialize)
            for name in ("read", "refund", "purge")
        },
        "follow": grpc.unary_stream_rpc_method_handler(follow, **_serialize),
        "upload": grpc.stream_unary_rpc_method_handler(upload, **_serialize),
        "chat": grpc.stream_stream_rpc_method_handler(chat, **_serialize),
        "misplaced": grpc.stream_unary_rpc_method_handler(upload, **_serialize),
    }


@contextmanager
def serving(world: World, guard: Guard, **options: Any) -> Iterator[str]:
    """Serve with threads; gives the target."""
    pool = ThreadPoolExecutor(4)
    server = grpc.server(pool, interceptors=[GuardInterceptor(guard, **options)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers(world))])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        pool.shutdown()


@asynccontextmanager
async def aio_serving(world: World, guard: Guard, make: Any, **options: Any) -> AsyncIterator[str]:
    """Serve with tasks; gives the target."""
    server = grpc.aio.server(interceptors=[AioGuardInterceptor(guard, **options)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, make(world))])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def answer_of(error: grpc.RpcError) -> Answer:
    """Return a refusal as a client reads it."""
    metadata: Any = error.trailing_metadata()  # type: ignore[attr-defined]
    details = dict(metadata or ()).get("grpc-status-details-bin", b"")
    info = error_details_pb2.ErrorInfo()
    (detail,) = status_pb2.Status.FromString(details).details
    assert detail.Unpack(info)
    outward = Outward[info.reason]
    assert (info.domain, error.code().name) == ("sessauth", outward.grpc)  # type: ignore[attr-defined]
    return Answer(error.details(), outward, info.metadata.get("decision", ""))  # type: ignore[attr-defined]


def method(channel: Any, name: str, kind: str = "unary_unary") -> Any:
    """Return a method of a channel."""
    return getattr(channel, kind)(
        f"/{SERVICE}/{name}", OrderRequest.SerializeToString, struct_pb2.Value.FromString
    )


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


KINDS = [("follow", "unary_stream"), ("upload", "stream_unary"), ("chat", "stream_stream")]


def _requests(kind: str) -> Any:
    requests = [OrderRequest(order_id="17"), OrderRequest(order_id="18")]
    return requests[0] if kind.startswith("unary") else iter(requests)


def _texts(answer: Any) -> list[str]:
    answers = [answer] if isinstance(answer, struct_pb2.Value) else list(answer)
    return [each.string_value for each in answers]


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
            _texts(refused(_requests(kind), timeout=20))
        assert answer_of(error.value).outward is Outward.DENIED
        assert world.ran == []
        texts = _texts(allowed(_requests(kind), timeout=20))

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

    async def answers(target: str, with_token: Any) -> list[str]:
        interceptors = aio_interceptors(OutgoingCalls(with_token))
        async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
            call = method(channel, name, kind)(_requests(kind), timeout=20)
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
        assert _texts(method(channel, "upload", "stream_unary")(_requests("stream"), timeout=20))
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
            method(channel, "misplaced", "stream_unary")(_requests("stream"), timeout=20)

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
        return _value("read done")

    pool = ThreadPoolExecutor(2)
    server = grpc.server(pool, interceptors=[GuardInterceptor(guard)])
    handler = grpc.unary_unary_rpc_method_handler(read, **_serialize)
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
