"""Drives, and the rows that are read from them: two tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.service.load_spec import Drive, Load

# Where a call goes. The control process also checks; workers do nothing else.
CONTROL, CONTROL_TCP, TLS, WORKER, WORKERS = "control", "control-tcp", "tls", "worker", "workers"
# Control processes without workers; of the second the audit is on.
UNRECORDED, RECORDED = "unrecorded", "recorded"
ECHO, ECHO_TCP, ECHO_TLS = "echo", "echo-tcp", "echo-tls"
ECHOES: Final = frozenset({ECHO, ECHO_TCP, ECHO_TLS})
# What is asked. "batch-N" is CheckBatch of N items, of a few tokens; with DISTINCT, each of its own.
CHECK, STREAM, HEALTH = "check", "stream", "health"
DISTINCT: Final = "-distinct"

# One call after the other, and enough to keep a server busy.
ALONE: Final = Load(1, 1)
BUSY: Final = Load(8, 8)
# Long calls: enough that the server has the next one while it answers this one.
# What the pool of the health service has places for.
PROBES: Final = Load(4, 8)
FEW: Final = Load(2, 2)
STREAMS: Final = Load(4, 16)
BATCHES: Final = (1, 16, 64, 256, 1024)
# The closed loop whose calls per second are the peak that open loops are shares of.
PEAK: Final = "service/check"


@dataclass(frozen=True)
class Spec:
    """One series of drives: where, what, and how many at once; ``decisions`` are in each answer.

    With ``share`` it is an open loop at that share of the peak.
    """

    name: str
    place: str
    question: str
    load: Load
    decisions: int = 1
    share: float = 0.0


def _specs() -> Iterable[Spec]:
    yield Spec("floor/echo-alone", ECHO, CHECK, ALONE)
    yield Spec("service/check-alone", CONTROL, CHECK, ALONE)
    yield Spec("floor/echo", ECHO, CHECK, BUSY)
    yield Spec("service/check", CONTROL, CHECK, BUSY)
    yield Spec("service/health", CONTROL, HEALTH, PROBES)
    for size in BATCHES:
        yield Spec(f"service/batch-{size}", CONTROL, f"batch-{size}", FEW, size)
    yield Spec("service/batch-256-distinct", CONTROL, f"batch-256{DISTINCT}", FEW, 256)
    yield Spec("floor/echo-batch-256", ECHO, "batch-256", FEW, 256)
    yield Spec("floor/echo-batch-256-distinct", ECHO, f"batch-256{DISTINCT}", FEW, 256)
    yield Spec("floor/echo-stream", ECHO, STREAM, STREAMS)
    yield Spec("service/stream", CONTROL, STREAM, STREAMS)
    yield Spec("floor/echo-tcp", ECHO_TCP, CHECK, BUSY)
    yield Spec("service/check-tcp", CONTROL_TCP, CHECK, BUSY)
    yield Spec("floor/echo-tls", ECHO_TLS, CHECK, BUSY)
    yield Spec("service/check-tls", TLS, CHECK, BUSY)
    yield Spec("service/audit-off", UNRECORDED, CHECK, BUSY)
    yield Spec("service/audit-on", RECORDED, CHECK, BUSY)
    yield Spec("service/worker", WORKER, CHECK, BUSY)
    yield Spec("service/workers-2", WORKERS, CHECK, BUSY)
    for percent in (50, 80):
        yield Spec(f"floor/echo-open-{percent}", ECHO, CHECK, BUSY, share=percent / 100)
        yield Spec(f"service/check-open-{percent}", CONTROL, CHECK, BUSY, share=percent / 100)


SPECS: Final = {spec.name: spec for spec in _specs()}


def wall_us(drive: Drive, decisions: int) -> float:
    """Return the wall time per decision."""
    return drive.wall_us / (drive.calls * decisions)


def cpu_us(drive: Drive, decisions: int) -> float:
    """Return the server's CPU time per decision."""
    return drive.cpu_us / (drive.calls * decisions)


def p50_us(drive: Drive, decisions: int) -> float:
    """Return the latency in the middle."""
    return median(drive.latencies_us)


@dataclass(frozen=True)
class Reading:
    """A row: one figure of each drive of a series, and the reading that its ratio is taken to."""

    name: str
    floor: str
    series: str
    figure: Callable[[Drive, int], float]


def _readings() -> Iterable[Reading]:
    floors = {
        "service/check-alone": "floor/echo-alone",
        "service/check": "floor/echo",
        "service/health": "floor/echo",
        "service/stream": "floor/echo-stream",
        "service/check-tcp": "floor/echo-tcp",
        "service/check-tls": "floor/echo-tls",
        "service/audit-on": "service/audit-off",
        "service/worker": "floor/echo",
        "service/workers-2": "service/worker",
        "service/check-open-50": "floor/echo-open-50",
        "service/check-open-80": "floor/echo-open-80",
    }
    floors |= {f"service/batch-{size}": PEAK for size in (*BATCHES, "256-distinct")}
    for spec in SPECS.values():
        latency = spec.share or spec.load == ALONE
        yield Reading(spec.name, floors.get(spec.name, ""), spec.name, p50_us if latency else wall_us)
    yield Reading("floor/echo-cpu", "", "floor/echo", cpu_us)
    yield Reading("service/check-cpu", "floor/echo-cpu", "service/check", cpu_us)
    for name in ("batch-256", "batch-256-distinct"):
        yield Reading(f"service/{name}-echo", f"floor/echo-{name}", f"service/{name}", wall_us)
    yield Reading("service/worker-cpu", "", "service/worker", cpu_us)
    yield Reading("service/workers-2-cpu", "service/worker-cpu", "service/workers-2", cpu_us)


READINGS: Final = {reading.name: reading for reading in _readings()}


def wanted(only: str) -> list[Reading]:
    """Return the readings whose names hold ``only``, in the order of the report."""
    return [reading for reading in READINGS.values() if only in reading.name]


def needed(readings: Iterable[Reading]) -> list[Spec]:
    """Return the series that these readings, their floors, and the peak of open loops come from, in order."""
    names = set()
    for reading in readings:
        names.add(reading.series)
        if reading.floor:
            names.add(READINGS[reading.floor].series)
    if any(SPECS[name].share for name in names):
        names.add(PEAK)
    return [spec for spec in SPECS.values() if spec.name in names]
