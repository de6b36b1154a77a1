"""The cluster of the demo, begun as docs/cluster.md says: etcd, two servers and two hosts that follow."""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from ....client import Client
from ....errors import SessauthError, Unavailable
from ....server.cluster.begin import begin, join, prepare
from ....server.cluster.report import report
from ....server.config.config import Config
from ....server.keys.credentials import new_credential
from ....server.process.init import initialise
from .checks import HostChecks
from .engine import Engine
from .hosts import POLL_SECONDS, WAIT_SECONDS, DemoHost, DemoServer, configure_host, configure_server
from .interruption import Interruption
from .process import DemoProcess, ReservedPorts

T = TypeVar("T")


class DemoCluster:
    """All parts, in a folder of their own. They start one by one, and all end with the block."""

    def __init__(self, folder: Path, opened: ExitStack, interruption: Interruption) -> None:
        """Prepare it; nothing runs yet. Raises UsageError if etcd is not installed."""
        self.interruption = interruption
        self._folder = folder
        self._opened = opened
        self.servers: list[DemoServer] = []
        self.hosts: list[DemoHost] = []
        ports = ReservedPorts()
        opened.callback(ports.close)
        self.engine = Engine(folder, ports)
        self._addresses = [f"127.0.0.1:{ports.reserve()}" for _ in range(2)]

    def start_engine(self) -> DemoProcess:
        """Start etcd; returns the member that leads, once one does."""
        for member in self.engine.members:
            self._start(member)
        return self.engine_leader()

    def begin(self) -> DemoServer:
        """Begin the cluster at its first server, which leads as soon as it serves."""
        initialise(self._home("one"))
        config = self._configured("one")
        begin(config)
        return self._serve(config)

    def join(self) -> DemoServer:
        """Prepare, admit, join and start a further server."""
        first = self.servers[0]
        config = self._configured("two")
        self._add_credential("two")
        keys = prepare(config)
        server_key, issuer_key = (bytes.fromhex(str(keys[name])) for name in ("server_key", "issuer_key"))
        first.ask(
            lambda client: client.admit_server(
                "two", server_key=server_key, issuer_key=issuer_key, request_id="admit-two"
            )
        )
        join(config, threading.Event())
        return self._serve(config)

    def follow(self, name: str) -> DemoHost:
        """Start ``sessauth follow`` on a further host; returns once its folder can be opened."""
        home = self._home(name)
        config = configure_host(home, self._addresses)
        self._add_credential(name)
        process = self._process(home, "follow")
        self._start(process)
        self.wait(process, lambda: '"event": "following"' in process.log.read_text(encoding="utf-8"))
        host = DemoHost(name, process, HostChecks(config.state_dir))
        self._opened.callback(host.checks.close)
        self.hosts.append(host)
        return host

    def leader(self) -> DemoServer:
        """Return the server that leads, once one of those that run does."""
        running = [server for server in self.servers if server.process.runs]
        names = {server.name: server for server in running}
        return self.wait(
            running[0].process, lambda: names.get(str(report(self.servers[0].config).get("leader")))
        )

    def other(self, server: DemoServer) -> DemoServer:
        """Return the server beside one."""
        return next(each for each in self.servers if each is not server)

    def engine_leader(self) -> DemoProcess:
        """Return the member of etcd that leads, once one does."""
        running = next(member for member in self.engine.members if member.runs)
        return self.wait(running, self.engine.leading)

    def wait(self, process: DemoProcess, ready: Callable[[], T | None]) -> T:
        """Return the first true value of ``ready``.

        Raises Unavailable with the log of ``process`` if that ends, or after 30 s.
        """
        until = time.monotonic() + WAIT_SECONDS
        while not (value := ready()):
            self.interruption.check()
            if time.monotonic() > until or not process.runs:
                raise Unavailable(f"{process.name} is not ready in time; it logged:\n{process.last_lines()}")
            time.sleep(POLL_SECONDS)
        return value

    def serves(self, server: DemoServer) -> None:
        """Return once a server answers."""

        def answers() -> bool:
            try:
                return bool(server.client.list_keys())
            except SessauthError:
                return False

        self.wait(server.process, answers)

    def _home(self, name: str) -> Path:
        return self._folder / name

    def _configured(self, name: str) -> Config:
        address = self._addresses[len(self.servers)]
        others = [each for each in self._addresses if each != address]
        return configure_server(self._home(name), address, self.engine.addresses, others)

    def _add_credential(self, name: str) -> None:
        """Give a host a credential of its own to follow with, in its home."""
        text, secret_hash = new_credential(name)
        self.servers[0].ask(
            lambda client: client.add_credential(name, "follower", secret_hash, request_id=f"add-{name}")
        )
        file = self._home(name) / f"{name}.credential"
        file.touch(0o600)
        file.write_text(text + "\n", encoding="utf-8")

    def _serve(self, config: Config) -> DemoServer:
        credential = self._home("one") / "operator.credential"
        client = Client(str(config.socket), credential_file=credential, timeout_ms=5_000)
        self._opened.callback(client.close)
        server = DemoServer(config, self._process(config.home, "serve"), client)
        self.servers.append(server)
        self._start(server.process)
        self.serves(server)
        return server

    def _process(self, home: Path, command: str) -> DemoProcess:
        run = [sys.executable, "-m", "sessauth.cli.main", "--home", str(home), command]
        return DemoProcess(home.name, run, self._folder / f"{home.name}.log")

    def _start(self, process: DemoProcess) -> None:
        self._opened.callback(process.kill)
        process.start()


@contextmanager
def open_cluster() -> Iterator[DemoCluster]:
    """Give a cluster that has not started; its processes and its folder go when the block ends.

    SIGTERM and a closed terminal end the block as Ctrl-C does. Raises UsageError if etcd is not installed.
    """
    # The package logs each fault that the demo makes; that is no line of the story.
    logging.getLogger("sessauth").addHandler(logging.NullHandler())
    # The system's own folder: a socket's path has at most 107 bytes, whatever TMPDIR says.
    folder = tempfile.TemporaryDirectory(prefix="sessauth-demo-", dir="/tmp", ignore_cleanup_errors=True)
    with Interruption() as interruption, folder as path, ExitStack() as opened:
        try:
            yield DemoCluster(Path(path), opened, interruption)
        finally:
            # A second Ctrl-C would leave processes behind.
            interruption.ignore()
