"""``sessauth serve --workers 1`` with a worker, for clients of other makers."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from cryptography import x509

from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.init import initialise
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.issuer import CLIENT, SERVER, Issued
from tests.support.scrape import scrape
from tests.support.service import Caller, child_pids, home_folder, serves, wait_until
from tests.support.watching import mint, open_session

# Below it are ports of well-known services.
_LOWEST_PORT: Final = 10_000
ROOT: Final = Path(__file__).parents[2]
# Clients that package registries serve are installed here.
INSTALLED: Final = Path(os.environ.get("SESSAUTH_TEST_INTEROP", ROOT / "build" / "interop"))
TRANSPORTS: Final = ("unix", "tcp", "tls")
SPIFFE: Final = "spiffe://example.org/gw"
DRAIN_MS: Final = 3_000
CHECK, BATCH, STREAM = (
    f"/sessauth.v1.AuthorizationService/{name}" for name in ("Check", "CheckBatch", "CheckStream")
)
IDENTITY: Final = f"""
[[identities]]
name = "gw-by-certificate"
role = "gateway"
audiences = ["gw"]
uri = "{SPIFFE}"
"""


def framed(message: bytes) -> bytes:
    """Return a message of gRPC, not compressed."""
    return b"\0" + struct.pack(">I", len(message)) + message


def program(*names: str) -> str:
    """Return the path of a program; skips the test if none of the names is one here."""
    for name in names:
        if found := shutil.which(name):
            return found
    pytest.skip(f"needs {names[0]}, which is not here")


def free_port() -> int:
    """Return a TCP port of the loopback that nobody has now.

    It is none of those that the system gives to connections: one that a client got between this look and the
    start of a server would be in use.
    """
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    while True:
        port = _LOWEST_PORT + secrets.randbelow(max(1_000, first_given - _LOWEST_PORT))
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@dataclass
class InteropServer:
    """The server, its addresses, and sessions to check for."""

    home: Path
    tls: bool
    port: int = field(default_factory=free_port)
    # Of the page of metrics, which only the server with TLS has.
    metrics_port: int = field(default_factory=free_port)
    credential: str = field(default="", repr=False)
    process: subprocess.Popen[bytes] = field(init=False)
    ca: Issued = field(init=False)
    _callers: list[Caller] = field(default_factory=list)

    def start(self) -> None:
        """Start it, and wait until its worker serves."""
        made = initialise(self.home)
        self.credential = CredentialFile(made.state_dir / "credentials.toml").add("gw", "gateway", ["gw"])
        self.socket = self.home / "run" / "check-0.sock"
        tcp = {"SESSAUTH_TCP_CHECK_ADDRESS": f"127.0.0.1:{self.port}", "SESSAUTH_TCP_INSECURE_TCP": "true"}
        if self.tls:
            self._issue()
            tcp = {
                "SESSAUTH_TCP_CHECK_ADDRESS": f"127.0.0.1:{self.port}",
                "SESSAUTH_TCP_CERTIFICATE": str(self.home / "server.pem"),
                "SESSAUTH_TCP_PRIVATE_KEY": str(self.home / "server.key"),
                "SESSAUTH_TCP_CLIENT_CA": str(self.home / "ca.pem"),
                "SESSAUTH_METRICS_ADDRESS": f"127.0.0.1:{self.metrics_port}",
            }
            with (self.home / "sessauth.toml").open("a") as config:
                config.write(IDENTITY)
        environment = {
            **os.environ,
            **tcp,
            "SESSAUTH_SERVER_WORKERS": "1",
            "SESSAUTH_LIMITS_DRAIN_MS": str(DRAIN_MS),
            "SESSAUTH_LIMITS_STREAM_THREADS": "64",
        }
        command = [
            sys.executable,
            "-m",
            "sessauth.cli.main",
            "--home",
            str(self.home),
            "serve",
            "--workers",
            "1",
        ]
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.operator = self.caller(f"unix:{made.socket}", made.credential_file.read_text().strip())
        self.unix = self.caller(f"unix:{self.socket}", self.credential)
        ready = wait_until(lambda: serves(self.operator) and serves(self.unix))
        assert ready, self.log

    @property
    def log(self) -> str:
        """The log so far."""
        return (self.home / "server.log").read_text("utf-8")

    def caller(self, target: str, credential: str = "", **options: Any) -> Caller:
        """Return a caller that is closed with the server."""
        self._callers.append(Caller(target, credential, **options))
        return self._callers[-1]

    def _issue(self) -> None:
        self.ca = Issued.ca("ca")
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        (self.home / "ca.pem").write_bytes(self.ca.pem)
        self.write_pair("server", self.ca.issue("localhost", names, usage=SERVER))
        self.write_pair("client", self.ca.issue("gw", [x509.UniformResourceIdentifier(SPIFFE)], usage=CLIENT))

    def write_pair(self, name: str, pair: Issued) -> None:
        """Write a certificate and its key to ``name.pem`` and ``name.key`` of the home folder."""
        (self.home / f"{name}.pem").write_bytes(pair.pem)
        key = self.home / f"{name}.key"
        key.write_bytes(pair.key_pem)
        key.chmod(0o600)

    def file(self, name: str) -> bytes:
        """Return the content of a file of the home folder."""
        return (self.home / name).read_bytes()

    def target(self, transport: str) -> str:
        """Return the address for gRPC's clients."""
        return f"unix:{self.socket}" if transport == "unix" else f"localhost:{self.port}"

    def channel_credentials(self, transport: str) -> grpc.ChannelCredentials | None:
        """Return the client's certificate, None without TLS."""
        if transport != "tls":
            return None
        return grpc.ssl_channel_credentials(
            *(self.file(name) for name in ("ca.pem", "client.key", "client.pem"))
        )

    def metadata(self, transport: str) -> tuple[tuple[str, str], ...]:
        """Return the credential of a call; with TLS the certificate is the credential."""
        return () if transport == "tls" else (("authorization", f"Bearer {self.credential}"),)

    def session(self) -> tuple[bytes, bytes]:
        """Open a session; returns its id and a token that may read files."""
        session = open_session(self.operator)
        return session.id, mint(self.operator, session.id).token.encode()

    @cached_property
    def token(self) -> bytes:
        """A token of a session that stays."""
        return self.session()[1]

    def end(self, session_id: bytes) -> None:
        """End a session."""
        self.operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))

    def check(self, resource: bytes = b"files/a") -> bytes:
        """Return an encoded check: allowed below files/, else denied."""
        item = pb.CheckItem(token=self.token, action=b"read", resource=resource)
        return pb.CheckRequest(item=item, audience="gw").SerializeToString()

    def batch(
        self, resources: Sequence[bytes] = (b"files/a", b"logs", b"files/b"), padding: int = 0
    ) -> bytes:
        """Return an encoded batch, longer by ``padding`` bytes of a field that nobody knows."""
        items = [pb.CheckItem(token_index=1, action=b"read", resource=resource) for resource in resources]
        return pb.CheckBatchRequest(items=items, tokens=[self.token], audience="gw").SerializeToString()

    def decisions(self) -> float:
        """Return the number of decisions so far. Needs TLS."""
        return sum(scrape(self.metrics_port).counted("sessauth_decisions_total", "reason").values())

    def connections(self) -> float:
        """Return the number of connections to the worker, half a second ago at most. Needs TLS."""
        return scrape(self.metrics_port).value("sessauth_connections")

    def worker(self) -> int:
        """Return the process id of the worker, 0 while there is none."""
        return next(iter(child_pids(self.process.pid)), 0)

    def replace_worker(self) -> None:
        """Kill the worker, and wait until another serves."""
        before = self.worker()
        os.kill(before, signal.SIGKILL)
        assert wait_until(lambda: self.worker() not in (0, before)), self.log
        assert wait_until(lambda: serves(self.unix)), self.log

    def drain(self) -> None:
        """Have it end as an operator would."""
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End everything."""
        for caller in self._callers:
            caller.close()
        if hasattr(self, "process") and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def interop_server(*, tls: bool = False) -> Iterator[InteropServer]:
    """Run a server on a Unix socket and TCP, with or without TLS."""
    with home_folder() as home:
        server = InteropServer(home, tls)
        try:
            server.start()
            yield server
        finally:
            server.close()
