"""Promise P2 on one host: no check that starts after an acknowledgement allows what it took away."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from sessauth.client import Client
from sessauth.errors import SessauthError
from sessauth.server.process.init import initialise
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier
from tests.support.service import ServerProcess, home_folder, wait_until

ROUNDS = 1000
AUDIENCE = "gateway"


@dataclass
class Watcher:
    """Checks the token of the moment without pause, in a thread of its own.

    ``allowed_at`` and ``denied_at`` are when the last such check started, by the monotonic clock.
    """

    ask: Callable[[bytes], bool]
    pause: float = 0.0
    token: bytes = b""
    allowed_at: dict[bytes, int] = field(default_factory=dict)
    denied_at: dict[bytes, int] = field(default_factory=dict)
    checks: int = 0
    fault: Exception | None = None
    stopped: bool = False

    def run(self) -> None:
        """Check until stopped."""
        try:
            while not self.stopped:
                token = self.token
                if not token:
                    time.sleep(0.001)
                    continue
                start = time.monotonic_ns()
                allowed = self.ask(token)
                (self.allowed_at if allowed else self.denied_at)[token] = start
                self.checks += 1
                # A microsecond's check over and over would leave the other threads no processor.
                time.sleep(self.pause)
        except Exception as fault:  # noqa: BLE001 - shown by the test, which would wait for ever otherwise
            self.fault = fault


@pytest.fixture(autouse=True)
def quick_switches() -> Iterator[None]:
    """Let threads take turns often: the embedded verifier's would hold the others up for 5 ms each."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def home() -> Iterator[ServerProcess]:
    """A server with two check workers, as a process of its own."""
    with home_folder() as folder:
        initialise(folder)
        server = ServerProcess.start(folder, SESSAUTH_SERVER_WORKERS="2")
        try:
            sockets = [folder / "run" / f"check-{index}.sock" for index in range(2)]
            assert wait_until(lambda: all(path.exists() for path in sockets)), server.log
            yield server
        finally:
            server.kill()


def _client(server: ServerProcess, worker: int | None = None) -> Client:
    run = server.home / "run"
    return Client(
        str(run / "sessauth.sock"),
        credential_file=server.home / "operator.credential",
        check_target=None if worker is None else str(run / f"check-{worker}.sock"),
        timeout_ms=10_000,
    )


@pytest.mark.timeout(300)
def test_no_check_that_starts_after_an_acknowledgement_allows(home: ServerProcess) -> None:
    """Two workers and an embedded verifier miss none of 1,000 ends and revokes."""
    control = _client(home)
    assert wait_until(lambda: _answers(control)), home.log
    verifier = Verifier.embedded(home.home / "state", audience=AUDIENCE)
    workers = [_client(home, index) for index in range(2)]
    watchers = [
        Watcher(lambda token, client=client: bool(client.check(token, "read", "a/b", audience=AUDIENCE)))  # type: ignore[misc]
        for client in workers
    ]
    watchers.append(Watcher(lambda token: bool(verifier.check(token, "read", "a/b")), pause=0.0001))
    threads = [threading.Thread(target=watcher.run, daemon=True) for watcher in watchers]
    for thread in threads:
        thread.start()
    acknowledged: dict[bytes, int] = {}
    try:
        for number in range(ROUNDS):
            session = control.open_session(subject=f"agent-{number}", ceiling=["read:**"])
            token = control.mint(session.id, ["read:**"], [AUDIENCE])
            _let_all_see(watchers, token, lambda watcher, data: data in watcher.allowed_at)
            if number % 2:
                control.end(session.id)
            else:
                control.revoke(session.id, [token.block_ids[0]])
            acknowledged[token.data] = time.monotonic_ns()
            _let_all_see(
                watchers, token, lambda watcher, data: watcher.denied_at.get(data, 0) > acknowledged[data]
            )
    finally:
        for watcher in watchers:
            watcher.stopped = True
        for thread in threads:
            thread.join(timeout=20)
        verifier.close()
        for client in (control, *workers):
            client.close()

    late = [
        (which, watcher.allowed_at[token] - moment)
        for token, moment in acknowledged.items()
        for which, watcher in enumerate(watchers)
        if watcher.allowed_at[token] > moment
    ]
    assert late == []
    assert len(acknowledged) == ROUNDS
    assert all(watcher.checks >= 2 * ROUNDS for watcher in watchers)


def _answers(client: Client) -> bool:
    try:
        client.list_keys()
    except SessauthError:
        return False
    return True


def _let_all_see(watchers: list[Watcher], token: Token, is_done: Callable[[Watcher, bytes], bool]) -> None:
    """Hand the token to all watchers and wait until ``is_done`` of each."""
    for watcher in watchers:
        watcher.token = token.data
    deadline = time.monotonic() + 30
    while not all(is_done(watcher, token.data) for watcher in watchers):
        assert time.monotonic() < deadline, [watcher.fault for watcher in watchers]
        time.sleep(0.0002)
