"""Faults of the server's own around a call: the call ends, and the others go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from sessauth.server.rpc import grpc_server as serving_module
from sessauth.server.rpc.call import Accounting
from sessauth.server.rpc.tracing import OnEvent
from sessauth.server.transport import native
from sessauth.server.transport.native import NativeServer, Receiving
from sessauth.server.transport.rpc import Rpc
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.service import SHORT, RpcError, running, serves, wait_until

LIST = "SessionService/ListSessions"


@contextmanager
def _server(accept: Callable[[Rpc], None], receiving: Receiving) -> Iterator[grpc.Channel]:
    """A bare server that has ``accept`` take its calls, and a channel to it."""
    server = NativeServer(accept, receiving, slow_reader_seconds=10.0)
    target = f"127.0.0.1:{server.add_port('127.0.0.1:0')}"
    server.start()
    with grpc.insecure_channel(target, options=(("grpc.enable_http_proxy", 0),)) as channel:
        yield channel
    assert server.stop(0.0).wait(10)


def _fail(*_: object) -> None:
    raise RuntimeError("injected")


def _failing(name: str, rule: object) -> OnEvent:
    return _fail


def test_a_refusal_that_cannot_be_counted_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both on the polling thread, which goes on, and in a pool."""
    monkeypatch.setattr(Accounting, "record_failure", _fail)
    with running(limits={"receive_ms": 300}) as service:
        operator, late = service.operator, threading.Event()

        def nothing() -> Iterator[bytes]:
            late.wait(30)
            yield from ()

        rpc = operator.channel.stream_unary(SHORT[LIST])
        held = rpc.future(nothing(), timeout=30, metadata=operator.metadata)
        assert held.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        late.set()
        with pytest.raises(RpcError) as refused:
            operator.call("SessionService/GetSession", sessions.GetSessionRequest(session_id=b"x" * 16))
        assert refused.value.word == "NOT_FOUND"
        assert serves(operator)


def test_an_answer_that_cannot_be_counted_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client has it, whatever becomes of our own numbers."""
    monkeypatch.setattr(Accounting, "success_recorder", lambda self, name, rule: _failing(name, rule))
    with running() as service:
        assert service.operator.call(LIST, sessions.ListSessionsRequest()) is not None


def test_a_refusal_that_has_no_status_ends_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client need not wait for its deadline."""
    monkeypatch.setattr("sessauth.server.transport.rpc.to_status", _fail)
    with running() as service, pytest.raises(RpcError) as refused:
        service.operator.call("SessionService/GetSession", sessions.GetSessionRequest(session_id=b"x"))
    assert refused.value.code is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("where", ["expire", "poll"])
def test_polling_goes_on_behind_a_fault(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is raised by the thread's own steps is logged, and calls are accepted."""
    failed = threading.Event()

    def failing(owner: type[Any]) -> type[Any]:
        real = getattr(owner, where)

        def once(self: Any, number: float) -> Any:
            if not failed.is_set():
                failed.set()
                raise RuntimeError("injected")
            return real(self, number)

        return type("Failing", (owner,), {where: once})

    if where == "expire":
        monkeypatch.setattr(Receiving, where, failing(Receiving).__dict__[where])
    else:
        monkeypatch.setattr(native, "Loop", failing(native.Loop))
    with _server(lambda rpc: rpc.unimplemented(), Receiving(1_000)) as channel:
        assert failed.wait(10)
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/a/b")(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_call_that_cannot_be_taken_over_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told at once, and the next call is accepted."""
    failed = threading.Event()

    def once(call: native.NativeCall) -> Rpc:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("injected")
        return Rpc(call)

    monkeypatch.setattr(native, "Rpc", once)
    codes = []
    with _server(lambda rpc: rpc.unimplemented(), Receiving(1_000)) as channel:
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary("/a/b")(b"", timeout=10)
            codes.append(refused.value.code())
    assert codes == [grpc.StatusCode.CANCELLED, grpc.StatusCode.UNIMPLEMENTED]


def test_a_server_whose_calls_are_not_polled_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is seen twice before, and the reason is raised by ``serve``."""
    monkeypatch.setattr(serving_module, "SILENT_SECONDS", -1.0)
    with running() as service:
        control = service.control
        assert control is not None
        assert wait_until(control.stopping.is_set)
        assert "were not polled" in str(control.failure)
