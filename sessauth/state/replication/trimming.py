"""Trimming: the leader has the engine forget records that every host can do without.

A host that needs one of them takes a snapshot, so nothing depends on it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ...clock import Clock
from .carrier import Carrier

# A host that was away for less than both catches up by records.
RETAINED_RECORDS: Final = 10_000
RETAINED_MS: Final = 10 * 60_000
PERIOD_MS: Final = 60_000


class Trimmer:
    """Remembers how far the log was at each minute of the last ten."""

    def __init__(self, carrier: Carrier, clock: Clock) -> None:
        """Begin to count now: in its first ten minutes a leader trims nothing."""
        self._carrier = carrier
        self._clock = clock
        self._marks: deque[tuple[int, int]] = deque()

    def step(self, number: int) -> int:
        """Trim what is old by now, the last record being ``number``; return up to which record, 0: nothing.

        Call it every second while leading. Raises CarrierError.
        """
        now_ms = self._clock.steady_ms()
        if self._marks and now_ms - self._marks[-1][0] < PERIOD_MS:
            return 0
        self._marks.append((now_ms, number))
        up_to = 0
        while self._marks and now_ms - self._marks[0][0] >= RETAINED_MS:
            up_to = self._marks.popleft()[1]
        up_to = min(up_to, number - RETAINED_RECORDS)
        if up_to <= 0:
            return 0
        self._carrier.trim(up_to)
        return up_to

    def forget(self) -> None:
        """Begin anew: another server leads."""
        self._marks.clear()
