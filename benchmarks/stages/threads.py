"""Several threads that share one verifier: checks per second, and what a check costs each of them.

Threads of one process take turns at the interpreter's lock; a signature is verified without it. The
ratio is wall time per check against that of one thread in the same round: 0.5 is twice the checks a second.
Single calls, or batches, are timed while the other threads go on, so that they show what waiting for a turn
costs.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import state_setup, workloads
from benchmarks.measure import NS_PER_US, Measurement, singles
from benchmarks.stages.batch import Batch
from benchmarks.stages.checks import checking, fresh_calls
from benchmarks.state_setup import World
from benchmarks.workloads import Workload

COUNTS: Final = (1, 2, 4)
# Checks of a round: tens of milliseconds, several turns at the lock, whose default interval is 5 ms.
WARM_CHECKS: Final = 48_000
COLD_CHECKS: Final = 480
ROUNDS: Final = {True: 7, False: 15}
BATCH: Final = 256
# Calls timed one by one, at least; a cold one takes so much longer, and a batch too.
SINGLES: Final = {
    True: {"warm": 4_000, "cold": 480, "batch": 400},
    False: {"warm": 24_000, "cold": 3_000, "batch": 1_500},
}
# Every row, and the floor that it is measured against.
ROWS: Final = {
    f"threads/{kind}-{count}": f"threads/{kind}-1" if count > 1 else ""
    for kind in ("warm", "cold", "batch")
    for count in COUNTS
}
Work = Callable[[Sequence[Any]], None]


@dataclass
class Crew:
    """So many threads, and what each round of them took: wall and CPU us for each check."""

    name: str
    threads: int
    wall_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def round(self, work: Work, items: Sequence[Any]) -> None:
        """Share the items out and time the whole of it."""
        cpu = time.process_time_ns()
        wall = together(self.threads, work, items)
        self.wall_us.append(wall / NS_PER_US / len(items))
        self.cpu_us.append((time.process_time_ns() - cpu) / NS_PER_US / len(items))


def together(threads: int, work: Work, items: Sequence[Any]) -> int:
    """Do the work on each thread's share of the items at once; returns ns from first start to last end.

    Raises what a thread raised.
    """
    barrier = threading.Barrier(threads)

    def one(share: Sequence[Any]) -> tuple[int, int]:
        barrier.wait()
        started = time.perf_counter_ns()
        work(share)
        return started, time.perf_counter_ns()

    collecting = gc.isenabled()
    gc.disable()
    try:
        with ThreadPoolExecutor(threads) as crew:
            spans = list(crew.map(one, [items[number::threads] for number in range(threads)]))
    finally:
        if collecting:
            gc.enable()
    return max(end for _, end in spans) - min(start for start, _ in spans)


def timing(work: Work, times_us: list[float]) -> Work:
    """Return the work of doing each item by itself and noting what it took, in us."""

    def timed(items: Sequence[Any]) -> None:
        clock = time.perf_counter_ns
        taken = []
        for item in items:
            single = [item]
            started = clock()
            work(single)
            taken.append((clock() - started) / NS_PER_US)
        times_us.extend(taken)

    return timed


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Yield the rows whose names hold ``only``."""
    kinds = {"warm": _warm, "cold": _cold, "batch": _batch}
    chosen = {name.split("/")[1].split("-")[0] for name in ROWS if only in name}
    if not chosen:
        return
    (folder / "threads").mkdir()
    measured = state_setup.build(folder / "threads")
    try:
        for kind, rows in kinds.items():
            if kind in chosen:
                yield from (row for row in rows(measured, quick=quick) if only in row.name)
    finally:
        measured.close()


def _warm(measured: World, *, quick: bool) -> Iterator[Measurement]:
    root = workloads.root(measured)
    verifier = measured.verifier()
    root.require_decisions(verifier)
    work = checking(verifier)
    yield from _rows("warm", lambda: work, lambda count: fresh_calls(root, count), WARM_CHECKS, quick)
    root.require_decisions(verifier)


def _cold(measured: World, *, quick: bool) -> Iterator[Measurement]:
    pool = workloads.root(measured, COLD_CHECKS)
    pool.require_decisions(measured.verifier())
    known = workloads.root(measured)

    def nothing_kept() -> Work:
        verifier = measured.verifier()
        known.require_decisions(verifier)
        return checking(verifier)

    def once_each(count: int) -> list[Any]:
        return fresh_calls(Workload(pool.name, pool.calls), min(count, len(pool.calls)))

    yield from _rows("cold", nothing_kept, once_each, COLD_CHECKS, quick)


def _batch(measured: World, *, quick: bool) -> Iterator[Measurement]:
    """Yield rows of batches of warm checks: judged without the interpreter's lock."""
    whole = Batch(f"batch/{BATCH}", measured, workloads.root(measured), BATCH)
    yield from _rows("batch", lambda: whole.run, whole.prepare, WARM_CHECKS, quick)


def _rows(
    kind: str, make: Callable[[], Work], prepare: Callable[[int], Sequence[Any]], checks: int, quick: bool
) -> Iterator[Measurement]:
    crews = [Crew(f"threads/{kind}-{count}", count) for count in COUNTS]
    for _ in range(ROUNDS[quick] + 1):
        for crew in crews:
            crew.round(make(), prepare(checks))
    for crew in crews:
        # The first round of each filled the processor's caches.
        rounds, floor = crew.wall_us[1:], crews[0].wall_us[1:]
        times: list[float] = []
        while len(times) < SINGLES[quick][kind]:
            together(crew.threads, timing(make(), times), prepare(checks))
        yield Measurement(
            name=crew.name,
            floor=crews[0].name if crew is not crews[0] else "",
            rounds=tuple(rounds),
            floor_rounds=tuple(floor) if crew is not crews[0] else (),
            extra={"checks/s": 1e6 / median(rounds), "CPU us": median(crew.cpu_us[1:])},
            **singles(times, _idle_us()),
        )


def _idle_us() -> float:
    times: list[float] = []
    timing(lambda _: None, times)([None] * 1000)
    return median(times)
