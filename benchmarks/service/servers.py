"""The servers of a run: the real one with two workers, one with TLS, and the echo."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service import certificate, rows_table
from benchmarks.service.load_spec import Target
from benchmarks.service.processes import Server, running, workers
from benchmarks.service.server_home import Home, Requests

WORKERS = 2


@dataclass(frozen=True)
class Place:
    """Destination of calls: the measured process, its addresses, and the requests that it gets.

    An echo has no credential and is asked what the real server is.
    """

    server: Server
    targets: tuple[Target, ...]
    requests: Requests
    credential: str = ""


@contextmanager
def running_places(
    folder: Path, wanted: Collection[str]
) -> Iterator[tuple[dict[str, Place], dict[str, str]]]:
    """Run what the wanted places need; gives the places, and for those that can't be had the reason."""
    places: dict[str, Place] = {}
    missing: dict[str, str] = {}
    files = None
    if not {rows_table.TLS, rows_table.ECHO_TLS}.isdisjoint(wanted):
        files = certificate.make(folder)
        if files is None:
            missing = dict.fromkeys((rows_table.TLS, rows_table.ECHO_TLS), certificate.NO_OPENSSL)
    with ExitStack() as stack:
        requests = _control(
            stack, folder, places, with_workers=not {rows_table.WORKER, rows_table.WORKERS}.isdisjoint(wanted)
        )
        for name in (rows_table.UNRECORDED, rows_table.RECORDED):
            if name in wanted:
                _alone(stack, folder, places, name)
        if files is not None and rows_table.TLS in wanted:
            _with_tls(stack, folder, places, files)
        if not rows_table.ECHOES.isdisjoint(wanted):
            _echo(stack, folder, places, files, requests)
        yield places, missing


def _control(stack: ExitStack, folder: Path, places: dict[str, Place], *, with_workers: bool) -> Requests:
    home = Home.make(folder / "home")
    address = f"127.0.0.1:{_free_port()}"
    settings = {
        "SESSAUTH_SERVER_WORKERS": str(WORKERS if with_workers else 0),
        "SESSAUTH_TCP_ADDRESS": address,
        "SESSAUTH_TCP_INSECURE_TCP": "true",
    }
    server = _serve(stack, home, folder / "server.log", settings)
    requests = home.requests()
    places[rows_table.CONTROL] = Place(server, (Target(home.target),), requests, home.credential)
    places[rows_table.CONTROL_TCP] = Place(server, (Target(address),), requests, home.credential)
    if with_workers:
        sockets = [home.check_socket(index) for index in range(WORKERS)]
        both = workers(server, sockets)
        targets = tuple(Target(f"unix:{path}") for path in sockets)
        places[rows_table.WORKER] = Place(both, targets[:1], requests, home.credential)
        places[rows_table.WORKERS] = Place(both, targets, requests, home.credential)
    return requests


def _alone(stack: ExitStack, folder: Path, places: dict[str, Place], name: str) -> None:
    """Run a control process that differs from another in nothing but whether it records.

    It has one core. With more of them, threads that wait for each other make a call take once and a half
    as long for seconds, and then not: far more than recording costs. So all that the recorder does counts.
    """
    home = Home.make(folder / f"home-{name}")
    settings = {"SESSAUTH_AUDIT_ENABLED": "true" if name == rows_table.RECORDED else "false"}
    cores = (max(os.sched_getaffinity(0)),)
    server = _serve(stack, home, folder / f"server-{name}.log", settings, cores=cores)
    places[name] = Place(server, (Target(home.target),), home.requests(), home.credential)


def _with_tls(
    stack: ExitStack, folder: Path, places: dict[str, Place], files: certificate.Certificate
) -> None:
    home = Home.make(folder / "home-tls")
    address = f"127.0.0.1:{_free_port()}"
    settings = {
        "SESSAUTH_TCP_ADDRESS": address,
        "SESSAUTH_TCP_CERTIFICATE": str(files.certificate),
        "SESSAUTH_TCP_PRIVATE_KEY": str(files.private_key),
    }
    server = _serve(stack, home, folder / "server-tls.log", settings)
    target = Target(address, files.certificate)
    places[rows_table.TLS] = Place(server, (target,), home.requests(), home.credential)


def _echo(
    stack: ExitStack,
    folder: Path,
    places: dict[str, Place],
    files: certificate.Certificate | None,
    requests: Requests,
) -> None:
    path, tcp, tls = folder / "echo.sock", f"127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}"
    arguments = ["-m", "benchmarks.service.echo_server", "--socket", str(path), "--tcp", tcp]
    if files is not None:
        arguments += ["--tls", tls, str(files.certificate), str(files.private_key)]
    server = stack.enter_context(running(arguments, f"unix:{path}", folder / "echo.log"))
    places[rows_table.ECHO] = Place(server, (Target(f"unix:{path}"),), requests)
    places[rows_table.ECHO_TCP] = Place(server, (Target(tcp),), requests)
    if files is not None:
        places[rows_table.ECHO_TLS] = Place(server, (Target(tls, files.certificate),), requests)


def _serve(
    stack: ExitStack, home: Home, log: Path, settings: dict[str, str], *, cores: Collection[int] = ()
) -> Server:
    environment = {"SESSAUTH_HOME": str(home.folder), "SESSAUTH_SERVER_LOG_LEVEL": "WARNING", **settings}
    arguments = ["-m", "sessauth.cli.main", "serve"]
    return stack.enter_context(running(arguments, home.target, log, environment, cores=cores))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
