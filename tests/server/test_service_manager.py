"""The service manager: what a server tells it over a real socket, and files that SIGHUP has read again."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process import control
from sessauth.server.process.init import initialise
from sessauth.server.process.signals import MAX_STATUS_CHARS, ServiceManager
from sessauth.state.host.brake import Brake
from sessauth.v1 import authorization_service_pb2
from tests.support.service import Caller, RpcError, ServerProcess, child_pids, home_folder, wait_until
from tests.support.tls_pair import SERVER_PAIR

WATCHDOG_SECONDS = 0.5


@dataclass
class Manager:
    """The socket of a service manager, and the messages that came."""

    path: Path
    receiver: socket.socket = field(init=False)
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listen."""
        self.receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.receiver.bind(str(self.path))
        self.receiver.setblocking(False)

    def received(self, *lines: str, after: int = 0) -> bool:
        """Return True if each of ``lines`` came in one message behind the first ``after``."""
        while True:
            try:
                self.messages.append(self.receiver.recv(4096).decode())
            except BlockingIOError:
                break
        return any(set(lines) <= set(message.split("\n")) for message in self.messages[after:])

    def wait(self, *lines: str, after: int = 0) -> None:
        """Wait until :meth:`received`."""
        assert wait_until(lambda: self.received(*lines, after=after)), (lines, self.messages)


@dataclass
class Managed:
    """A server process with one worker and TLS, and its manager."""

    manager: Manager
    server: ServerProcess

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's events of a name."""
        lines = (json.loads(line) for line in self.server.log.splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == name]

    def reload(self) -> dict[str, Any]:
        """Send SIGHUP; return the event of the reload."""
        before, number = len(self.events("reloaded")), len(self.manager.messages)
        self.server.process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: len(self.events("reloaded")) > before), self.server.log
        self.manager.wait("RELOADING=1", after=number)
        self.manager.wait("READY=1", after=number)
        return self.events("reloaded")[-1]

    def worker_logs_at_info(self) -> bool:
        """Return True if the worker logs a call that it refuses for its arguments."""
        number = len(self._refusals("DEADLINE_REQUIRED"))
        self._refused_call("operator", timeout=None)
        # Logged at WARNING, behind the other.
        fence = len(self._refusals("UNAUTHENTICATED"))
        self._refused_call("", timeout=10.0)
        assert wait_until(lambda: len(self._refusals("UNAUTHENTICATED")) > fence)
        return len(self._refusals("DEADLINE_REQUIRED")) > number

    def _refusals(self, outcome: str) -> list[dict[str, Any]]:
        return [event for event in self.events("refused") if event["outcome"] == outcome]

    def _refused_call(self, name: str, *, timeout: float | None) -> None:
        file = self.server.home / f"{name}.credential"
        credential = file.read_text().strip() if name else ""
        caller = Caller(f"unix:{self.server.home}/run/check-0.sock", credential, timeout)
        with pytest.raises(RpcError):
            caller.call("AuthorizationService/Check", authorization_service_pb2.CheckRequest())
        caller.close()


@contextmanager
def managed() -> Iterator[Managed]:
    """A server that a manager started, with a watchdog."""
    with home_folder() as home:
        initialise(home)
        manager = Manager(home / "notify")
        (home / "server.pem").write_bytes(SERVER_PAIR.pem)
        (home / "server.key").write_bytes(SERVER_PAIR.key_pem)
        (home / "server.key").chmod(0o600)
        (home / "sessauth.toml").write_text(
            '[tcp]\naddress = "localhost:0"\ncertificate = "server.pem"\nprivate_key = "server.key"\n'
        )
        server = ServerProcess.start(
            home,
            NOTIFY_SOCKET=str(manager.path),
            WATCHDOG_USEC=str(int(WATCHDOG_SECONDS * 1e6)),
            SESSAUTH_SERVER_WORKERS="1",
        )
        try:
            manager.wait("READY=1", "STATUS=serving")
            yield Managed(manager, server)
        finally:
            server.kill()
            manager.receiver.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Managed]:
    """One for the tests that leave it as it was."""
    with managed() as found:
        yield found


def test_a_watched_server_reports_that_it_goes_on(served: Managed) -> None:
    """At least twice within the watchdog's time."""
    for _ in range(3):
        number = len(served.manager.messages)
        assert wait_until(lambda number=number: served.manager.received("WATCHDOG=1", after=number))  # type: ignore[misc]


def test_a_stopped_server_is_silent(served: Managed) -> None:
    """The manager ends what does not poll its calls any more."""
    pid = served.server.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        assert wait_until(lambda: "State:\tT" in Path(f"/proc/{pid}/status").read_text())
        served.manager.received("x")
        number = len(served.manager.messages)
        time.sleep(WATCHDOG_SECONDS)
        served.manager.received("x")
        assert served.manager.messages[number:] == []
    finally:
        os.kill(pid, signal.SIGCONT)
    served.manager.wait("WATCHDOG=1", after=number)


def test_workers_do_not_know_the_manager(served: Managed) -> None:
    """A worker that wrote READY=1 would speak for the whole service."""
    (worker,) = child_pids(served.server.process.pid)

    environment = Path(f"/proc/{worker}/environ").read_bytes()

    assert b"SESSAUTH_HOME=" in environment
    assert b"NOTIFY_SOCKET" not in environment
    assert b"WATCHDOG" not in environment


def test_the_status_names_the_cause(served: Managed) -> None:
    """A brake by hand; its reason makes no second line, which would be a message of its own."""
    number = len(served.manager.messages)
    page = Brake(served.server.home / "state" / "brake")
    try:
        page.engage("set by hand: a\nMAINPID=1", by_hand=True)
        assert wait_until(
            lambda: (
                served.manager.received("x")
                or any("a MAINPID=1" in message for message in served.manager.messages[number:])
            )
        )
        assert not served.manager.received("MAINPID=1")
        page.release(by_hand=True)
        served.manager.wait("STATUS=serving", after=number)
    finally:
        page.close()


def test_a_reload_names_what_it_read_and_what_waits(served: Managed) -> None:
    """The level of the log counts at once, in workers too; other settings at the next start."""
    home = served.server.home
    settings = (home / "sessauth.toml").read_text()
    assert served.reload()["needs_restart"] == []
    CredentialFile(home / "state" / "credentials.toml").add("gateway-9", "gateway")
    (home / "sessauth.toml").write_text(
        settings + '\n[server]\nlog_level = "WARNING"\n\n[limits]\ndrain_ms = 1000\n'
    )
    event = served.reload()
    assert wait_until(lambda: not served.worker_logs_at_info())
    (home / "sessauth.toml").write_text(settings)
    again = served.reload()
    assert wait_until(served.worker_logs_at_info)

    assert (event["log_level"], again["log_level"]) == ("WARNING", "INFO")
    assert (event["needs_restart"], again["needs_restart"]) == (["limits.drain_ms"], [])
    assert (event["credentials"], event["certificates"]) == (2, str(home / "server.pem"))


def test_a_reload_of_bad_settings_changes_nothing(served: Managed) -> None:
    """The error names the key; what is good is read all the same."""
    file = served.server.home / "sessauth.toml"
    settings = file.read_text()
    file.write_text(settings + '\n[server]\nlog_level = "LOUD"\n')
    try:
        event = served.reload()
    finally:
        file.write_text(settings)

    problem = served.events("not_reloaded")[-1]
    assert problem["what"] == "settings"
    assert "server.log_level: must be" in problem["error"]
    assert (event["log_level"], event["needs_restart"]) == ("INFO", [])
    assert event["credentials"] >= 1


def test_a_reload_refuses_a_private_key_that_others_can_read(served: Managed) -> None:
    """The certificates in use stay."""
    key = served.server.home / "server.key"
    key.chmod(0o644)
    try:
        event = served.reload()
    finally:
        key.chmod(0o600)

    problem = served.events("not_reloaded")[-1]
    assert (problem["what"], "certificates" in event) == ("certificates", False)
    assert "chmod 0600" in problem["error"]


def test_a_drain_is_reported() -> None:
    """STOPPING=1 comes before the process ends; and READY=1 came once the worker served."""
    with managed() as found:
        assert found.events("worker_ready")
        assert found.server.terminate() == 0
        assert found.manager.received("STOPPING=1")


def test_a_manager_that_is_gone_is_logged_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Nothing is raised, for an address that is none either."""
    for address in (str(tmp_path / "gone"), "@" + "x" * 200, "/a\0b"):
        caplog.clear()
        manager = ServiceManager(address)
        manager.ready("serving")
        manager.stopping()
        assert [record.message for record in caplog.records] == ["service_manager_unreachable"]


def test_an_abstract_address_is_written_to() -> None:
    """Containers and some managers name one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0sessauth-test-{os.getpid()}")
        receiver.settimeout(10)
        environment = {"NOTIFY_SOCKET": f"@sessauth-test-{os.getpid()}", "WATCHDOG_PID": "1", "OTHER": "x"}

        manager = ServiceManager.of_environment(environment)
        manager.ready("s" * 1000)

        assert receiver.recv(4096).decode() == f"READY=1\nSTATUS={'s' * MAX_STATUS_CHARS}"
        assert environment == {"OTHER": "x"}


def test_a_reload_while_it_starts_or_drains_is_not_reported(tmp_path: Path) -> None:
    """READY=1 before the workers serve, or behind STOPPING=1, would be untrue."""
    systemd, manager = Manager(tmp_path / "notify"), ServiceManager(str(tmp_path / "notify"))
    for step in (lambda: None, lambda: manager.ready("serving"), manager.stopping):
        step()
        manager.reloading()
        manager.reloaded("again")
    systemd.received("x")
    systemd.receiver.close()

    first = [message.split("\n")[0] for message in systemd.messages]
    assert first == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]


def test_a_worker_that_never_serves_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other processes serve; and a stop is not waited out."""
    monkeypatch.setattr(control, "WORKERS_SECONDS", 0.05)
    asked: list[float] = []
    starting: Any = SimpleNamespace(
        supervisor=SimpleNamespace(wait_ready=asked.append),
        serving=SimpleNamespace(is_polling=lambda: True),
        stopping=threading.Event(),
    )
    control.Control._wait_workers(starting, ServiceManager())
    assert len(asked) > 1
    starting.stopping.set()
    monkeypatch.setattr(control, "WORKERS_SECONDS", 600.0)
    control.Control._wait_workers(starting, ServiceManager())


def test_a_reload_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The next SIGHUP is heard too, and the manager does not wait for this one."""
    running: Any = SimpleNamespace(
        reloader=SimpleNamespace(reload=lambda: 1 / 0), readiness=SimpleNamespace(words=lambda: "serving")
    )
    control.Control._reload(running, ServiceManager())
    assert [record.message for record in caplog.records] == ["background_task_failed"]


def test_the_watchdog_of_another_process_is_not_fed() -> None:
    """WATCHDOG_PID names the process that is watched."""
    other = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}
    own = {**other, "WATCHDOG_PID": str(os.getpid())}

    assert ServiceManager.of_environment(other).pause_seconds == 0
    assert ServiceManager.of_environment(own).pause_seconds == 1.0
