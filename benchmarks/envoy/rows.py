"""The rows of Envoy: requests per second on 16 connections, and the median time of one at a time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final, Self, TypeAlias

from benchmarks.envoy.gateway import ALONE, AUTHORIZED, CONSTANT, Gateways, running_gateways
from benchmarks.measure import Measurement, not_measured, singles
from benchmarks.service.h2load import (
    NOT_INSTALLED,
    SOURCE,
    NotUsable,
    compiled,
    read_log,
    read_summary,
    write_private,
)
from benchmarks.service.load_spec import DRIVE_SECONDS, Drive, LoadError
from benchmarks.workloads import WrongDecision

# Connections by the end of a row's name: many calls in flight, or one.
MANY, ONE = "", "-alone"
CONNECTIONS: Final = {MANY: 16, ONE: 1}
PLACES: Final = {"envoy/check": AUTHORIZED, "envoy/constant": CONSTANT}
FLOOR: Final = "floor/envoy"
ROWS: Final = {f"{row}{end}": f"{FLOOR}{end}" for row in PLACES for end in CONNECTIONS}
# Rounds, and calls of a drive at many connections and at one.
QUICK: Final = (5, {MANY: 4_000, ONE: 1_000})
FULL: Final = (13, {MANY: 8_000, ONE: 2_000})

Drives: TypeAlias = defaultdict[tuple[str, str], list[Drive]]


class HttpLoad:
    """Runs h2load over HTTP/1.1, as agents' clients speak; use :meth:`prepare`."""

    def __init__(self, program: str, library: Path, folder: Path) -> None:
        """Take the program, the library that is preloaded, and a folder."""
        self._program = program
        self._folder = folder
        self._environment = {**os.environ, "LD_PRELOAD": str(library), "LC_ALL": "C"}

    @classmethod
    def prepare(cls, folder: Path) -> Self:
        """Find h2load and make it read headers from files. Raises NotUsable."""
        program = shutil.which("h2load")
        if program is None:
            raise NotUsable(NOT_INSTALLED)
        return cls(program, compiled(SOURCE, folder / "preload.so", "-shared", "-fPIC"), folder)

    def drive(self, place: str, gateways: Gateways, connections: int, count: int) -> Drive:
        """Make the calls; the CPU time is the authorizer's. Raises WrongDecision unless all passed."""
        authorizer = gateways.authorizers.get(place)
        used = authorizer.cpu_us() if authorizer else 0.0
        body = write_private(self._folder / "body", gateways.body)
        line = f"authorization: Bearer {gateways.token}\n".encode()
        header = write_private(self._folder / "authorization", line)
        log = write_private(self._folder / "times", b"")
        command = [
            *(self._program, "--h1", "-n", str(count), "-c", str(connections), "-t", "1", "-d", str(body)),
            *("-H", f"@{header}", "-H", "content-type: application/json"),
            *("--log-file", str(log), gateways.urls[place]),
        ]
        ended = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=DRIVE_SECONDS
        )
        if ended.returncode != 0:
            raise LoadError(f"h2load: ended with status {ended.returncode}")
        if read_summary(ended.stdout).answered != count:
            codes = re.search(r"^status codes: .*$", ended.stdout, re.MULTILINE)
            raise WrongDecision(f"h2load: {count} calls; {codes[0] if codes else 'no answers'}")
        used = authorizer.cpu_us() - used if authorizer else 0.0
        times = read_log(log.read_text("ascii"))
        wall = max(start + us for start, us in times) - min(start for start, _ in times)
        return Drive(len(times), float(wall), used, [float(us) for _, us in times])


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Run Envoy with its authorizers, drive it in rounds, and yield the rows whose names hold ``only``."""
    wanted = [name for name in ROWS if only in name]
    if not wanted:
        return
    rounds, counts = QUICK if quick else FULL
    places = [ALONE, *(place for row, place in PLACES.items() if any(row in name for name in wanted))]
    drives: Drives = defaultdict(list)
    own = folder / "envoy"
    own.mkdir()
    with ExitStack() as stack:
        try:
            load = HttpLoad.prepare(own)
            gateways = stack.enter_context(running_gateways(own))
        except NotUsable as why:
            yield from (not_measured(name, ROWS[name], str(why)) for name in wanted)
            return
        for number in range(rounds + 1):
            for end, connections in CONNECTIONS.items():
                for place in places:
                    taken = load.drive(place, gateways, connections, counts[end])
                    # The first round warms up.
                    if number:
                        drives[place, end].append(taken)
    for name in wanted:
        yield _measurement(name, drives)


def _measurement(name: str, drives: Drives) -> Measurement:
    row = name.removesuffix(ONE)
    end = name.removeprefix(row)
    ours, floor = drives[PLACES[row], end], drives[ALONE, end]
    figure = _p50 if end == ONE else _rate
    measured = Measurement(
        name=name,
        floor=ROWS[name],
        rounds=tuple(map(figure, ours)),
        floor_rounds=tuple(map(figure, floor)),
        unit="us" if end == ONE else "calls/s",
        extra={"server CPU us": median(drive.cpu_us / drive.calls for drive in ours)},
    )
    return replace(measured, **singles([us for drive in ours for us in drive.latencies_us]))


def _p50(drive: Drive) -> float:
    return median(drive.latencies_us)


def _rate(drive: Drive) -> float:
    return drive.calls * 1e6 / drive.wall_us
