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
from typing import Final, Self

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
from benchmarks.service.load_spec import DRIVE_SECONDS, LoadError
from benchmarks.workloads import WrongDecision

# Connections by the end of a row's name: many calls in flight, or one.
MANY, ONE = "", "-alone"
CONNECTIONS: Final = {MANY: 16, ONE: 1}
PLACES: Final = {"envoy/check": AUTHORIZED, "envoy/constant": CONSTANT}
FLOOR: Final = "floor/envoy"
ROWS: Final = {f"{row}{end}": f"{FLOOR}{end}" for row in PLACES for end in CONNECTIONS}
# Rounds, and calls of a drive at many connections and at one.
QUICK: Final = (5, {MANY: 4_000, ONE: 1_000})
FULL: Final = (21, {MANY: 8_000, ONE: 2_000})


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

    def drive(self, url: str, gateways: Gateways, connections: int, count: int) -> list[tuple[int, int]]:
        """Return the start and the time of each call, in us. Raises WrongDecision unless all passed."""
        body = write_private(self._folder / "body", gateways.body)
        line = f"authorization: Bearer {gateways.token}\n".encode()
        header = write_private(self._folder / "authorization", line)
        log = write_private(self._folder / "times", b"")
        command = [
            *(self._program, "--h1", "-n", str(count), "-c", str(connections), "-t", "1", "-d", str(body)),
            *("-H", f"@{header}", "-H", "content-type: application/json", "--log-file", str(log), url),
        ]
        ended = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=DRIVE_SECONDS
        )
        if ended.returncode != 0:
            raise LoadError(f"h2load: ended with status {ended.returncode}")
        if read_summary(ended.stdout).answered != count:
            codes = re.search(r"^status codes: .*$", ended.stdout, re.MULTILINE)
            raise WrongDecision(f"h2load: {count} calls; {codes[0] if codes else 'no answers'}")
        return read_log(log.read_text("ascii"))


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Run Envoy with its authorizers, drive it in rounds, and yield the rows whose names hold ``only``."""
    wanted = [name for name in ROWS if only in name]
    if not wanted:
        return
    rounds, counts = QUICK if quick else FULL
    places = [ALONE, *(place for row, place in PLACES.items() if any(row in name for name in wanted))]
    times: defaultdict[tuple[str, str], list[list[tuple[int, int]]]] = defaultdict(list)
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
                    taken = load.drive(gateways.urls[place], gateways, connections, counts[end])
                    # The first round warms up.
                    if number:
                        times[place, end].append(taken)
    for name in wanted:
        yield _measurement(name, times)


def _measurement(name: str, times: dict[tuple[str, str], list[list[tuple[int, int]]]]) -> Measurement:
    row = name.removesuffix(ONE)
    end = name.removeprefix(row)
    ours, floor = times[PLACES[row], end], times[ALONE, end]
    figure = _p50 if end == ONE else _rate
    measured = Measurement(
        name=name,
        floor=ROWS[name],
        rounds=tuple(map(figure, ours)),
        floor_rounds=tuple(map(figure, floor)),
        unit="us" if end == ONE else "calls/s",
    )
    return replace(measured, **singles([float(us) for drive in ours for _, us in drive]))


def _p50(drive: list[tuple[int, int]]) -> float:
    return median(us for _, us in drive)


def _rate(drive: list[tuple[int, int]]) -> float:
    wall = max(start + us for start, us in drive) - min(start for start, _ in drive)
    return len(drive) * 1e6 / wall
