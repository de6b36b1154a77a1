"""One kind of call, driven round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from benchmarks.service import echo_server, rows_table, server_home
from benchmarks.service.load_spec import Call, Drive, Generator
from benchmarks.service.open_loop import OpenLoop, schedule
from benchmarks.service.rows_table import Spec, wall_us
from benchmarks.service.servers import Place
from benchmarks.workloads import WrongDecision

AUTHORIZATION = "/sessauth.v1.AuthorizationService/"
HEALTH = "/grpc.health.v1.Health/Check"
# What a drive takes at least: a rate of fewer calls says little.
LEAST_CALLS = 200
LEAST_BATCHES = 4
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
        trial = self.generator.drive(self.call, self.spec.load, least)
        self.count = max(least, int(us / (trial.wall_us / trial.calls)))

    def round(self) -> None:
        """Drive once."""
        self.drives.append(self.generator.drive(self.call, self.spec.load, self.count))


class OpenSeries(Series):
    """A series of calls on a schedule."""

    loop: OpenLoop
    per_second: float = 0.0

    def start(self, peak: Series, us: float) -> None:
        """Connect, and take a share of another series' calls per second."""
        taken = median([wall_us(drive, 1) for drive in peak.drives])
        self.per_second = self.spec.share * 1e6 / taken
        self.count = max(LEAST_CALLS, int(us / 1e6 * self.per_second))
        self.loop = OpenLoop(self.call, self.spec.load.connections)
        self.loop.drive(schedule(LEAST_CALLS, self.per_second, seed=0))

    def round(self) -> None:
        """Drive once, by moments of its own."""
        self.drives.append(self.loop.drive(schedule(self.count, self.per_second, seed=1 + len(self.drives))))

    def close(self) -> None:
        """Disconnect."""
        self.loop.close()

    @property
    def refused(self) -> float:
        """The share of calls that the server refused."""
        asked = sum(drive.calls + drive.refused for drive in self.drives)
        return sum(drive.refused for drive in self.drives) / asked


def service_call(spec: Spec, place: Place) -> Call:
    """Return what a series asks of the real server."""
    requests = place.requests
    if spec.question == rows_table.CHECK:
        method, messages, require = "Check", requests.checks(), server_home.require_allowed
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
    """Return a call of the echo with the requests of another call, and answers as long as its."""
    size = asked.answer_bytes

    def require(answers: Sequence[bytes]) -> None:
        if any(len(answer) != size for answer in answers):
            raise WrongDecision("echo: an answer of another length")

    name = echo_server.stream if asked.method.endswith("Stream") else echo_server.unary
    return Call(place.server, place.targets, name(size), asked.requests, require, answer_bytes=size)
