"""Sums over the rounds of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.measure import Measurement, singles


@dataclass(frozen=True)
class Drive:
    """One round: changes, wall time in us, commits, latencies in us, and the CPU time of a server process."""

    changes: int
    wall_us: float
    commits: int
    latencies_us: Sequence[float]
    cpu_us: float = 0.0


@dataclass
class Rounds:
    """The rounds of one kind of change by so many callers, and what the floor took in each."""

    name: str
    kind: str
    callers: int
    drives: list[Drive] = field(default_factory=list)
    floor_us: list[float] = field(default_factory=list)

    def measurement(self, floor: str) -> Measurement:
        """Return the row of what a change takes: the wall time of all over their number."""
        extra = {
            "changes/s": median([1e6 * each.changes / each.wall_us for each in self.drives]),
            "fsyncs/change": self.commits / self.changes,
        }
        if any(each.cpu_us for each in self.drives):
            extra["server CPU us"] = median([each.cpu_us / each.changes for each in self.drives])
        return Measurement(
            self.name,
            floor,
            tuple(each.wall_us / each.changes for each in self.drives),
            tuple(self.floor_us),
            extra=extra,
            **singles([us for each in self.drives for us in each.latencies_us]),
        )

    def fsyncs(self) -> Measurement:
        """Return the row of fsyncs, whose ratio is to the changes that they made durable."""
        return Measurement(
            self.fsyncs_name,
            self.changes_name,
            tuple(float(each.commits) for each in self.drives),
            tuple(float(each.changes) for each in self.drives),
            unit="fsyncs",
        )

    @property
    def fsyncs_name(self) -> str:
        """The name of the row of fsyncs."""
        return f"{self.name}-fsyncs"

    @property
    def changes_name(self) -> str:
        """Name of the row's floor."""
        return f"{self.name}-changes"

    @property
    def commits(self) -> int:
        """Number of commits of all rounds."""
        return sum(each.commits for each in self.drives)

    @property
    def changes(self) -> int:
        """Number of changes of all rounds."""
        return sum(each.changes for each in self.drives)
