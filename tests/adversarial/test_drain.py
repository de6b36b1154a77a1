"""A server that is asked to end while everything happens at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from sessauth.v1 import session_service_pb2 as sessions
from tests.support.doors import Attack, ServerFixture, checking, reaches, running_server
from tests.support.half_sent import HalfSent, headers
from tests.support.service import Caller, RpcError, ServerProcess, serves, wait_until


@pytest.fixture(scope="module")
def served() -> Iterator[ServerFixture]:
    """A server with two workers."""
    with running_server() as found:
        yield found


def _writing(caller: Caller, opened: list[bytes], wrong: list[RpcError], stop: threading.Event) -> None:
    """Open sessions one after the other until the server is gone."""
    while not stop.is_set():
        request = sessions.OpenSessionRequest(subject="s", ceiling=["read:a"])
        try:
            opened.append(bytes(caller.call("SessionService/OpenSession", request, timeout=10.0).session.id))
        except RpcError as error:
            if error.code is not grpc.StatusCode.UNAVAILABLE:
                wrong.append(error)
            return


def test_sigterm_under_load_loses_nothing_that_was_acknowledged() -> None:
    """Changes, checks, half-sent calls and a stopped worker: all end in time."""
    with running_server(SESSAUTH_LIMITS_DRAIN_MS="2000") as opened:
        request, stop = opened.check(), threading.Event()
        made: list[bytes] = []
        wrong: list[RpcError] = []
        blocks = [headers(rpc, opened.credentials["issuer"], 30) for rpc in reaches("issuer")]
        half_sent = HalfSent(opened.control, blocks, 300, b"")
        writers = [
            threading.Thread(target=_writing, args=(opened.operator, made, wrong, stop)) for _ in range(4)
        ]
        with checking([opened.gateways[0]], request) as seen:
            for writer in writers:
                writer.start()
            assert wait_until(lambda: len(made) > 20)
            os.kill(opened.pids()[1], signal.SIGSTOP)
            began = time.monotonic()
            status = opened.process.terminate()
            took = time.monotonic() - began
            for writer in writers:
                writer.join(20)
            assert not any(writer.is_alive() for writer in writers)
        half_sent.close()
        assert (status, wrong) == (0, []), opened.process.log[-2000:]
        # The drain, two seconds for a worker that does not react, and as much for what is slow here.
        assert took < 2.0 + 2.0 + 8.0
        # gRPC cancels a call that comes between the last refusal and the end of its listening.
        assert {each.split()[0] for each in seen.lost} <= {"UNAVAILABLE", "CANCELLED"}
        again = ServerProcess.start(opened.home)
        try:
            assert wait_until(lambda: serves(opened.operator)), again.log
            for session_id in made:
                opened.operator.call(
                    "SessionService/GetSession", sessions.GetSessionRequest(session_id=session_id)
                )
        finally:
            again.kill()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_end_nothing(number: signal.Signals, served: ServerFixture) -> None:
    """Control process and workers go on with the same process ids."""
    before = served.pids()
    for pid in (served.process.process.pid, *before):
        os.kill(pid, number)

    seen = served.noticed(None, ends=2)

    assert (seen.lost_ends, seen.lost_checks, seen.healthy) == ((), (), True)
    assert served.pids() == before


def test_a_worker_that_stands_still_is_replaced_under_half_sent_calls(served: ServerFixture) -> None:
    """SIGSTOP is no answer: the process is killed and another one serves, while its socket is attacked."""
    stopped, other = served.pids()
    held = list(served.begin(Attack("gateway", ("/sessauth.v1.AuthorizationService/Check",))))
    try:
        os.kill(stopped, signal.SIGSTOP)
        assert wait_until(lambda: stopped not in served.pids() and len(served.pids()) == 2)
        assert wait_until(lambda: all(serves(caller) for caller in served.strangers))
    finally:
        for each in held:
            each.close()
    assert other in served.pids()
