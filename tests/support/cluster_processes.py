"""Servers of one cluster as processes of their own, over real members of etcd."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sessauth.server.cluster.begin import begin, join, prepare
from sessauth.server.config import Config, load
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.init import initialise
from sessauth.v1 import key_service_pb2 as keys
from tests.support.interop_server import free_port
from tests.support.service import Caller, RpcError, ServerProcess, serves, wait_until

SETTINGS = """\
[server]
workers = {workers}

[tcp]
address = "{address}"
insecure_tcp = true

[cluster]
name = "{name}"
address = "{address}"
engine = {engine}
insecure_engine = true
lead_ttl_ms = 2000

[follow]
servers = {servers}
credential = "follower.credential"
insecure_tcp = true
"""
# An address, and a context to start a process in.
Place = tuple[str, Callable[[], AbstractContextManager[None]]]
# No answer, or one that says that another try may succeed.
AGAIN = {
    *("NOT_LEADER", "OUTCOME_UNKNOWN", "WRITER_UNREACHABLE", "STATE_UNUSABLE", "SHUTTING_DOWN", "OVERLOADED"),
    *("", "DEADLINE_EXCEEDED"),
    # A session that was opened at the other server a moment ago.
    "NOT_FOUND",
}


@dataclass
class ServerHost:
    """One server's home, its process, and an operator's caller."""

    config: Config
    operator: Caller
    process: ServerProcess | None = None
    # The length of the log of the processes before.
    logged: int = 0
    # Where the process is started.
    place: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def name(self) -> str:
        """The server's name."""
        return self.config.cluster.name

    def start(self) -> None:
        """Start the process, and wait until it serves."""
        file = self.config.home / "server.log"
        self.logged = len(file.read_text("utf-8")) if file.exists() else 0
        with self.place():
            self.process = ServerProcess.start(self.config.home)
        assert wait_until(lambda: serves(self.operator)), self.process.log

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.process.send_signal(number)

    def kill(self) -> None:
        """Kill the process, and wait for its end."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
            self.process.kill()
            self.process = None

    @property
    def leads(self) -> bool:
        """True if the last event of its process about the lead is that it has it."""
        if self.process is None or self.process.process.poll() is not None:
            return False
        lines = self.process.log[self.logged :].splitlines()
        events = [json.loads(line).get("event") for line in lines if line[:1] == "{"]
        # It may lead before it serves: while its workers start.
        mine = [event for event in events if event in ("leading", "not_leading")]
        return bool(mine) and mine[-1] == "leading"


@dataclass
class Cluster:
    """Two servers; every call is repeated at the other one, with its request id, until it is answered."""

    hosts: list[ServerHost]

    def leader(self) -> ServerHost:
        """Return the server that leads, once one does."""
        found: list[ServerHost] = []
        assert wait_until(lambda: bool(found.extend(host for host in self.hosts if host.leads) or found))
        return found[0]

    def other(self, host: ServerHost) -> ServerHost:
        """Return the server beside one."""
        return next(each for each in self.hosts if each is not host)

    def ask(self, rpc: str, request: Any, first: int = 0, seconds: float = 40.0) -> Any:
        """Return the answer of whichever server gives one; raises RpcError for a refusal that counts."""
        until = time.monotonic() + seconds
        turn = first
        while True:
            operator = self.hosts[turn % len(self.hosts)].operator
            try:
                return operator.call(rpc, request, timeout=3.0)
            except RpcError as error:
                if error.word not in AGAIN or time.monotonic() > until:
                    raise
            turn += 1
            time.sleep(0.05)


@contextmanager
def cluster_processes(
    folder: Path,
    engine: list[str],
    workers: int = 0,
    places: Mapping[str, Place] | None = None,
    more: str = "",
) -> Iterator[Cluster]:
    """Run two servers, begun and admitted as docs/cluster.md says; the first one leads.

    ``places`` has an address for each, ``HOST:PORT``, and a context to start it in; ``more`` are further
    sections of their settings.
    """
    one = initialise(folder / "one")
    credential = one.credential_file.read_text().strip()
    hosts: list[ServerHost] = []
    servers: list[str] = []
    for name in ("one", "two"):
        home = folder / name
        home.mkdir(exist_ok=True)
        address, place = places[name] if places else (f"127.0.0.1:{free_port()}", nullcontext)
        servers.append(address)
        text = SETTINGS.format(
            address=address,
            name=name,
            workers=workers,
            engine=json.dumps(engine),
            servers=json.dumps(servers[:1]),
        )
        (home / "sessauth.toml").write_text(text + more)
        config = load(home, {})
        hosts.append(ServerHost(config, Caller(f"unix:{config.socket}", credential), place=place))
    first, second = hosts
    try:
        begin(first.config)
        first.start()
        cluster = Cluster(hosts)
        cluster.leader()
        made = prepare(second.config)
        request = keys.AdmitServerRequest(
            request_id="admit-two",
            name="two",
            server_key=bytes.fromhex(str(made["server_key"])),
            issuer_key=bytes.fromhex(str(made["issuer_key"])),
        )
        first.operator.call("KeyService/AdmitServer", request)
        follower = CredentialFile(first.config.credentials_file).add("host-two", "follower")
        (folder / "two" / "follower.credential").write_text(follower + "\n")
        (folder / "two" / "follower.credential").chmod(0o600)
        join(second.config, threading.Event())
        second.start()
        yield cluster
    finally:
        for host in hosts:
            host.operator.close()
            if host.process is not None:
                host.signal(signal.SIGCONT)
                host.process.process.send_signal(signal.SIGTERM)
                try:
                    host.process.process.wait(20)
                except subprocess.TimeoutExpired:
                    host.kill()
