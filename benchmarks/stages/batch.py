"""Stage ``batch``: many checks in one call, in time per check, against a single warm check.

A batch has one view and one time for all its checks. Calls timed one by one are whole batches: their
percentiles say how long a caller waits for all the answers of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from benchmarks import workloads
from benchmarks.measure import Row
from benchmarks.stages.checks import Warm, fresh_calls
from benchmarks.state_setup import World
from benchmarks.workloads import Workload, WrongDecision

SIZES: Final = (1, 16, 256, 1024)
# Checks of a block of small batches.
BLOCK_CHECKS: Final = 512


class Batches(list[list[Any]]):
    """Batches to judge. Its length is the checks in them, so that figures are per check."""

    def __len__(self) -> int:
        """Return the number of checks."""
        return sum(map(len, self))


class Batch:
    """Batches of one size over the calls of a workload."""

    def __init__(self, name: str, world: World, workload: Workload, size: int) -> None:
        """Raise WrongDecision if a check of a batch is decided otherwise than the workload says."""
        self.name = name
        self.calls = max(size, BLOCK_CHECKS)
        self._workload = workload
        self._size = size
        self._verifier = world.verifier()
        workload.require_decisions(self._verifier)
        for batch in self.prepare(max(size, len(workload.calls))):
            decisions = self._verifier.check_batch(batch)
            wrong = [each.reason.name for each in decisions if each.reason is not workload.reason]
            if wrong or len(decisions) != len(batch):
                raise WrongDecision(f"{name}: {', '.join(wrong) or 'answers are missing'}")

    def prepare(self, count: int) -> Batches:
        """Return whole batches of fresh calls, at least one, with about ``count`` checks in all."""
        batches = max(1, count // self._size)
        calls = fresh_calls(self._workload, batches * self._size)
        return Batches([calls[at : at + self._size] for at in range(0, len(calls), self._size)])

    def run(self, items: Sequence[Any]) -> None:
        """Judge each batch."""
        check_batch = self._verifier.check_batch
        for batch in items:
            check_batch(batch)


class BatchLookedAt(Batch):
    """The same, with every answer asked whether it allows: decisions are made when they are looked at."""

    def run(self, items: Sequence[Any]) -> None:
        """Judge each batch and read its answers."""
        check_batch = self._verifier.check_batch
        for batch in items:
            for decision in check_batch(batch):
                decision.allowed  # noqa: B018 - reading it is what is timed


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows."""
    root = workloads.root(world)
    single = Warm("warm/root", world, root)
    for size in SIZES:
        yield Row(Batch(f"batch/{size}", world, root, size), single)
    yield Row(BatchLookedAt("batch/256-looked-at", world, root, 256), single)
    yield Row(
        Batch("batch/256-text", world, workloads.as_text(root), 256), Batch("batch/256", world, root, 256)
    )
