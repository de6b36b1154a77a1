"""The rows over gRPC: Check and CheckBatch of the real server against the empty echo."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from grpc_health.v1 import health_pb2

from benchmarks.measure import Measurement
from benchmarks.service.driver import Drive, Driver
from benchmarks.service.echo_server import METHOD as ECHO
from benchmarks.service.home import BATCH, Home, Requests
from benchmarks.service.processes import Server, running
from benchmarks.stats import median, percentile
from benchmarks.workloads import WrongDecision

SERVICE = "/sessauth.v1.AuthorizationService/"
HEALTH = "/grpc.health.v1.Health/Check"
# Connections and calls in flight on each: one call after the other, and enough to keep a server busy.
ALONE = (1, 1)
BUSY = (4, 8)


@dataclass
class Series:
    """One kind of call, and the drives that were made with it. ``weight`` is decisions per call."""

    name: str
    floor: str
    method: str
    credential: str
    server: Server
    load: tuple[int, int]
    requests: Sequence[bytes]
    require: Callable[[list[bytes]], None]
    weight: int = 1
    drives: list[Drive] = field(default_factory=list)

    def driver(self) -> Driver:
        """Return a driver with connections of its own."""
        return Driver(
            self.server, self.method, channels=self.load[0], streams=self.load[1], credential=self.credential
        )

    async def round(self, driver: Driver) -> None:
        """Drive once and hold every answer."""
        drive = await driver.drive(self.requests)
        self.require(drive.answers)
        self.drives.append(drive)

    @property
    def rounds_us(self) -> tuple[float, ...]:
        """Wall time per decision, drive by drive."""
        return tuple(drive.wall_us / (len(drive.answers) * self.weight) for drive in self.drives)


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Run the servers, drive them in rounds that alternate, and yield the rows whose names hold ``only``."""
    names = ("floor/echo", "floor/echo-alone", "service/check", "service/check-alone", "service/batch-256")
    more = ("service/check-tcp", "service/health")
    if only and not any(only in name for name in (*names, *more)):
        return
    home = Home.make(folder / "home")
    tcp = f"127.0.0.1:{_free_port()}"
    environment = {
        "SESSAUTH_HOME": str(home.folder),
        "SESSAUTH_SERVER_LOG_LEVEL": "WARNING",
        "SESSAUTH_TCP_ADDRESS": tcp,
        "SESSAUTH_TCP_INSECURE_TCP": "true",
    }
    arguments = ["-m", "sessauth.cli.main", "serve"]
    with running(arguments, home.target, folder / "server.log", environment) as server:
        requests = home.requests()
        reply = asyncio.run(_one_answer(server, home.credential, requests))
        path = folder / "echo.sock"
        arguments = ["-m", "benchmarks.service.echo_server", str(path), str(len(reply))]
        with running(arguments, f"unix:{path}", folder / "echo.log") as echo:
            series = _series(server, tcp, echo, home.credential, requests, len(reply), quick=quick)
            asyncio.run(_rounds(series, 7 if quick else 21))
    by_name = {each.name: each for each in series}
    for each in series:
        if only in each.name:
            yield _measurement(each, by_name)


def _series(
    server: Server,
    tcp: str,
    echo: Server,
    credential: str,
    requests: Requests,
    reply_bytes: int,
    *,
    quick: bool,
) -> list[Series]:
    def require_echo(answers: list[bytes]) -> None:
        if any(len(answer) != reply_bytes for answer in answers):
            raise WrongDecision("floor/echo: another answer than the echo's")

    def require_serving(answers: list[bytes]) -> None:
        for answer in answers:
            if (
                health_pb2.HealthCheckResponse.FromString(answer).status
                != health_pb2.HealthCheckResponse.SERVING
            ):
                raise WrongDecision("service/health: not serving")

    over_tcp = Server(tcp, server.pid)
    alone, busy = (150, 600) if quick else (400, 2000)
    few, many = requests.checks(alone), requests.checks(busy)
    batches = requests.batches(4 if quick else 16)
    probes = [health_pb2.HealthCheckRequest().SerializeToString()] * busy
    check, batch = SERVICE + "Check", SERVICE + "CheckBatch"
    allowed, all_allowed = requests.require_allowed, requests.require_all_allowed
    return [
        Series("floor/echo-alone", "", ECHO, "", echo, ALONE, few, require_echo),
        Series("service/check-alone", "floor/echo-alone", check, credential, server, ALONE, few, allowed),
        Series("floor/echo", "", ECHO, "", echo, BUSY, many, require_echo),
        Series("service/check", "floor/echo", check, credential, server, BUSY, many, allowed),
        Series(
            "service/batch-256",
            "service/check",
            batch,
            credential,
            server,
            (1, 2),
            batches,
            all_allowed,
            BATCH,
        ),
        # Loopback TCP without TLS: what the socket's kind alone changes.
        Series("service/check-tcp", "service/check", check, credential, over_tcp, BUSY, many, allowed),
        # The same server and its interceptors, without credential, check and messages of any size.
        Series("service/health", "floor/echo", HEALTH, "", server, BUSY, probes, require_serving),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _one_answer(server: Server, credential: str, requests: Requests) -> bytes:
    async with Driver(server, SERVICE + "Check", channels=1, streams=1, credential=credential) as driver:
        return (await driver.drive(requests.checks(1))).answers[0]


async def _rounds(series: Sequence[Series], rounds: int) -> None:
    async with AsyncExitStack() as stack:
        drivers = [await stack.enter_async_context(each.driver()) for each in series]
        for each, driver in zip(series, drivers, strict=True):
            await each.round(driver)
            each.drives.clear()
        for _ in range(rounds):
            for each, driver in zip(series, drivers, strict=True):
                await each.round(driver)


def _measurement(series: Series, by_name: dict[str, Series]) -> Measurement:
    latencies = [latency for drive in series.drives for latency in drive.latencies_us]
    rates = [1e6 / us for us in series.rounds_us]
    cpu = [drive.cpu_us / (len(drive.answers) * series.weight) for drive in series.drives]
    what = "decisions/s" if series.weight > 1 else "calls/s"
    return Measurement(
        name=series.name,
        floor=series.floor,
        rounds=series.rounds_us,
        floor_rounds=by_name[series.floor].rounds_us if series.floor else (),
        p99_us=percentile(latencies, 0.99),
        extra={
            what: median(rates),
            "p50 us": median(latencies),
            "p99 us": percentile(latencies, 0.99),
            "server CPU us": median(cpu),
        },
    )
