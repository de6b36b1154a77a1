"""Paired measurement: floor, ours, floor, ours.

A shared machine slows down and speeds up by the second, so two things are compared only within one
round, in which they take turns in blocks of less than a millisecond. A round's figure is the median of
its blocks, since a block in which another process had the core says nothing of either. What is judged
is the interval of the rounds' ratios.

Where the stack lies is drawn by the system for each process, and some places cost a signature a tenth
more (its tables then share their low address bits with others). So each block runs at another depth.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.stats import bootstrap_interval, median, percentile

Clock = Callable[[], int]
# Calls a function with its items, so many bytes further down the stack.
Below = Callable[[Callable[[Sequence[Any]], object], Sequence[Any], int], object]
PAGE_BYTES = 4096
# Odd in units of 16 bytes, so that all places of a page come up before one comes again.
DEPTH_STEP = 16 * 37
NS_PER_US = 1000


class Subject(Protocol):
    """Something to time.

    ``name`` is stable, since budgets and results go by it. ``calls`` is how many of its calls make a
    block, which is timed as a whole and should take less than a millisecond.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def calls(self) -> int: ...  # noqa: D102

    def prepare(self, count: int) -> Sequence[Any]:
        """Return inputs for ``count`` calls, made anew; not timed."""
        ...

    def run(self, items: Sequence[Any]) -> object:
        """Make one call for each input; timed."""
        ...


@dataclass(frozen=True)
class Loop:
    """A subject made of two functions."""

    name: str
    calls: int
    prepare: Callable[[int], Sequence[Any]]
    run: Callable[[Sequence[Any]], object]


@dataclass(frozen=True)
class Plan:
    """How much is measured: rounds, blocks of each subject in a round, and calls timed one by one.

    Seven rounds are the least that an interval is taken of.
    """

    rounds: int
    blocks: int
    singles: int

    def __post_init__(self) -> None:
        """Refuse a plan whose interval would mean nothing."""
        if self.rounds < 7:
            raise ValueError("at least seven rounds")


@dataclass(frozen=True)
class Measurement:
    """What one row came to, in us per call.

    ``rounds`` and ``floor_rounds`` are the figures of each round, in pairs; without a floor the second is
    empty. ``p99_us`` is of calls timed one by one. ``extra`` holds further figures by name.
    """

    name: str
    floor: str
    rounds: tuple[float, ...]
    floor_rounds: tuple[float, ...]
    p99_us: float
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def min_us(self) -> float:
        """The fastest round."""
        return min(self.rounds)

    @property
    def median_us(self) -> float:
        """The round in the middle."""
        return median(self.rounds)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours over the floor, round by round."""
        return tuple(a / b for a, b in zip(self.rounds, self.floor_rounds, strict=True) if b > 0)

    @property
    def ratio(self) -> float:
        """The ratio in the middle; ValueError without a floor."""
        return median(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the ratio; ValueError without a floor."""
        return bootstrap_interval(self.ratios)


def here(run: Callable[[Sequence[Any]], object], items: Sequence[Any], depth: int) -> object:
    """Call where the stack is; the compiled floors have a function that goes down by ``depth``."""
    return run(items)


def measure(
    subject: Subject,
    floor: Subject | None,
    plan: Plan,
    clock: Clock = time.perf_counter_ns,
    below: Below = here,
) -> Measurement:
    """Time a subject against its floor, in rounds that alternate; each pair of blocks at another depth."""
    depth = 0
    ours: list[float] = []
    floors: list[float] = []
    for subject_or_floor in (subject, floor):
        if subject_or_floor is not None:
            _block(subject_or_floor, clock, below, depth)
    for _ in range(plan.rounds):
        floor_blocks, our_blocks = [], []
        for _ in range(plan.blocks):
            if floor is not None:
                floor_blocks.append(_block(floor, clock, below, depth))
            our_blocks.append(_block(subject, clock, below, depth))
            depth = (depth + DEPTH_STEP) % PAGE_BYTES
        ours.append(median(our_blocks))
        if floor is not None:
            floors.append(median(floor_blocks))
    return Measurement(
        name=subject.name,
        floor=floor.name if floor is not None else "",
        rounds=tuple(ours),
        floor_rounds=tuple(floors),
        p99_us=_p99(subject, plan.singles, clock),
    )


def _block(subject: Subject, clock: Clock, below: Below, depth: int) -> float:
    """Return us per call over one block."""
    items = subject.prepare(subject.calls)
    with _without_collector():
        started = clock()
        below(subject.run, items, depth)
        ended = clock()
    return (ended - started) / NS_PER_US / len(items)


def _p99(subject: Subject, count: int, clock: Clock) -> float:
    """Return the 99th percentile of calls timed one by one, less what an empty one takes."""
    singles = [[item] for item in subject.prepare(count)]
    idle = _single_times(lambda _: None, [[None]] * len(singles), clock)
    times = _single_times(subject.run, singles, clock)
    return max(0.0, percentile(times, 0.99) - median(idle))


def _single_times(
    run: Callable[[Sequence[Any]], object], singles: list[list[Any]], clock: Clock
) -> list[float]:
    times = []
    with _without_collector():
        for single in singles:
            started = clock()
            run(single)
            times.append((clock() - started) / NS_PER_US)
    return times


class _without_collector:  # noqa: N801 - used like a function
    """Keeps the cyclic collector out of the timed part: what it does is not the subject's."""

    def __enter__(self) -> None:
        self._enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._enabled:
            gc.enable()
