"""Decisions of the last minute, from the counters of all processes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ..._fast._check import CheckCounters
from ...reasons import Reason

MINUTE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class RecentDecisions:
    """Checks, and the denials among them, within ``ms``; 0: nothing is counted."""

    ms: int = 0
    checks: int = 0
    denials: int = 0


class MinuteCounts:
    """Samples counters once a second. Every method may be called from any thread."""

    def __init__(
        self, counters: Callable[[], Sequence[CheckCounters]], steady: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with the present counts of ``counters()``; ``steady()`` is in seconds."""
        self._counters = counters
        self._steady = steady
        self._lock = threading.Lock()
        self._samples = deque([self._sample()])

    def poll(self) -> None:
        """Take a sample, and drop those that are older than a minute but one."""
        with self._lock:
            sample = self._sample()
            self._samples.append(sample)
            while len(self._samples) > 1 and self._samples[1][0] <= sample[0] - MINUTE_SECONDS:
                self._samples.popleft()

    def recent(self) -> RecentDecisions:
        """Return the decisions since the oldest sample, a minute ago at most."""
        with self._lock:
            (began, checks, allowed), now = self._samples[0], self._sample()
        counted = now[1] - checks
        return RecentDecisions(max(1, int((now[0] - began) * 1000)), counted, counted - (now[2] - allowed))

    def _sample(self) -> tuple[float, int, int]:
        """Return the time, all decisions so far, and the allows among them."""
        decisions = [counter.decisions() for counter in self._counters()]
        total = sum(sum(each.values()) for each in decisions)
        allowed = sum(
            number for each in decisions for (_, reason), number in each.items() if reason == Reason.ALLOWED
        )
        return self._steady(), total, allowed
