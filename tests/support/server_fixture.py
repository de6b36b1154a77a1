"""A server process with two check workers and everybody who asks them, for scenarios."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from sessauth.client import Client
from sessauth.decisions.decision import DecisionBase
from sessauth.errors import SessauthError
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.init import initialise
from sessauth.verifier.verifier import ServerBackedVerifier, Verifier
from tests.support.service import ServerProcess, child_pids, wait_until

AUDIENCE = "gateway"
WORKERS = 2


class ServerFixture:
    """The process and its clients; ``verifier`` is embedded here and has the server behind it."""

    def __init__(self, workers: int = WORKERS) -> None:
        """Make a home folder with a gateway's credential, and start the server with so many workers."""
        self._count = workers
        self.home = Path(tempfile.mkdtemp(prefix="sa-"))
        self.made = initialise(self.home)
        self._clients: list[Client] = []
        self._credentials = {"gateway": self.add("gateway"), "other": self.add("other")}
        self.start()

    def add(self, name: str) -> Path:
        """Store a gateway's credential; returns its file."""
        text = CredentialFile(self.made.state_dir / "credentials.toml").add(name, "gateway", [AUDIENCE])
        file = self.home / f"{name}.credential"
        file.write_text(text)
        file.chmod(0o600)
        return file

    def start(self, **settings: str) -> None:
        """Start the server, and make the clients anew."""
        self.process = ServerProcess.start(
            self.home, SESSAUTH_SERVER_WORKERS=str(self._count), SESSAUTH_LIMITS_DRAIN_MS="1000", **settings
        )
        self.operator = self._client(self.home / "operator.credential")
        assert wait_until(lambda: self._answers(self.operator)), self.process.log
        self.control = self._client(self._credentials["gateway"])
        self.other = self._client(self._credentials["other"])
        self.workers = [self._client(self._credentials["gateway"], index) for index in range(self._count)]
        self.wait_for_workers()
        self.verifier: ServerBackedVerifier = Verifier.embedded(
            self.made.state_dir,
            audience=AUDIENCE,
            server=self.made.socket,
            credential_file=self._credentials["gateway"],
            timeout_ms=10_000,
        )

    def stop(self) -> None:
        """Kill the server, and close the clients."""
        self.verifier.close()
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.process.kill()

    def worker_pids(self) -> list[int]:
        """The ids of the worker processes."""
        return child_pids(self.process.process.pid)

    def wait_for_workers(self) -> None:
        """Wait until every worker answers."""
        for worker in self.workers:
            assert wait_until(lambda worker=worker: self._checks(worker)), self.process.log

    @property
    def doors(self) -> list[Callable[..., DecisionBase]]:
        """Every way to ask as the gateway: the control process, each worker, the embedded verifier."""
        return [self.control.check, *(worker.check for worker in self.workers), self.verifier.check]

    def _client(self, credential: Path, worker: int | None = None) -> Client:
        run = self.home / "run"
        client = Client(
            str(run / "sessauth.sock"),
            credential_file=credential,
            check_target=None if worker is None else str(run / f"check-{worker}.sock"),
            timeout_ms=20_000,
        )
        self._clients.append(client)
        return client

    @staticmethod
    def _answers(client: Client) -> bool:
        try:
            client.list_keys()
        except SessauthError:
            return False
        return True

    @staticmethod
    def _checks(client: Client) -> bool:
        try:
            client.check(b"x", "read", "x")
        except SessauthError:
            return False
        return True

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything and remove the folder."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)


def at_once(asks: Sequence[Callable[[], Any]], threads: int = 24) -> list[Any]:
    """Call all of these from many threads that begin together; returns what each returned or raised."""
    start = threading.Barrier(min(threads, len(asks)))
    met = threading.local()

    def call(ask: Callable[[], Any]) -> Any:
        if not getattr(met, "others", False):
            met.others = True
            start.wait(20)
        try:
            return ask()
        except SessauthError as error:
            return error

    with ThreadPoolExecutor(len(asks) if len(asks) < threads else threads) as pool:
        return list(pool.map(call, asks))


def until_ms(moment_ms: int) -> None:
    """Wait until the wall clock has passed a moment."""
    while time.time_ns() // 1_000_000 <= moment_ms:
        time.sleep(0.005)
