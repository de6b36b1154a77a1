"""A server that answers as a test tells it to, on a Unix socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from sessauth.client import Client
from tests.support.service import Service, running

Answer = Callable[[bytes, grpc.ServicerContext], Message]


@dataclass
class Seen:
    """One call as the server saw it."""

    method: str
    request: bytes
    metadata: dict[str, str]
    remaining_s: float


@dataclass
class FakeServer(grpc.GenericRpcHandler):
    """Answers each method by the function that stands under its name, and keeps what it saw."""

    target: str
    answers: dict[str, Answer] = field(default_factory=dict)
    streams: dict[str, Callable[..., Iterator[Message]]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        """Return the handler of a method."""
        method = details.method.removeprefix("/sessauth.v1.")
        if method in self.streams:
            return grpc.stream_stream_rpc_method_handler(
                lambda requests, context: (
                    each.SerializeToString() for each in self.streams[method](requests)
                ),
            )

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            metadata = {key: str(value) for key, value in context.invocation_metadata()}
            self.seen.append(Seen(method, request, metadata, context.time_remaining()))
            return self.answers[method](request, context).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle)

    def requests(self, kind: Any) -> list[Any]:
        """Return what was asked, parsed as messages of ``kind``."""
        return [kind.FromString(each.request) for each in self.seen]


def failing(code: grpc.StatusCode, message: str = "", word: str = "", field_name: str = "") -> Answer:
    """Return an answer that fails with ErrorInfo and BadRequest, as a server does."""

    def answer(_request: bytes, context: grpc.ServicerContext) -> Message:
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in (
            error_details_pb2.ErrorInfo(reason=word, domain="sessauth") if word else None,
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=field_name, description=message)
                ]
            )
            if field_name
            else None,
        ):
            if detail is not None:
                packed = any_pb2.Any()
                packed.Pack(detail)
                status.details.append(packed)
        context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
        context.abort(code, message)
        raise AssertionError("abort returns")

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Return an answer that gives each of ``answers`` once, and the last one from then on."""
    left = list(answers)

    def answer(request: bytes, context: grpc.ServicerContext) -> Message:
        return (left.pop(0) if len(left) > 1 else left[0])(request, context)

    return answer


def always(message: Message) -> Answer:
    """Return an answer that is always ``message``."""
    return lambda _request, _context: message


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[[str], FakeServer]]:
    """Give a function that starts a server on a socket of a given name."""
    running = []

    def make(name: str) -> FakeServer:
        fake = FakeServer(f"unix:{tmp_path / name}")
        server = grpc.server(ThreadPoolExecutor(4), handlers=[fake])
        server.add_insecure_port(fake.target)
        server.start()
        running.append(server)
        return fake

    yield make
    for server in running:
        server.stop(0).wait()


@pytest.fixture
def server(make_server: Callable[[str], FakeServer]) -> FakeServer:
    """Give a running server without answers."""
    return make_server("fake.sock")


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    """Give a client of ``server`` with a credential."""
    with Client(server.target, "sessauth_key_tester_secret") as client:
        yield client


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Give a real server that the tests of a module share."""
    with running() as started:
        yield started


@pytest.fixture
def real(service: Service) -> Iterator[Client]:
    """Give a client of it, with the operator's credential."""
    with Client(str(service.made.socket), timeout_ms=10_000) as client:
        yield client
