"""Drives, and the rows that are read from them: two tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from benchmarks.service.load_spec import Drive, Load
from benchmarks.stats import percentile

# Places. A check worker on a core of its own, over its Unix socket and over TLS; another whose decisions are
# recorded; one of two workers, and both; and the control process.
WORKER, WORKER_TLS, RECORDED = "worker", "worker-tls", "recorded"
ONE_OF_TWO, TWO, CONTROL = "one-of-two", "two", "control"
# Empty echoes: grpcio's server, and the native server; and a policy service in Go.
ECHO, ECHO_TLS, NATIVE_ECHO, CERBOS = "echo", "echo-tls", "native-echo", "cerbos"
ECHOES: Final = frozenset({ECHO, ECHO_TLS, NATIVE_ECHO})
# Questions. "batch-N" is CheckBatch of N items, of a few tokens; with DISTINCT, each of its own.
CHECK, CHECK_TEXT, STREAM, HEALTH, POLICY, END = "check", "check-text", "stream", "health", "policy", "end"
DISTINCT: Final = "-distinct"
# Drivers: h2load unless stated. A stub of grpc in Python, and ``Client``, make one call after the other.
STUB, CLIENT = "stub", "client"

# One call after the other, enough to keep a server busy, and ten times as many.
ALONE: Final = Load(1, 1)
BUSY: Final = Load(8, 8)
OVERLOAD: Final = Load(80, 8)
# The load of BUSY for each of two workers.
BUSY_TWICE: Final = Load(16, 8)
# Half of what the pool of the health service has places for.
PROBES: Final = Load(4, 4)
# Long calls: enough that the server has the next one while it answers this one.
FEW: Final = Load(2, 2)
STREAMS: Final = Load(4, 16)
BATCHES: Final = (16, 256, 1024)
# The closed loop whose calls per second are the peak that open loops are shares of.
PEAK: Final = "service/check"
COLD_SHARE: Final = 0.1


@dataclass(frozen=True)
class Spec:
    """One series of drives: where, what, and how many at once; ``decisions`` are in each answer.

    With ``share`` it is an open loop at that share of the peak, of whose calls a share of ``cold`` present
    tokens that were never presented before. ``driver`` is STUB or CLIENT where it is not h2load. The short
    form leaves ``full`` ones out.
    """

    name: str
    place: str
    question: str
    load: Load
    decisions: int = 1
    share: float = 0.0
    cold: float = 0.0
    driver: str = ""
    full: bool = False


def _specs() -> Iterable[Spec]:
    yield Spec("floor/echo-alone", ECHO, CHECK, ALONE)
    yield Spec("service/check-alone", WORKER, CHECK, ALONE)
    yield Spec("floor/echo", ECHO, CHECK, BUSY)
    yield Spec("service/check", WORKER, CHECK, BUSY)
    yield Spec("service/check-text", WORKER, CHECK_TEXT, BUSY)
    yield Spec("floor/native-echo", NATIVE_ECHO, CHECK, BUSY)
    yield Spec("service/audit-on", RECORDED, CHECK, BUSY, full=True)
    yield Spec("service/overload", WORKER, CHECK, OVERLOAD, full=True)
    yield Spec("floor/cerbos", CERBOS, POLICY, BUSY, full=True)
    yield Spec("floor/echo-tls", ECHO_TLS, CHECK, BUSY)
    yield Spec("service/check-tls", WORKER_TLS, CHECK, BUSY)
    yield Spec("floor/echo-stub", ECHO, CHECK, ALONE, driver=STUB)
    yield Spec("service/check-stub", WORKER, CHECK, ALONE, driver=STUB)
    yield Spec("service/client-check", WORKER, CHECK, ALONE, driver=CLIENT)
    for size in BATCHES:
        yield Spec(f"service/batch-{size}", WORKER, f"batch-{size}", FEW, size, full=size != 256)
    yield Spec("service/batch-256-distinct", WORKER, f"batch-256{DISTINCT}", FEW, 256, full=True)
    yield Spec("floor/native-echo-batch-256", NATIVE_ECHO, "batch-256", FEW, 256)
    yield Spec("floor/echo-stream", ECHO, STREAM, STREAMS, full=True)
    yield Spec("service/stream", WORKER, STREAM, STREAMS, full=True)
    yield Spec("service/health", WORKER, HEALTH, PROBES, full=True)
    yield Spec("service/control-check", CONTROL, CHECK, BUSY)
    yield Spec("service/worker", ONE_OF_TWO, CHECK, BUSY, full=True)
    yield Spec("service/workers-2", TWO, CHECK, BUSY_TWICE, full=True)
    yield Spec("service/end", CONTROL, END, ALONE, full=True)
    yield Spec("service/end-overload", CONTROL, END, OVERLOAD, full=True)
    yield Spec("service/check-open-50", WORKER, CHECK, BUSY, share=0.5)
    yield Spec("service/check-open-25-cold", WORKER, CHECK, BUSY, share=0.25, cold=COLD_SHARE)


SPECS: Final = {spec.name: spec for spec in _specs()}


@dataclass(frozen=True)
class Figure:
    """A figure of a drive, with its unit; ``of`` takes the drive and the decisions of each answer.

    ``timed`` if percentiles of single calls stand beside it.
    """

    unit: str
    of: Callable[[Drive, int], float]
    timed: bool = True


def wall_us(drive: Drive, decisions: int) -> float:
    """Return the wall time per decision."""
    return drive.wall_us / (drive.calls * decisions)


def cpu_us(drive: Drive, decisions: int) -> float:
    """Return the server's CPU time per decision."""
    return drive.cpu_us / (drive.calls * decisions)


RATE: Final = Figure("decisions/s", lambda drive, decisions: 1e6 / wall_us(drive, decisions))
PER_CORE: Final = Figure(
    "decisions/s a core", lambda drive, decisions: 1e6 / cpu_us(drive, decisions), timed=False
)
CPU: Final = Figure("us", cpu_us, timed=False)
WALL: Final = Figure("us", wall_us)
P50: Final = Figure("us", lambda drive, _: percentile(drive.latencies_us, 0.5))
P99: Final = Figure("us", lambda drive, _: percentile(drive.latencies_us, 0.99))


@dataclass(frozen=True)
class Reading:
    """A row: one figure of each drive of a series, and the reading that its ratio is taken to."""

    name: str
    floor: str
    series: str
    figure: Figure


def _readings() -> Iterable[Reading]:
    floors = {
        "service/check-alone": "floor/echo-alone",
        "service/check": "floor/echo",
        "service/check-text": PEAK,
        "service/audit-on": PEAK,
        "service/overload": PEAK,
        "service/check-tls": "floor/echo-tls",
        "service/check-stub": "floor/echo-stub",
        "service/client-check": "service/check-stub",
        "service/stream": "floor/echo-stream",
        "service/health": "floor/echo",
        "service/control-check": "floor/echo",
        "service/workers-2": "service/worker",
        "service/end-overload": "service/end",
        "service/check-open-50": "service/check-alone",
        "service/check-open-25-cold": "service/check-alone",
    }
    floors |= {f"service/batch-{size}": PEAK for size in (*BATCHES, "256-distinct")}
    for spec in SPECS.values():
        figure = RATE
        if spec.share or spec.name == "service/end-overload":
            figure = P99
        elif spec.load == ALONE:
            figure = P50
        yield Reading(spec.name, floors.get(spec.name, ""), spec.name, figure)
    yield Reading("floor/native-echo-cpu", "", "floor/native-echo", CPU)
    yield Reading("floor/native-echo-batch-256-cpu", "", "floor/native-echo-batch-256", CPU)
    yield Reading("floor/echo-cpu", "", "floor/echo", CPU)
    yield Reading("floor/echo-tls-cpu", "", "floor/echo-tls", CPU)
    yield Reading("floor/cerbos-per-core", "", "floor/cerbos", PER_CORE)
    yield Reading("service/check-cpu", "floor/native-echo-cpu", PEAK, CPU)
    yield Reading("service/check-text-cpu", "service/check-cpu", "service/check-text", CPU)
    yield Reading("service/check-cpu-echo", "floor/echo-cpu", PEAK, CPU)
    yield Reading("service/check-tls-cpu-echo", "floor/echo-tls-cpu", "service/check-tls", CPU)
    yield Reading("service/check-per-core", "floor/cerbos-per-core", PEAK, PER_CORE)
    yield Reading("service/overload-cpu", "service/check-cpu", "service/overload", CPU)
    yield Reading("service/audit-on-cpu", "service/check-cpu", "service/audit-on", CPU)
    yield Reading("service/batch-256-cpu", "service/check-cpu", "service/batch-256", CPU)
    yield Reading("service/batch-256-cpu-echo", "floor/native-echo-batch-256-cpu", "service/batch-256", CPU)
    yield Reading("service/worker-cpu", "", "service/worker", CPU)
    yield Reading("service/workers-2-cpu", "service/worker-cpu", "service/workers-2", CPU)


READINGS: Final = {reading.name: reading for reading in _readings()}


def wanted(only: str, *, quick: bool = False) -> list[Reading]:
    """Return the readings whose names hold ``only``, in the order of the report."""
    return [
        each for each in READINGS.values() if only in each.name and not (quick and SPECS[each.series].full)
    ]


def needed(readings: Iterable[Reading]) -> list[Spec]:
    """Return the series that these readings, their floors, and the peak of open loops come from, in order."""
    names = set()
    for reading in readings:
        names.add(reading.series)
        if reading.floor:
            names.add(READINGS[reading.floor].series)
    if "service/end-overload" in names:
        names.add("service/overload")
    if any(SPECS[name].share for name in names):
        names.add(PEAK)
    return [spec for spec in SPECS.values() if spec.name in names]
