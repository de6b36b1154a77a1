from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from sessauth.errors import ServerError
from sessauth.server.keys.credentials import Principal
from sessauth.server.rpc.access import RULES, STATEMENT, WORKER
from sessauth.server.rpc.call import CallContext
from sessauth.server.sections import ROLES
from sessauth.server.writer.remote import Forwarder
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import forward_service_pb2 as forwards
from sessauth.v1 import key_service_pb2 as keys
from tests.support.pool_calls import submit
from tests.support.service import RPCS, Caller, RpcError, Service, running, wait_until
from tests.support.watching import item, mint, open_session

MAP_BYTES = 16 << 20
METHOD = "/sessauth.v1.ForwardService/Forward"
REPORT_OBSERVATIONS = "/sessauth.v1.UsageService/ReportObservations"
REGISTER_VERIFIER = "/sessauth.v1.EvidenceService/RegisterVerifier"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A server that listens on TCP too, with a state whose file is soon read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SESSAUTH_SERVER_MAP_SIZE_BYTES", str(MAP_BYTES))
        with running(
            server={"map_size_bytes": MAP_BYTES}, tcp={"address": "127.0.0.1:0", "insecure_tcp": True}
        ) as started:
            yield started


@pytest.fixture(scope="module")
def worker(service: Service) -> Caller:
    """A caller with what the server gives its workers."""
    return service.caller(_credential(service))


@pytest.fixture(scope="module")
def check(service: Service) -> checks.CheckRequest:
    """A call that may be made twice, ever."""
    operator = service.operator
    minted = mint(operator, open_session(operator).id, "read:files/** needs uses(2)")
    return checks.CheckRequest(item=item(minted.token), audience="gw")


def _credential(service: Service) -> str:
    assert service.control is not None
    return service.control._workers.text


def _forward(
    caller: Caller, request: checks.CheckRequest, method: str = "Check", **fields: object
) -> forwards.ForwardResponse:
    given = {"principal": "gw-1", "audiences": ["gw"], "request": request.SerializeToString(), **fields}
    answer: forwards.ForwardResponse = caller.call(
        "ForwardService/Forward",
        forwards.ForwardRequest(method=method, **given),  # type: ignore[arg-type]
    )
    return answer


def test_a_worker_asks_for_who_asked_it(worker: Caller, check: checks.CheckRequest) -> None:
    """A forwarded call is answered as if the gateway had called here; a permit is that gateway's alone."""
    check.item.permit_ms = 60_000
    answer = checks.CheckResponse.FromString(_forward(worker, check).response)
    assert answer.decision.allowed
    commit = checks.CommitRequest(permit=answer.decision.permit, item=check.item, audience="gw")

    def commits(principal: str) -> checks.Decision:
        request = forwards.ForwardRequest(
            method="Commit", principal=principal, audiences=["gw"], request=commit.SerializeToString()
        )
        response = worker.call("ForwardService/Forward", request).response
        return checks.CommitResponse.FromString(response).decision

    assert commits("gw-2").reason == checks.REASON_BAD_PERMIT
    assert commits("gw-1").allowed
    check.item.permit_ms = 0


def test_what_is_not_handed_on_is_refused(worker: Caller, check: checks.CheckRequest) -> None:
    """Only checks, commits and releases are taken, for somebody with a name and his own audiences."""
    for method in ("CheckStream", "ListAllowed", "EndSession", ""):
        with pytest.raises(RpcError) as refused:
            _forward(worker, check, method)
        assert (refused.value.code, refused.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, "method")
    with pytest.raises(RpcError) as refused:
        _forward(worker, check, principal="")
    assert refused.value.field == "principal"
    with pytest.raises(RpcError) as refused:
        _forward(worker, check, audiences=["another"])
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("rpc", sorted(set(RPCS) - {METHOD, REPORT_OBSERVATIONS, REGISTER_VERIFIER}))
def test_a_worker_reaches_nothing_else(worker: Caller, rpc: str) -> None:
    """It forwards, registers and reports; every other RPC with a credential refuses it PERMISSION_DENIED."""
    if "anyone" in RULES[rpc].roles:
        return
    short, empty = rpc.rpartition(".")[2], keys.ListKeysRequest()
    streams = RPCS[rpc].server_streaming
    with pytest.raises(RpcError) as refused:
        _ = next(worker.stream(short, iter([empty]))) if streams else worker.call(short, empty)
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_nobody_else_hands_on(service: Service, check: checks.CheckRequest) -> None:
    """No role that a file can give reaches Forward, and no file can give a worker's."""
    assert WORKER not in ROLES
    assert RULES[METHOD].roles == {WORKER}
    callers = [service.operator, *(service.add(f"a-{role}", role, ("gw",)) for role in ROLES)]
    for caller in callers:
        with pytest.raises(RpcError) as refused:
            _forward(caller, check)
        assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_workers_call_over_the_unix_socket(service: Service, check: checks.CheckRequest) -> None:
    """Over TCP the right credential is refused: it never leaves the host."""
    assert service.control is not None
    far = service.caller(_credential(service), target=f"127.0.0.1:{service.control.tcp_port}")

    with pytest.raises(RpcError) as refused:
        _forward(far, check)

    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_a_single_host_takes_no_statement(service: Service, check: checks.CheckRequest) -> None:
    """It has no other hosts: a caller that another one states is nobody, with its own API key too."""
    assert service.control is not None
    gateway = service.add("gw-7", "gateway", ("gw",))
    far = service.caller(target=f"127.0.0.1:{service.control.tcp_port}")
    for more in ((), tuple(gateway.metadata)):
        metadata = ((STATEMENT, b"x"), *more)
        with pytest.raises(RpcError) as refused:
            far.call("AuthorizationService/Check", check, metadata=metadata)
        assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert gateway.call("AuthorizationService/Check", check).decision.reason


def test_another_process_made_another_credential(service: Service, check: checks.CheckRequest) -> None:
    """The credential of an earlier control process, or a changed one, is nobody's."""
    with running() as other:
        stale = service.caller(_credential(other))
        with pytest.raises(RpcError) as refused:
            _forward(stale, check)
    assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED


def test_the_credential_is_nowhere_to_be_read(service: Service) -> None:
    """No file below the home folder holds it, and its object does not show it."""
    assert service.control is not None
    secret = _credential(service)[-43:]

    for path in Path(service.made.home).rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert secret not in repr(service.control._workers)
    assert secret not in "".join(os.environ.values())


@pytest.mark.parametrize("seconds", [0.3, 0.0])
def test_an_unreachable_control_process_is_named(tmp_path: Path, seconds: float) -> None:
    """A socket that nobody listens on is WRITER_UNREACHABLE, and so is a call without time left."""
    forwarder = Forwarder(tmp_path / "sessauth.sock", "x")
    call = CallContext("Check", RULES[METHOD], None, Principal("gw-1", "gateway"))  # type: ignore[arg-type]
    call.deadline = time.monotonic() + seconds

    with pytest.raises(ServerError) as refused:
        forwarder.forward("Check", b"", call)
    forwarder.close()

    assert refused.value.reason == "WRITER_UNREACHABLE"


def _read_to_the_end(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def test_a_slow_control_process_gets_time_to_answer_a_connection(tmp_path: Path) -> None:
    """A connection that the control process accepts late is kept, not given up for another one."""
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as caller:
        listener.bind(str(tmp_path / "sessauth.sock"))
        listener.listen()
        listener.settimeout(30)
        forwarder = Forwarder(tmp_path / "sessauth.sock", "x")
        call = CallContext("Check", RULES[METHOD], None, Principal("gw-1", "gateway"))  # type: ignore[arg-type]
        call.deadline = time.monotonic() + 30
        refused = caller.submit(forwarder.forward, "Check", b"", call)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                _read_to_the_end(connection)
        forwarder.close()
        assert isinstance(refused.exception(30), ServerError | ValueError)


def test_who_asks_workers_for_much_leaves_others_their_part(check: checks.CheckRequest) -> None:
    """Forwarded calls are in the share of the worker's caller: half of the pool at most."""
    release = threading.Event()
    with running(limits={"change_threads": 1, "queue_places": 9}) as service, ThreadPoolExecutor() as callers:
        assert service.control is not None
        pool = service.control.serving.pools["change"]
        held = submit(pool, release.wait, 30)
        workers = [Forwarder(service.made.socket, _credential(service)) for _ in range(2)]

        def ask(worker: int, name: str) -> Future[bytes]:
            call = CallContext("Check", RULES[METHOD], None, Principal(name, "gateway"))  # type: ignore[arg-type]
            call.deadline = time.monotonic() + 30
            return callers.submit(workers[worker].forward, "Check", check.SerializeToString(), call)

        greedy = [ask(number % 2, "gw-1") for number in range(5)]
        filled = wait_until(lambda: pool.in_flight == 6)
        beyond = ask(1, "gw-1").exception(30)
        other = ask(1, "gw-2")
        taken = wait_until(lambda: pool.in_flight == 7 or other.done())
        release.set()

        assert filled and taken
        assert isinstance(beyond, ServerError) and "OVERLOADED" in str(beyond)
        answers = [checks.CheckResponse.FromString(each.result(30)) for each in (*greedy, other)]
        assert [answer.decision.allowed for answer in answers] == [False] * 6
        assert held.result(30)
        for worker in workers:
            worker.close()
