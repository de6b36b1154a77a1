"""One kind of call, driven round by round."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from benchmarks.service import cerbos, grpcio_echo, rows_table, server_home
from benchmarks.service.clients import AUTHORIZATION, Ends
from benchmarks.service.load_spec import Call, Drive, Generator
from benchmarks.service.open_loop import OpenLoop, Planned, schedule
from benchmarks.service.processes import on_any_core
from benchmarks.service.rows_table import Spec, wall_us
from benchmarks.service.server_home import ColdTokens
from benchmarks.service.servers import Place
from benchmarks.workloads import WrongDecision

HEALTH = "/grpc.health.v1.Health/Check"
# What a drive takes at least: a rate of fewer calls says little. More than there are tokens.
LEAST_CALLS = 300
LEAST_BATCHES = 4
# Ends of a drive: with the server at rest, and at most while it is busy. An end takes as long as a thousand
# checks, so the server is busy for so many drives' time.
ENDS = 16
MOST_ENDS = 100
BUSY_DRIVES = 3
# Drives by which the peak is known before the rounds begin.
PEAK_DRIVES = 3
# The server's queue is full when this process or the server was kept from a core for long; few such calls are
# reported, more mean that the machine did not hold the rate.
MOST_REFUSED = 0.01


@dataclass
class Series:
    """A series and the drives that were made; ``count`` calls in each."""

    spec: Spec
    call: Call
    generator: Generator
    count: int = 0
    drives: list[Drive] = field(default_factory=list)

    def fit(self, us: float) -> None:
        """Find out how many calls take about ``us``; the calls that it takes are not counted."""
        least = LEAST_BATCHES if self.spec.decisions > 1 else LEAST_CALLS
        least = max(least, 2 * self.spec.load.connections * self.spec.load.streams)
        trial = self._drive_once(least)
        self.count = max(least, int(us / (trial.wall_us / trial.calls)))
        # A few calls of a new process show less than its pace.
        trial = self._drive_once(self.count)
        self.count = max(least, int(us / (trial.wall_us / trial.calls)))

    def round(self) -> None:
        """Drive once."""
        self.drives.append(self._drive_once(self.count))

    def _drive_once(self, count: int) -> Drive:
        """Drive. One call after the other, both ends run where the system puts them."""
        if self.spec.load != rows_table.ALONE:
            return self.generator.drive(self.call, self.spec.load, count)
        with on_any_core((os.getpid(), *self.call.server.pids)):
            return self.generator.drive(self.call, self.spec.load, count)


@dataclass
class EndSeries(Series):
    """Ends of sessions, one after the other; under the load of ``busy`` if that is stated."""

    ends: Ends | None = None
    busy: Series | None = None

    def fit(self, us: float) -> None:
        """Find out how many calls the load takes."""
        if self.busy is not None:
            self.busy.fit(us * BUSY_DRIVES)

    def round(self) -> None:
        """Drive once."""
        assert self.ends is not None
        if self.busy is None:
            self.drives.append(self.ends.drive(self.call, ENDS))
        else:
            self.drives.append(self.ends.drive_while(self.call, MOST_ENDS, self.busy.round))


@dataclass
class OpenSeries(Series):
    """A series of calls on a schedule, at a share of the calls per second of ``peak``."""

    loop: OpenLoop | None = None
    peak: Series | None = None
    cold: ColdTokens | None = None
    per_second: float = 0.0

    def fit(self, us: float) -> None:
        """Take the share of the peak; drives that are not counted."""
        assert self.peak is not None
        drives = [
            self.peak.generator.drive(self.peak.call, self.peak.spec.load, self.peak.count)
            for _ in range(PEAK_DRIVES)
        ]
        self.per_second = self.spec.share * 1e6 / median([wall_us(drive, 1) for drive in drives])
        self.count = LEAST_CALLS
        self._drive(seed=0)
        self.count = max(LEAST_CALLS, int(us / 1e6 * self.per_second))

    def round(self) -> None:
        """Drive once, by moments of its own."""
        self.drives.append(self._drive(seed=1 + len(self.drives)))

    def _drive(self, seed: int) -> Drive:
        assert self.loop is not None
        warm = self.call.requests
        chosen = [number % len(warm) for number in range(self.count)]
        fresh: Sequence[bytes] = ()
        if self.cold is not None:
            source = random.Random(seed)
            places = [number for number in range(self.count) if source.random() < self.spec.cold]
            fresh = self.cold.checks(len(places))
            for position, number in enumerate(places):
                chosen[number] = len(warm) + position
        moments = schedule(self.count, self.per_second, seed)
        planned = Planned(moments, (*warm, *fresh), chosen)
        return self.loop.drive(self.call, self.spec.load.connections, planned)

    @property
    def refused(self) -> float:
        """The share of calls that the server refused."""
        total = sum(drive.calls + drive.refused for drive in self.drives)
        return sum(drive.refused for drive in self.drives) / total


def service_call(spec: Spec, place: Place) -> Call:
    """Return what a series asks of the real server, or of Cerbos."""
    requests = place.requests
    if spec.question == rows_table.POLICY:
        return Call(place.server, place.targets, cerbos.METHOD, (cerbos.request(3),), cerbos.require_allowed)
    if spec.question in (rows_table.CHECK, rows_table.END):
        method, messages, require = "Check", requests.checks(), server_home.require_allowed
    elif spec.question == rows_table.CHECK_TEXT:
        method, messages, require = "Check", requests.as_text().checks(), server_home.require_allowed
    elif spec.question == rows_table.STREAM:
        method, messages, require = "CheckStream", requests.stream(), server_home.require_stream_allowed
    elif spec.question == rows_table.HEALTH:
        return Call(place.server, place.targets, HEALTH, (b"",), server_home.require_serving)
    else:
        make = requests.batch_of_distinct if spec.question.endswith(rows_table.DISTINCT) else requests.batch
        method, messages = "CheckBatch", make(spec.decisions)
        require = partial(server_home.require_batch_allowed, spec.decisions)
    return Call(place.server, place.targets, AUTHORIZATION + method, messages, require, place.credential)


def echo_call(asked: Call, place: Place) -> Call:
    """Return a call of an echo with the requests of another call, and answers as long as its."""
    size = asked.answer_bytes

    def require(answers: Sequence[bytes]) -> None:
        if any(len(answer) != size for answer in answers):
            raise WrongDecision("echo: an answer of another length")

    name = grpcio_echo.stream if asked.method.endswith("Stream") else grpcio_echo.unary
    return Call(place.server, place.targets, name(size), asked.requests, require, answer_bytes=size)
