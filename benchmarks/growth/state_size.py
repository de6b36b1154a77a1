"""A hot set of 1,000 tokens among ever more live sessions, and ever more revocations.

Two states are open at once: one as small as can be, and one that grows. They are asked in turns, so that
each ratio is of one moment. The hot sessions are in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.growth import growing_state as state
from benchmarks.growth import rss_process
from benchmarks.growth.growing_state import HOT, Grown, hot_set, used_bytes
from benchmarks.measure import Extra, Loop, Measurement, Plan, measure
from benchmarks.stages.checks import checking, fresh_calls
from benchmarks.workloads import Workload
from sessauth.state.lmdb.reader import StateReader
from sessauth.verifier.verifier import DEFAULT_CACHE_BYTES

SIZES: Final = {True: (10_000,), False: (10_000, 1_000_000)}
AXES: Final = ("sessions", "revocations")
KINDS: Final = ("warm", "cold")
# Every row, and the floor that it is measured against.
ROWS: Final = {
    f"growth/{axis}-{size}-{kind}": f"growth/{axis}-{HOT}-{kind}"
    for axis in AXES
    for size in SIZES[False]
    for kind in KINDS
}
PLANS: Final = {True: Plan(9, 10, 1000, 100), False: Plan(15, 16, 20_000, 500)}
COLD_CALLS: Final = 12


class Asked:
    """Warm and cold checks of the hot set against one opened state."""

    def __init__(self, folder: Path, hot: Workload) -> None:
        """Open it; raises WrongDecision if a call of the hot set is denied."""
        self.reader: StateReader = StateReader.open(folder)
        self._hot = hot
        self._warm = state.verifier(self.reader, DEFAULT_CACHE_BYTES)
        self._cold = self._warm
        self._turn = 0
        for _ in range(2):
            hot.require_decisions(self._warm)

    def checks(self, kind: str, name: str) -> Loop:
        """Return ``warm`` or ``cold`` checks under a name."""
        return self.warm(name) if kind == "warm" else self.cold(name)

    def warm(self, name: str) -> Loop:
        """Return checks of the whole hot set in turn, all in the cache."""
        return Loop(name, HOT, lambda count: fresh_calls(self._hot, count), checking(self._warm))

    def cold(self, name: str) -> Loop:
        """Return checks by a verifier that has seen neither the chains nor any row of the state."""

        def prepare(count: int) -> Sequence[Any]:
            self._cold = state.verifier(self.reader, DEFAULT_CACHE_BYTES)
            calls = self._hot.calls
            self._turn = (self._turn + count) % len(calls)
            turned = Workload("", calls[self._turn :] + calls[: self._turn])
            return fresh_calls(turned, min(count, len(calls)))

        def run(items: Sequence[Any]) -> None:
            checking(self._cold)(items)

        return Loop(name, COLD_CALLS, prepare, run)


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Yield the rows whose names hold ``only``; whatever grows for them is removed with the folder."""
    for axis in AXES:
        chosen = [
            size for size in SIZES[quick] if any(only in f"growth/{axis}-{size}-{kind}" for kind in KINDS)
        ]
        if chosen:
            yield from _axis(folder / axis, axis, chosen, PLANS[quick], only)


def _axis(folder: Path, axis: str, sizes: Sequence[int], plan: Plan, only: str) -> Iterator[Measurement]:
    folder.mkdir()
    hot = hot_set()
    tokens = folder / "tokens"
    rss_process.write_tokens(tokens, [call.token for call in hot.calls])
    small, large = Grown(folder / "small"), Grown(folder / "large")
    for each in (small, large):
        each.open_to(HOT)
        if axis == "revocations":
            each.revoke_to(HOT)
    for size in sizes:
        each_us = large.open_to(size) if axis == "sessions" else large.revoke_to(size)
        ours, base = Asked(large.folder, hot), Asked(small.folder, hot)
        extra = {**_weight(large, ours, tokens), "us to write each": each_us}
        try:
            for kind in KINDS:
                name, floor = f"growth/{axis}-{size}-{kind}", f"growth/{axis}-{HOT}-{kind}"
                if only in name:
                    measured = measure(ours.checks(kind, name), base.checks(kind, floor), plan)
                    yield replace(measured, extra=extra)
        finally:
            ours.reader.close()
            base.reader.close()


def _weight(grown: Grown, asked: Asked, tokens: Path) -> Extra:
    """Return what the state's file holds, and what a fresh verifier of the hot set has resident, in MB."""
    order = {"state_dir": str(grown.folder), "tokens": str(tokens), "cache_bytes": DEFAULT_CACHE_BYTES}
    answer = rss_process.ask(order)
    return {
        "file MB": used_bytes(asked.reader) / 1e6,
        "own MB": answer["anon_in_all"] / 1e6,
        "mapped MB": answer["file"] / 1e6,
    }
