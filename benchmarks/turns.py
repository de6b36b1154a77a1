"""Rounds of pytest-benchmark in which a row and its floor take turns, block by block."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from benchmarks.measure import DEPTH_STEP, PAGE_BYTES, Row, block

# Times a row in turns with its floor; the second argument is the largest ratio.
Timed: TypeAlias = Callable[[Row, float], None]


class PerCall:
    """A timer in s per call: one call is too short for it, so a block of ``calls`` is timed as a whole."""

    __name__ = "perf_counter / calls"

    def __init__(self) -> None:
        """Begin with one call."""
        self.calls = 1

    def __call__(self) -> float:
        """Return the time."""
        return time.perf_counter() / self.calls


TIMER: Final = PerCall()


class Turns:
    """Blocks of a row, each after a block of its floor, at another depth of the stack."""

    def __init__(self, row: Row, below: Any) -> None:
        """Begin. The row has a floor."""
        assert row.floor is not None
        self.floor = row.floor
        self.floor_us: list[float] = []
        self._subject = row.subject
        self._below = below
        self._depth = 0

    def next(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Time a block of the floor; return the arguments of ``below`` for the row's next block."""
        self.floor_us.append(block(self.floor, time.perf_counter_ns, self._below, self._depth))
        items: Sequence[Any] = self._subject.prepare(self._subject.calls)
        TIMER.calls = len(items)
        arguments = (self._subject.run, items, self._depth)
        self._depth = (self._depth + DEPTH_STEP) % PAGE_BYTES
        return arguments, {}

    def warm_up(self) -> None:
        """Run a pair of blocks that counts for nothing."""
        arguments, _ = self.next()
        self._below(*arguments)
        self.floor_us.clear()
