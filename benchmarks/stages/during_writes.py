"""Stage ``warm``, while another process commits to the same state: checks that meet changes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from benchmarks import floors, workloads
from benchmarks.measure import Extra, NotMeasured, Row
from benchmarks.stages.checks import Warm
from benchmarks.stages.writer_process import Committer
from benchmarks.state_setup import World

RATE: Final = 1000
# Below this the row would not show what its name says.
LEAST_RATE: Final = 900
# A shorter run would say more of how the committer begins and ends than of its rate.
LEAST_SECONDS: Final = 1.0


class WhileWriting(Warm):
    """Warm checks; a committer runs from the first block on until ``extra`` is asked for."""

    def __init__(self, name: str, world: World, sessions: Sequence[bytes]) -> None:
        """Have the committer change a fact of these sessions in turn."""
        super().__init__(name, world, workloads.root(world))
        self._state_dir = world.state_dir
        self._sessions = sessions
        self._committer: Committer | None = None
        self._started = 0.0

    def prepare(self, count: int) -> Sequence[Any]:
        """Return fresh calls; raises NotMeasured if no committer can be started."""
        if self._committer is None:
            try:
                self._committer = Committer(self._state_dir, self._sessions, RATE)
                self._started = time.monotonic()
            except (OSError, RuntimeError) as error:
                raise NotMeasured(str(error)) from error
        return super().prepare(count)

    def extra(self) -> Extra:
        """End the committer; raises NotMeasured if it was too slow or failed, or a check is now denied."""
        if self._committer is None:
            raise NotMeasured("nothing was timed")
        time.sleep(max(0.0, self._started + LEAST_SECONDS - time.monotonic()))
        with self._committer as committer:
            try:
                done = committer.stop()
            except RuntimeError as error:
                raise NotMeasured(str(error)) from error
        self._committer = None
        self._workload.require_decisions(self._verifier)
        if done.rate < LEAST_RATE:
            raise NotMeasured(f"{done.rate:.0f} changes/s were committed, less than {LEAST_RATE}")
        return {"changes/s": done.rate, "commits/s": done.commits / done.seconds, "seconds": done.seconds}


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows: other sessions change, or the very session that is asked about."""
    lookup = floors.lookup(module, workloads.root(world).calls[0].token)
    others = WhileWriting("warm/while-writing", world, world.bystander_ids)
    yield Row(others, lookup, others.extra)
    own = WhileWriting("warm/while-writing-own", world, [world.session_id])
    yield Row(own, lookup, own.extra)
