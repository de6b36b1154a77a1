"""Checks of gateways are refused at the control process where ``server.checks_at_control`` is false."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from sessauth.errors import ConfigError
from sessauth.server.config import from_dict
from sessauth.server.process.supervisor import Supervisor
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.half_sent import Connection, headers
from tests.support.pool_calls import CountedCalls
from tests.support.service import Caller, RpcError, Service, running, wait_until
from tests.support.watching import Stream, item, mint, open_session

CHECK = "/sessauth.v1.AuthorizationService/Check"
# Half-sent calls on each of two connections.
HALF_SENT = 125


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A control process whose worker is never started."""
    monkeypatch.setattr(Supervisor, "start", lambda self: None)
    with running(server={"workers": 1, "checks_at_control": False}) as started:
        yield started


def _open(operator: Caller) -> tuple[bytes, checks.CheckItem]:
    session_id = open_session(operator).id
    return session_id, item(mint(operator, session_id).token)


def test_gateways_are_sent_to_the_workers(service: Service) -> None:
    """A gateway's checks are refused with the workers' address; its other calls, and operators', go on."""
    operator, gateway = service.operator, service.add("gw-1", "gateway")
    session_id, item = _open(operator)
    calls: dict[str, Any] = {
        "Check": checks.CheckRequest(item=item, audience="gw"),
        "CheckBatch": checks.CheckBatchRequest(items=[item], audience="gw"),
        "ListAllowed": checks.ListAllowedRequest(
            token=item.token, candidates=[checks.Candidate(action=b"read", resource=b"a")], audience="gw"
        ),
    }
    refusals = []
    for name, request in calls.items():
        with pytest.raises(RpcError) as refused:
            gateway.call(f"AuthorizationService/{name}", request)
        refusals.append(refused.value)
    stream = Stream(gateway)
    with pytest.raises(RpcError) as refused:
        stream.next()
    stream.close()

    for error in [*refusals, refused.value]:
        assert (error.code, error.word) == (grpc.StatusCode.FAILED_PRECONDITION, "CHECKS_AT_WORKERS")
        assert "run/check-0.sock" in error.message
        assert "server.checks_at_control" in error.message
    assert operator.call("AuthorizationService/Check", calls["Check"]).decision.allowed
    assert gateway.call("SessionService/GetSession", sessions.GetSessionRequest(session_id=session_id))


def test_half_sent_checks_of_a_gateway_leave_nothing_that_an_end_waits_behind(service: Service) -> None:
    """Each is one refusal and is over: no message is waited for, no place is taken, and an end is written."""
    operator, gateway = service.operator, service.add("gw-1", "gateway")
    session_id, _ = _open(operator)
    assert service.control is not None
    serving, counted = service.control.serving, CountedCalls()
    serving.accounting._meter = counted  # type: ignore[assignment]
    connections = [Connection(service.made.socket) for _ in range(2)]
    block = headers(CHECK, gateway.credential, 30)
    for connection in connections:
        for _ in range(HALF_SENT):
            connection.call(block)

    ended = operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))

    assert ended.session.ended_at_ms
    assert wait_until(lambda: all(each.ended == HALF_SENT for each in connections))
    assert counted[CHECK, "FAILED_PRECONDITION"] == 2 * HALF_SENT
    assert serving._router._receiving.waiting == 0
    for each in connections:
        each.close()


def test_gateways_that_come_by_tcp_need_an_address_to_go_to() -> None:
    """Refusing them at tcp.address without tcp.check_address is an error, but without workers."""
    tcp = {"address": "127.0.0.1:0", "insecure_tcp": True}
    server = {"workers": 1, "checks_at_control": False}
    with pytest.raises(ConfigError, match=r"server\.checks_at_control: .*tcp\.check_address"):
        from_dict({"tcp": tcp, "server": server})

    assert from_dict({"tcp": {**tcp, "check_address": "127.0.0.1:1"}, "server": server}).check_addresses
    assert not from_dict({"tcp": tcp, "server": {**server, "workers": 0}}).check_addresses
