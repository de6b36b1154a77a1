from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from sessauth.server.config import from_dict
from sessauth.server.keys.credentials import WorkerCredential
from sessauth.server.process.init import Initialised, initialise
from sessauth.server.process.supervisor import FIRST_PAUSE_SECONDS, Supervisor
from sessauth.server.rpc.access import WORKER
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.old_file import OldFile
from tests.support.service import Caller, RpcError, ServerProcess, child_pids, home_folder, serves, wait_until
from tests.support.watching import Stream

SETTINGS = {"SESSAUTH_SERVER_WORKERS": "2", "SESSAUTH_LIMITS_DRAIN_MS": "3000"}


class Running:
    """A server process with two check workers, and callers to each of the three."""

    def __init__(self, made: Initialised) -> None:
        """Start it and wait until all three serve."""
        self.made = made
        self.credential = made.credential_file.read_text().strip()
        self.process = ServerProcess.start(made.home, **SETTINGS)
        self.operator = Caller(f"unix:{made.socket}", self.credential)
        self.workers = [
            Caller(f"unix:{made.home}/run/check-{index}.sock", self.credential) for index in range(2)
        ]
        self.everyone = [self.operator, *self.workers]
        self.serves = wait_until(lambda: all(serves(caller) for caller in self.everyone))
        assert self.serves, self.process.log

    def worker_pids(self) -> list[int]:
        """The ids of the worker processes."""
        return child_pids(self.process.process.pid)

    def open(self, scope: str = "read:files/**") -> tuple[bytes, checks.CheckRequest]:
        """Open a session; returns its id and a check that is allowed while it lives."""
        request = sessions.OpenSessionRequest(subject="s", ceiling=[scope])
        session = self.operator.call("SessionService/OpenSession", request).session
        minted = self.operator.call(
            "TokenService/Mint", tokens.MintRequest(session_id=session.id, scopes=[scope], audience=["gw"])
        )
        item = checks.CheckItem(token=minted.token.encode(), action=b"read", resource=b"files/a")
        return session.id, checks.CheckRequest(item=item, audience="gw")

    def close(self) -> None:
        """Kill it and close the callers."""
        self.process.kill()
        for caller in self.everyone:
            caller.close()


@contextmanager
def running_server() -> Iterator[Running]:
    """Run a server with two check workers."""
    with home_folder() as home:
        running = Running(initialise(home))
        try:
            yield running
        finally:
            running.close()


@pytest.fixture
def server() -> Iterator[Running]:
    """A server for one test, which ends it."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """A server for the tests after which all three processes serve."""
    with running_server() as running:
        yield running


def _check(caller: Caller, request: checks.CheckRequest) -> checks.Decision:
    return caller.call("AuthorizationService/Check", request).decision


def test_workers_see_each_acknowledged_end_at_once(shared: Running) -> None:
    """Every process denies the check that starts after the acknowledgement of an end."""
    for _ in range(20):
        session_id, request = shared.open()
        assert all(_check(caller, request).allowed for caller in shared.everyone)
        shared.operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))
        reasons = {_check(caller, request).reason for caller in shared.everyone}
        assert reasons == {checks.REASON_SESSION_ENDED}


def test_workers_serve_only_checks(shared: Running) -> None:
    """A worker has no sessions service to change anything with, and no issuer key in its folder view."""
    with pytest.raises(RpcError) as refused:
        shared.workers[0].call("SessionService/EndSession", sessions.EndSessionRequest(session_id=bytes(16)))
    assert refused.value.code is grpc.StatusCode.UNIMPLEMENTED

    keys_dir = str(shared.made.keys_dir)
    for pid in shared.worker_pids():
        opened = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
        assert not [path for path in opened if path.startswith(keys_dir)]


def test_workers_withdraw_what_the_control_process_took_away(server: Running) -> None:
    """A change made in one process ends the watched allows of every other one; a drain ends their streams."""
    session_id, request = server.open()
    opened = [Stream(caller) for caller in server.everyone]
    try:
        for each in opened:
            each.allow(1, request.item)
        server.operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))
        assert [each.withdrawn() for each in opened] == [(1, checks.REASON_SESSION_ENDED)] * 3

        _, request = server.open()
        for each in opened:
            each.allow(1, request.item)
        assert server.process.terminate() == 0, server.process.log
        for each in opened:
            with pytest.raises(RpcError) as refused:
                each.next()
            assert refused.value.code is grpc.StatusCode.UNAVAILABLE
    finally:
        for each in opened:
            each.close()


def test_a_killed_worker_is_replaced_while_the_other_serves(shared: Running) -> None:
    """Kill -9 of a worker: the other answers meanwhile, a new one serves from the same state."""
    _, request = shared.open()
    before = shared.worker_pids()
    assert len(before) == 2

    os.kill(before[0], signal.SIGKILL)

    def replaced() -> bool:
        allowed = [_allowed(worker, request) for worker in shared.workers]
        assert any(allowed), "both workers failed at once"
        return all(allowed) and len(shared.worker_pids()) == 2 and before[0] not in shared.worker_pids()

    assert wait_until(replaced)
    assert before[1] in shared.worker_pids()


def _allowed(caller: Caller, request: checks.CheckRequest) -> bool:
    try:
        return bool(caller.call("AuthorizationService/Check", request, timeout=5.0).decision.allowed)
    except RpcError:
        return False


def test_a_hung_worker_is_replaced(shared: Running) -> None:
    """A worker that stands still is killed and replaced, and a check on it never allows meanwhile."""
    session_id, request = shared.open()
    stopped = shared.worker_pids()[0]
    os.kill(stopped, signal.SIGSTOP)
    shared.operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))

    def replaced() -> bool:
        assert not any(_allowed(worker, request) for worker in shared.workers)
        return stopped not in shared.worker_pids() and all(serves(worker) for worker in shared.workers)

    assert wait_until(replaced, 30.0)


def test_workers_end_when_the_control_process_is_killed(server: Running) -> None:
    """Kill -9 of the control process leaves no worker behind; a restart serves the same state."""
    session_id, request = server.open()
    server.operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))
    _, live = server.open()
    pids = server.worker_pids()

    server.process.kill()
    assert wait_until(lambda: not any(Path(f"/proc/{pid}/status").exists() for pid in pids))

    again = Running(server.made)
    try:
        for caller in again.everyone:
            assert _check(caller, request).reason == checks.REASON_SESSION_ENDED
            assert _check(caller, live).allowed
    finally:
        again.close()


def test_sigterm_drains(server: Running) -> None:
    """Under load SIGTERM fails no running call, ends every process with status 0 and removes the sockets."""
    _, request = server.open()
    pids = server.worker_pids()
    wrong: list[object] = []
    answered = threading.Event()

    def load(caller: Caller) -> None:
        while True:
            try:
                decision = caller.call("AuthorizationService/Check", request, timeout=5.0).decision
            except RpcError as error:
                # A new call after the end of service is refused or finds no server; nothing else happens.
                if error.code is not grpc.StatusCode.UNAVAILABLE:
                    wrong.append(error)
                return
            if not decision.allowed:
                wrong.append(decision)
            answered.set()

    threads = [threading.Thread(target=load, args=(caller,)) for caller in server.everyone for _ in range(2)]
    for thread in threads:
        thread.start()
    assert answered.wait(10)

    status = server.process.terminate()
    assert status == 0, server.process.log
    for thread in threads:
        thread.join(20)

    assert wrong == []
    assert not any(thread.is_alive() for thread in threads)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list((server.made.home / "run").iterdir()) == []
    assert '"event": "stopped"' in server.process.log


def test_a_worker_that_can_not_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the system has no room for a process each attempt is logged, and the next one waits."""
    attempts: list[float] = []

    def refuse(*arguments: object, **options: object) -> None:
        attempts.append(time.monotonic())
        raise OSError("no room for a process")

    monkeypatch.setattr("sessauth.server.process.supervisor.subprocess.Popen", refuse)
    config = from_dict({"home": str(tmp_path), "server": {"workers": 1}})
    supervisor = Supervisor(config, WorkerCredential.make(WORKER))
    supervisor._background.start()
    try:
        assert wait_until(lambda: len(attempts) >= 3)
        assert supervisor.restarts >= 3
        assert all(later - earlier >= FIRST_PAUSE_SECONDS for earlier, later in pairwise(attempts))
    finally:
        supervisor.stop()


def test_a_drain_that_hangs_ends_all_the_same() -> None:
    """A process that has not ended in time ends with status 1, and stderr says where it stood."""
    code = (
        "import threading; from sessauth.server import log; from sessauth.server.process import control;"
        "log.configure('INFO'); control.end_at_the_latest(0.2); threading.Event().wait(60)"
    )

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)

    assert answer.returncode == 1
    assert "most recent call first" in answer.stderr


def test_a_drain_that_may_start_no_thread_ends_by_a_signal() -> None:
    """A process at its limit of threads goes on with its drain, and ends if that hangs."""
    code = (
        "import faulthandler, threading; from sessauth.server.process import control\n"
        "def refused(*_, **__): raise RuntimeError('unable to start watchdog thread')\n"
        "faulthandler.dump_traceback_later = refused\n"
        "control.end_at_the_latest(0.2); print('drains', flush=True); threading.Event().wait(60)"
    )

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)

    assert (answer.stdout, answer.returncode) == ("drains\n", -signal.SIGALRM)


def test_workers_share_a_tcp_port() -> None:
    """Both workers answer on the port of tcp.check_address, and one of them is enough."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with home_folder() as home:
        made = initialise(home)
        (home / "sessauth.toml").write_text(f'[tcp]\ncheck_address = "{address}"\ninsecure_tcp = true\n')
        running = Running(made)
        callers = [Caller(address, running.credential) for _ in range(8)]
        try:
            _, request = running.open()
            assert all(_check(caller, request).allowed for caller in callers)

            os.kill(running.worker_pids()[0], signal.SIGKILL)

            assert wait_until(lambda: all(_allowed(caller, request) for caller in callers))
            assert wait_until(lambda: len(running.worker_pids()) == 2)
        finally:
            running.close()
            for caller in callers:
                caller.close()


def test_no_secret_in_arguments_or_logs(shared: Running) -> None:
    """Neither command lines nor the log hold a credential, a token or a private key."""
    _, request = shared.open()
    for caller in shared.everyone:
        _check(caller, request)
    wrong = Caller(f"unix:{shared.made.socket}", shared.credential[:-4] + "AAAA")
    with pytest.raises(RpcError):
        _check(wrong, request)
    wrong.close()

    pem = next(shared.made.keys_dir.glob("*.pem")).read_text().splitlines()[1]
    token = request.item.token.decode()
    secrets = [shared.credential[-43:], shared.credential[-43:-4], token[30:60], pem]
    texts = [shared.process.log]
    for pid in [shared.process.process.pid, *shared.worker_pids()]:
        texts.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode())
        texts.append(Path(f"/proc/{pid}/environ").read_bytes().decode())

    assert '"event": "serving"' in texts[0]
    assert not [secret for secret in secrets for text in texts if secret in text]


def test_a_second_server_on_the_same_state_is_refused(shared: Running) -> None:
    """Two writers never run: the second one ends at once, names what is in use, and disturbs nothing."""
    second = ServerProcess.start(shared.made.home, **SETTINGS)

    assert second.process.wait(timeout=20) != 0
    assert serves(shared.operator)
    assert "IN_USE" in second.log or "use" in second.log.lower()


def test_nobody_goes_on_with_a_replaced_state(server: Running) -> None:
    """Control process and workers end when the data file is replaced by a copy; the log has the cause."""
    pids = server.worker_pids()
    OldFile.of(server.made.state_dir).put_back(server.made.state_dir)

    assert server.process.process.wait(timeout=30) != 0
    # A worker that looked first says so too; which of them does is a matter of milliseconds.
    assert "was replaced while the server ran" in server.process.log
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
