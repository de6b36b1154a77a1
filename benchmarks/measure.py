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
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median
from typing import Any, Protocol, TypedDict

from benchmarks.stats import bootstrap_interval, percentile

Clock = Callable[[], int]
# Calls a function with its items, so many bytes further down the stack.
Below = Callable[[Callable[[Sequence[Any]], object], Sequence[Any], int], object]
PAGE_BYTES = 4096
# Odd in units of 16 bytes, so that all places of a page come up before one comes again.
DEPTH_STEP = 16 * 37
NS_PER_US = 1000
# Inputs of calls timed one by one that are made at once: large enough to be met cold, bounded in memory.
SINGLES_AT_ONCE = 1000


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
    """Amount of measuring: rounds, blocks of each subject in a round, and calls timed one by one.

    Seven rounds are the least that an interval is taken of. Calls are timed one by one until there are
    ``singles`` of them or they took ``singles_ms`` in all, whichever comes first.
    """

    rounds: int
    blocks: int
    singles: int
    singles_ms: int = 1500

    def __post_init__(self) -> None:
        """Refuse a plan whose interval would mean nothing."""
        if self.rounds < 7:
            raise ValueError("at least seven rounds")


class NotMeasured(Exception):
    """A row can't be measured here; the message says why, in the words of the report."""


Extra = Mapping[str, float | str]


@dataclass(frozen=True)
class Row:
    """A subject and the floor that its ratio is taken to.

    ``extra`` is asked for further figures once the row is measured. It may raise NotMeasured, which
    discards what was measured and reports why; so may preparing and running the subject.
    """

    subject: Subject
    floor: Subject | None
    extra: Callable[[], Extra] | None = None


class Singles(TypedDict):
    """Figures of calls timed one by one, as keywords of Measurement: ``**singles(times)``."""

    p50_us: float
    p99_us: float
    p999_us: float
    samples: int


@dataclass(frozen=True)
class Measurement:
    """Figures of one row, per call and in ``unit``.

    ``rounds`` and ``floor_rounds`` are the figures of each round, in pairs; without a floor the second is
    empty. ``p50_us``, ``p99_us`` and ``p999_us`` are of ``samples`` calls timed one by one, in us, NaN where
    none were (or too few: see ``singles``).
    ``extra`` holds further figures and notes by name. ``missing`` says why the row could not be measured,
    and is empty if it was; see ``not_measured``.
    """

    name: str
    floor: str
    rounds: tuple[float, ...]
    floor_rounds: tuple[float, ...]
    p99_us: float = math.nan
    extra: Extra = field(default_factory=dict)
    p50_us: float = math.nan
    p999_us: float = math.nan
    samples: int = 0
    unit: str = "us"
    missing: str = ""

    @property
    def middle(self) -> float:
        """The round in the middle; ValueError if the row could not be measured."""
        return median(self.rounds)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours over the floor, round by round."""
        return tuple(a / b for a, b in zip(self.rounds, self.floor_rounds, strict=True) if b > 0)

    @property
    def ratio(self) -> float:
        """The ratio in the middle; ValueError without a floor."""
        return median(self.ratios)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the ratio; ValueError without a floor."""
        return bootstrap_interval(self.ratios)


def not_measured(name: str, floor: str, why: str) -> Measurement:
    """Return a row that stands in the report with the reason for which it has no figures."""
    return Measurement(name, floor, (), (), missing=why)


def singles(times_us: Sequence[float], idle_us: float = 0.0) -> Singles:
    """Return percentiles of calls timed one by one, less what timing nothing takes.

    A percentile that fewer than ten calls lie beyond is NaN: p99 needs a thousand calls, p99.9 ten thousand.
    """
    ordered = sorted(max(0.0, each - idle_us) for each in times_us)

    def known(share: float) -> float:
        return percentile(ordered, share) if round(len(ordered) * (1 - share)) >= 10 else math.nan

    return Singles(
        p50_us=known(0.5),
        p99_us=known(0.99),
        p999_us=known(0.999),
        samples=len(ordered),
    )


def slowed(row: Row, us: int, clock: Clock = time.perf_counter_ns) -> Row:
    """Return a row whose subject wastes so many us in each call, as a mistake in the hot path would."""
    if not us:
        return row
    subject = row.subject

    def run(items: Sequence[Any]) -> None:
        subject.run(items)
        until = clock() + us * NS_PER_US * len(items)
        while clock() < until:
            pass

    return replace(row, subject=Loop(subject.name, subject.calls, subject.prepare, run))


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
            block(subject_or_floor, clock, below, depth)
    for _ in range(plan.rounds):
        floor_blocks, our_blocks = [], []
        for _ in range(plan.blocks):
            if floor is not None:
                floor_blocks.append(block(floor, clock, below, depth))
            our_blocks.append(block(subject, clock, below, depth))
            depth = (depth + DEPTH_STEP) % PAGE_BYTES
        ours.append(median(our_blocks))
        if floor is not None:
            floors.append(median(floor_blocks))
    return Measurement(
        name=subject.name,
        floor=floor.name if floor is not None else "",
        rounds=tuple(ours),
        floor_rounds=tuple(floors),
        **_singles(subject, plan, clock),
    )


def measure_row(row: Row, plan: Plan, below: Below = here) -> Measurement:
    """Measure a row with its further figures; one that can't be measured says so in ``missing``."""
    try:
        measured = measure(row.subject, row.floor, plan, below=below)
        return measured if row.extra is None else replace(measured, extra=row.extra())
    except NotMeasured as why:
        return not_measured(row.subject.name, row.floor.name if row.floor else "", str(why))


def block(subject: Subject, clock: Clock, below: Below, depth: int) -> float:
    """Return us per call over one block, so many bytes further down the stack."""
    items = subject.prepare(subject.calls)
    with _without_collector():
        started = clock()
        below(subject.run, items, depth)
        ended = clock()
    return (ended - started) / NS_PER_US / len(items)


def _singles(subject: Subject, plan: Plan, clock: Clock) -> Singles:
    """Time calls one by one. A subject may give fewer inputs than it is asked for, and is asked again."""
    times: list[float] = []
    spent = 0.0
    while len(times) < plan.singles and spent < plan.singles_ms * 1000:
        items = [[item] for item in subject.prepare(min(plan.singles - len(times), SINGLES_AT_ONCE))]
        taken = _single_times(subject.run, items, clock)
        spent += sum(taken)
        times += taken
    idle = _single_times(lambda _: None, [[None]] * min(len(times), SINGLES_AT_ONCE), clock)
    return singles(times, median(idle))


def _single_times(
    run: Callable[[Sequence[Any]], object], items: Sequence[list[Any]], clock: Clock
) -> list[float]:
    times = []
    with _without_collector():
        for single in items:
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
