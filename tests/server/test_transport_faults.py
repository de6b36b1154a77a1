"""Faults of the server's own around a call: the call ends, and the others go on."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from sessauth.server.rpc import grpc_server as serving_module
from sessauth.server.rpc.accounting import Accounting
from sessauth.server.rpc.tracing import OnEvent
from sessauth.server.transport import core
from sessauth.server.transport.loop import GrpcServer
from sessauth.server.transport.receiving import Receiving
from sessauth.server.transport.rpc import Rpc
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.service import SHORT, RpcError, running, serves, wait_until

LIST = "SessionService/ListSessions"


@contextmanager
def _server(accept: Callable[[Rpc], None], receiving: Receiving) -> Iterator[grpc.Channel]:
    """A bare server that has ``accept`` take its calls, and a channel to it."""
    server = GrpcServer(accept, receiving, [])
    target = f"unix-abstract:sessauth-{secrets.token_hex(8)}"
    assert server.add_port(target)
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
    owner: Any = Receiving if where == "expire" else core.Core
    real, failed = getattr(owner, where), threading.Event()

    def once(self: Any, number: float) -> Any:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("injected")
        return real(self, number)

    monkeypatch.setattr(owner, where, once)
    with _server(lambda rpc: rpc.unimplemented(), Receiving(1_000)) as channel:
        assert failed.wait(10)
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/a/b")(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_call_that_cannot_be_taken_over_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told at once, and the next call is accepted."""
    real, failed = core.GrpcCall.notice_end, threading.Event()

    def once(call: Any, on_end: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("injected")
        real(call, on_end)

    monkeypatch.setattr(core.GrpcCall, "notice_end", once)
    codes = []
    with _server(lambda rpc: rpc.unimplemented(), Receiving(1_000)) as channel:
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary("/a/b")(b"", timeout=10)
            codes.append(refused.value.code())
    assert codes == [grpc.StatusCode.CANCELLED, grpc.StatusCode.UNIMPLEMENTED]


def test_what_the_core_refuses_ends_the_call() -> None:
    """A second reception at once is an error of the core: it is raised, and the call is cancelled."""
    raised: list[Exception] = []

    def accept(rpc: Rpc) -> None:
        assert rpc._call is not None
        rpc._call.receive(lambda message: None)
        try:
            next(messages := rpc.messages(b"1"))
            next(messages)
        except RuntimeError as error:
            raised.append(error)

    def never() -> Iterator[bytes]:
        threading.Event().wait(3)
        yield b""

    with _server(accept, Receiving(1_000)) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.stream_unary("/a/b")(never(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.CANCELLED
    assert len(raised) == 1


def test_a_server_whose_calls_are_not_polled_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is seen twice before, and the reason is raised by ``serve``."""
    monkeypatch.setattr(serving_module, "SILENT_SECONDS", -1.0)
    with running() as service:
        control = service.control
        assert control is not None
        assert wait_until(control.stopping.is_set)
        assert "were not polled" in str(control.failure)


def test_a_clock_that_steps_back_holds_no_poll_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait of grpcio ends by the wall clock: it is over when that is set back by an hour, too."""
    polled = core.Core([])
    clock, waits = [10_000.0], [0]

    def wait(deadline: float) -> SimpleNamespace:
        """Do as ``CompletionQueue.poll``: it reads the clock anew for each 200 ms that it waits."""
        until = 0.0
        while until != deadline:
            until = min(clock[0] + 0.2, deadline)
            clock[0] = until if waits[0] else until - 3_600
            waits[0] += 1
            assert waits[0] < 100
        return SimpleNamespace(completion_type=polled._timeout)

    monkeypatch.setattr(polled, "_queue", SimpleNamespace(poll=wait))
    passed = itertools.count(0.0, 0.05)
    monkeypatch.setattr(core, "time", SimpleNamespace(time=lambda: clock[0], monotonic=lambda: next(passed)))
    assert polled.poll(1.0) is None
