"""Decisions of the last minute, by counters that only grow."""

from __future__ import annotations

from typing import cast

from sessauth._fast._check import CheckCounters
from sessauth.reasons import Reason, Stage
from sessauth.server.metrics.service import MinuteCounts, RecentDecisions


class Counters:
    """Counters of one process, and the clock."""

    def __init__(self) -> None:
        """Begin at zero, and at no round time."""
        self.allowed, self.denied, self.now = 5, 2, 1_000.5

    def decisions(self) -> dict[tuple[int, int], int]:
        """Return the decisions so far."""
        denied = (int(Stage.SCOPE), int(Reason.OUT_OF_SCOPE))
        return {(int(Stage.NONE), int(Reason.ALLOWED)): self.allowed, denied: self.denied}


def test_counts_are_of_the_last_minute() -> None:
    """Those of before the start, and of over a minute ago, are left out; all processes are added up."""
    one, two = Counters(), Counters()
    counts = MinuteCounts(lambda: cast(list[CheckCounters], [one, two]), lambda: one.now)
    one.now += 1
    assert counts.recent() == RecentDecisions(1_000, 0, 0)

    one.allowed += 10
    two.denied += 3
    for _ in range(30):
        one.now += 1
        counts.poll()
    assert counts.recent() == RecentDecisions(31_000, 13, 3)
    two.denied += 1
    for _ in range(59):
        one.now += 1
        counts.poll()

    assert counts.recent() == RecentDecisions(60_000, 1, 1)
    one.now += 60
    counts.poll()
    assert counts.recent().checks == 0
