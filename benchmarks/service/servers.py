"""The servers of a run: the real one with native workers, echoes, and Cerbos; and their cores."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from benchmarks import floors
from benchmarks.service import cerbos, certificate, native_echo, rows_table
from benchmarks.service.certificate import Certificate
from benchmarks.service.load_spec import Target
from benchmarks.service.processes import PYTHON, Server, running, workers
from benchmarks.service.server_home import ColdTokens, Home, Requests
from sessauth._fast import _http2 as http2

TLS: Final = (rows_table.WORKER_TLS, rows_table.ECHO_TLS)
NATIVE: Final = (
    rows_table.WORKER,
    rows_table.WORKER_TLS,
    rows_table.RECORDED,
    rows_table.ONE_OF_TWO,
    rows_table.TWO,
    rows_table.NATIVE_ECHO,
)


@dataclass(frozen=True)
class Cores:
    """The cores of the generator, of one server, and of two workers."""

    generator: frozenset[int]
    server: frozenset[int]
    workers: frozenset[int]

    @classmethod
    def of(cls, available: Collection[int]) -> Self:
        """Give the server a core where there are two, and each of two workers where there are three."""
        ordered = sorted(available)
        if len(ordered) == 1:
            return cls(frozenset(ordered), frozenset(ordered), frozenset(ordered))
        two = ordered if len(ordered) == 2 else ordered[-2:]
        generator = ordered[:1] if len(ordered) == 2 else ordered[:-2]
        return cls(frozenset(generator), frozenset(ordered[-1:]), frozenset(two))


@dataclass(frozen=True)
class Place:
    """Destination of calls: the measured process, its addresses, and the requests that it gets.

    An echo has no credential and is asked what the real server is.
    """

    server: Server
    targets: tuple[Target, ...]
    requests: Requests
    credential: str = ""


@dataclass(frozen=True)
class Places:
    """The places of a run by name, the reason for each that can't be had, and the home of the real server."""

    found: dict[str, Place]
    missing: dict[str, str]
    home: Home

    def cold_tokens(self) -> ColdTokens:
        """Return tokens that the workers do not know."""
        return self.home.cold_tokens()


@contextmanager
def running_places(folder: Path, wanted: Collection[str], cores: Cores) -> Iterator[Places]:
    """Run what the wanted places need."""
    missing: dict[str, str] = {}
    server = client = None
    if not set(TLS).isdisjoint(wanted):
        server, client = certificate.make(folder, "server"), certificate.make(folder, "client")
        if server is None or client is None:
            missing |= dict.fromkeys(TLS, certificate.NO_OPENSSL)
    try:
        http2.load_nghttp2()
    except OSError as error:
        missing |= dict.fromkeys(NATIVE, str(error))
    if cerbos.program() is None:
        missing[rows_table.CERBOS] = cerbos.NOT_INSTALLED
    wanted = set(wanted) - set(missing)
    with ExitStack() as stack:
        run = _Run(stack, folder, cores, server, client)
        home = run.main(native=rows_table.NATIVE_ECHO not in missing)
        if rows_table.RECORDED in wanted:
            run.recorded()
        if not {rows_table.ONE_OF_TWO, rows_table.TWO}.isdisjoint(wanted):
            run.two_workers()
        if not {rows_table.ECHO, rows_table.ECHO_TLS}.isdisjoint(wanted):
            run.echo()
        if rows_table.NATIVE_ECHO in wanted:
            run.native_echo()
        if rows_table.CERBOS in wanted:
            run.cerbos()
        yield Places(run.places, missing, home)


class _Run:
    """Servers that are started one after the other."""

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        cores: Cores,
        server: Certificate | None,
        client: Certificate | None,
    ) -> None:
        self._stack = stack
        self._folder = folder
        self._cores = cores
        self._certificates = (server, client) if server is not None and client is not None else None
        self.places: dict[str, Place] = {}

    def main(self, *, native: bool) -> Home:
        """Run a control process and its worker, both on the server's core."""
        home = Home.make(self._folder / "home")
        settings = {}
        address = f"127.0.0.1:{_free_port()}"
        if self._certificates is not None and native:
            server, client = self._certificates
            home.trust(client)
            settings = {
                "SESSAUTH_TCP_CHECK_ADDRESS": address,
                "SESSAUTH_TCP_CERTIFICATE": str(server.certificate),
                "SESSAUTH_TCP_PRIVATE_KEY": str(server.private_key),
                "SESSAUTH_TCP_CLIENT_CA": str(client.certificate),
            }
        control = self._serve(home, settings, count=1 if native else 0)
        home.make_changes()
        requests = self._requests = home.requests()
        self.places[rows_table.CONTROL] = Place(control, (Target(home.target),), requests, home.credential)
        if native:
            self._add_workers(home, control, requests, 1, rows_table.WORKER)
            if self._certificates is not None:
                server, client = self._certificates
                worker = self.places[rows_table.WORKER].server
                target = Target(address, server.certificate, client)
                self.places[rows_table.WORKER_TLS] = Place(worker, (target,), requests)
        return home

    def recorded(self) -> None:
        """Run a worker that differs from the first in nothing but that it records."""
        home = Home.make(self._folder / "home-recorded")
        control = self._serve(home, {"SESSAUTH_AUDIT_ENABLED": "true"}, count=1)
        home.make_changes()
        self._add_workers(home, control, home.requests(), 1, rows_table.RECORDED)

    def two_workers(self) -> None:
        """Run two workers, each on a core of its own where there are three."""
        home = Home.make(self._folder / "home-two")
        control = self._serve(home, {}, count=2, cores=self._cores.workers)
        requests = home.requests()
        self._add_workers(home, control, requests, 2, rows_table.TWO)
        two = self.places[rows_table.TWO]
        one = Place(two.server, two.targets[:1], requests, home.credential)
        self.places[rows_table.ONE_OF_TWO] = one

    def echo(self) -> None:
        """Run the grpcio echo."""
        path, address = self._folder / "echo.sock", f"127.0.0.1:{_free_port()}"
        command = [*PYTHON, "-m", "benchmarks.service.grpcio_echo", "--socket", str(path)]
        if self._certificates is not None:
            server, client = self._certificates
            command += ["--tls", address, *map(str, (server.certificate, server.private_key))]
            command.append(str(client.certificate))
        echo = self._run(command, f"unix:{path}", "echo")
        self.places[rows_table.ECHO] = Place(echo, (Target(f"unix:{path}"),), self._requests)
        if self._certificates is not None:
            target = Target(address, server.certificate, client)
            self.places[rows_table.ECHO_TLS] = Place(echo, (target,), self._requests)

    def native_echo(self) -> None:
        """Run the native echo."""
        floors.compiled(native_echo.SOURCE, self._folder)
        path = self._folder / "native-echo.sock"
        command = [*PYTHON, "-m", "benchmarks.service.native_echo", "--module", str(self._folder)]
        echo = self._run([*command, "--socket", str(path)], f"unix:{path}", "native-echo")
        self.places[rows_table.NATIVE_ECHO] = Place(echo, (Target(f"unix:{path}"),), self._requests)

    def cerbos(self) -> None:
        """Run Cerbos."""
        options, address = cerbos.arguments(self._folder / "cerbos")
        server = self._run([str(cerbos.program()), *options], address, "cerbos")
        self.places[rows_table.CERBOS] = Place(server, (Target(address),), self._requests)

    def _serve(
        self, home: Home, settings: dict[str, str], *, count: int, cores: Collection[int] = ()
    ) -> Server:
        environment = {
            "SESSAUTH_HOME": str(home.folder),
            "SESSAUTH_SERVER_LOG_LEVEL": "WARNING",
            "SESSAUTH_SERVER_WORKERS": str(count),
            **settings,
        }
        command = [*PYTHON, "-m", "sessauth.cli.main", "serve"]
        return self._run(command, home.target, home.folder.name, environment, cores)

    def _run(
        self,
        command: list[str],
        target: str,
        name: str,
        environment: dict[str, str] | None = None,
        cores: Collection[int] = (),
    ) -> Server:
        log = self._folder / f"{name}.log"
        server = running(command, target, log, environment, cores=cores or self._cores.server)
        return self._stack.enter_context(server)

    def _add_workers(self, home: Home, control: Server, requests: Requests, count: int, name: str) -> None:
        sockets = [home.check_socket(index) for index in range(count)]
        targets = tuple(Target(f"unix:{path}") for path in sockets)
        self.places[name] = Place(workers(control, sockets), targets, requests, home.credential)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
