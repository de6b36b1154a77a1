"""Envoy as a proxy in front of a native worker: Unix socket, TCP, TLS; behind it, grpcio's client."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.envoy import TRANSPORTS, envoy, program
from tests.support.interop_server import InteropServer, interop_server
from tests.support.service import Caller, RpcError, wait_until
from tests.support.watching import Stream, item


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """Each way to reach a worker."""
    return str(request.param)


@pytest.fixture(scope="module")
def served(transport: str, server: InteropServer, tls_server: InteropServer) -> InteropServer:
    """The server of the transport."""
    return tls_server if transport.startswith("tls") else server


@pytest.fixture(scope="module")
def caller(
    transport: str, served: InteropServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Caller]:
    """A caller to Envoy in front of the worker."""
    with envoy(tmp_path_factory.mktemp("envoy"), served, transport).running() as proxied:
        yield proxied


def _code(caller: Caller, served: InteropServer) -> str:
    try:
        caller.call("AuthorizationService/Check", pb.CheckRequest.FromString(served.check()), timeout=5)
    except RpcError as error:
        return str(error.code.name)
    return "OK"


def test_calls_go_through(caller: Caller, served: InteropServer) -> None:
    """Unary calls, a batch of 11 MiB, an error with its details, a missing deadline, 400 calls at once."""
    for resource, allowed in ((b"files/a", True), (b"logs", False)):
        request = pb.CheckRequest.FromString(served.check(resource))
        assert caller.call("AuthorizationService/Check", request).decision.allowed is allowed
    arguments = b'{"text":"%s"}' % (b"a" * 11_400)
    large = pb.CheckItem(token_index=1, action=b"read", resource=b"files/a", arguments=arguments)
    batch = pb.CheckBatchRequest(items=[large] * 1000, tokens=[served.token], audience="gw")
    answer = caller.call("AuthorizationService/CheckBatch", batch, timeout=60)
    assert all(each.allowed for each in answer.decisions)
    with pytest.raises(RpcError) as refused:
        caller.call("AuthorizationService/Check", pb.CheckRequest(audience="gw"))
    assert (refused.value.code.name, refused.value.word, refused.value.field) == (
        *("INVALID_ARGUMENT", "INVALID_ARGUMENT", "item"),
    )
    with pytest.raises(RpcError) as refused:
        caller.call("AuthorizationService/Check", pb.CheckRequest(audience="gw"), timeout=None)
    assert refused.value.word == "DEADLINE_REQUIRED"
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: _code(caller, served), range(400))) == {"OK"}


def test_streams_go_through(caller: Caller, served: InteropServer) -> None:
    """Answers, a withdrawal, an end; a deadline that passes; a cancellation."""
    session_id, token = served.session()
    opened = Stream(caller)
    for number in range(3):
        opened.allow(number, item(token), watch=number == 0)
    served.end(session_id)
    assert opened.withdrawn()[0] == 0
    opened.end_requests()
    assert opened.ended()
    late = Stream(caller, timeout=0.3)
    with pytest.raises(RpcError) as ended:
        late.next()
    assert ended.value.code.name == "DEADLINE_EXCEEDED"
    late.close()
    cancelled = Stream(caller)
    cancelled.allow(1, item(served.token))
    cancelled.close()
    assert _code(caller, served) == "OK"


def test_a_replaced_worker_is_reached_again(caller: Caller, served: InteropServer) -> None:
    """UNAVAILABLE while there is none."""
    assert _code(caller, served) == "OK"
    served.replace_worker()
    codes: list[str] = []
    assert wait_until(lambda: codes.append(_code(caller, served)) or codes[-1] == "OK")
    assert set(codes) <= {"OK", "UNAVAILABLE"}


@pytest.mark.parametrize("transport", ["unix", "tls 1.3"])
def test_a_drain_is_passed_on(library: None, transport: str, tmp_path: Path) -> None:
    """The stream's status comes through; the calls behind the drain are UNAVAILABLE."""
    program()
    tls = transport.startswith("tls")
    with interop_server(tls=tls) as served, envoy(tmp_path, served, transport).running() as caller:
        opened = Stream(caller)
        opened.allow(1, item(served.token))
        served.drain()
        with pytest.raises(RpcError) as ended:
            opened.next()
        assert (ended.value.code.name, ended.value.word) == ("UNAVAILABLE", "SHUTTING_DOWN")
        codes: list[str] = []
        assert wait_until(lambda: codes.append(_code(caller, served)) or codes[-1] != "OK")
        codes += [_code(caller, served) for _ in range(20)]
        assert set(codes) <= {"OK", "UNAVAILABLE"}
        assert codes[-1] == "UNAVAILABLE"
        opened.close()
        assert served.process.wait(30) == 0
