"""The order service over gRPC: its methods and handlers, servers for threads and for tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2, status_pb2

from sessauth.decisions.outward import Outward
from sessauth.guard import Guard
from sessauth.guard.grpc import AioGuardInterceptor, GuardInterceptor
from sessauth.guard.services.methods import MethodTable, ServiceMethod
from tests.guard.shop import Answer, OrderRequest
from tests.guard.world import World

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
CODEC = {
    "request_deserializer": OrderRequest.FromString,
    "response_serializer": struct_pb2.Value.SerializeToString,
}


def value_of(text: str) -> Any:
    """Return an answer."""
    return struct_pb2.Value(string_value=text)


def fields_of(request: Any) -> dict[str, Any]:
    """Return the fields that are set."""
    return {field.name: value for field, value in request.ListFields()}


def handlers(world: World) -> dict[str, Any]:
    """Return handlers for threads."""

    def unary(name: str) -> Callable[..., Any]:
        return lambda request, _: value_of(world.run(name, **fields_of(request)))

    def follow(request: Any, _: Any) -> Iterator[Any]:
        yield from (value_of(world.run("follow", **fields_of(request))) for _ in range(2))

    def upload(requests: Iterator[Any], _: Any) -> Any:
        return value_of(world.run("upload", count=len(list(requests))))

    def chat(requests: Iterator[Any], _: Any) -> Iterator[Any]:
        for request in requests:
            yield value_of(world.run("chat", **fields_of(request)))

    return _handlers(unary, follow, upload, chat)


def aio_handlers(world: World) -> dict[str, Any]:
    """Return handlers for tasks."""

    def unary(name: str) -> Callable[..., Any]:
        async def handle(request: Any, _: Any) -> Any:
            return value_of(world.run(name, **fields_of(request)))

        return handle

    async def follow(request: Any, _: Any) -> AsyncIterator[Any]:
        for _ in range(2):
            yield value_of(world.run("follow", **fields_of(request)))

    async def upload(requests: AsyncIterator[Any], _: Any) -> Any:
        return value_of(world.run("upload", count=len([each async for each in requests])))

    async def chat(_: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(value_of(world.run("chat", **fields_of(request))))

    return _handlers(unary, follow, upload, chat)


def _handlers(unary: Callable[..., Any], follow: Any, upload: Any, chat: Any) -> dict[str, Any]:
    return {
        **{
            name: grpc.unary_unary_rpc_method_handler(unary(name), **CODEC)
            for name in ("read", "refund", "purge")
        },
        "follow": grpc.unary_stream_rpc_method_handler(follow, **CODEC),
        "upload": grpc.stream_unary_rpc_method_handler(upload, **CODEC),
        "chat": grpc.stream_stream_rpc_method_handler(chat, **CODEC),
        "misplaced": grpc.stream_unary_rpc_method_handler(upload, **CODEC),
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


KINDS = [("follow", "unary_stream"), ("upload", "stream_unary"), ("chat", "stream_stream")]


def requests_of(kind: str) -> Any:
    """Return two requests, or one where a method takes one."""
    requests = [OrderRequest(order_id="17"), OrderRequest(order_id="18")]
    return requests[0] if kind.startswith("unary") else iter(requests)


def texts_of(answer: Any) -> list[str]:
    """Return the texts of one answer or a stream."""
    answers = [answer] if isinstance(answer, struct_pb2.Value) else list(answer)
    return [each.string_value for each in answers]
