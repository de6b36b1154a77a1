"""Stage ``audit``: a warm check whose decision is recorded, against one whose decision is not.

What is timed is the caller's own cost: noting the decision. The recorder takes its turn between the blocks,
in the same thread and untimed, and writes a real audit stream; so these rows are of a recorder that keeps up.
What a record costs it stands beside them. It is a thread of its own, which needs the GIL for about a tenth of
that; how many decisions one process can record is bounded by the whole.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import floors, workloads
from benchmarks.measure import Extra, Row
from benchmarks.stages.checks import Warm
from benchmarks.state_setup import World
from benchmarks.tokens import AUDIENCE
from benchmarks.workloads import Workload, WrongDecision
from sessauth.audit.recording.process import ProcessRecorder, Recorder
from sessauth.audit.write.stream import AuditOptions
from sessauth.state.lmdb.feed import ChangeLog

SAMPLED: Final = 0.01


class Recorded(Warm):
    """Warm checks whose decisions go to an audit stream."""

    def __init__(self, name: str, world: World, workload: Workload, *, sample_allows: float = 1.0) -> None:
        """Open a stream in a folder of its own, beside the state."""
        super().__init__(name, world, workload)
        folder = Path(tempfile.mkdtemp(prefix="audit-", dir=world.state_dir.parent))
        options = AuditOptions(folder, sample_allows=sample_allows)
        process = ProcessRecorder(self._verifier, queue_bytes=options.queue_bytes)
        process.open_audit(options, ChangeLog(world.reader).head(), "bench", audience=AUDIENCE)
        if process.audit is None:
            raise WrongDecision(f"{name}: no stream")
        self._queue, self._audit = process.queue, process.audit
        self._verifier.decision_queue = self._queue
        self._recorder = Recorder(self._queue, [self._audit])
        self._recorded = 0
        self._record_ns: list[float] = []

    def prepare(self, count: int) -> Sequence[Any]:
        """Let the recorder take its turn, and return fresh calls."""
        noted, began = self._queue.queued, time.perf_counter_ns()
        self._recorder.run_once()
        if noted > self._recorded:
            self._record_ns.append((time.perf_counter_ns() - began) / (noted - self._recorded))
        self._recorded = noted
        return super().prepare(count)

    def figures(self) -> Extra:
        """Say what a record costs the recorder. Raises WrongDecision if any was lost."""
        audit = self._audit
        self._recorder.run_once()
        lost, recorded = audit.lost, audit.recorded
        self._verifier.decision_queue = None
        audit.close()
        if lost or not recorded:
            raise WrongDecision(f"{self.name}: {lost} decisions were lost, {recorded} recorded")
        return {"recorded": recorded, "recorder us a decision": median(self._record_ns) / 1000}


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows."""
    root = workloads.root(world)
    off = Warm("audit/off", world, root)
    yield Row(off, floors.lookup(module, root.calls[0].token))
    for name, share in (("audit/on", 1.0), ("audit/on-sampled", SAMPLED)):
        recorded = Recorded(name, world, root, sample_allows=share)
        yield Row(recorded, off, recorded.figures)
