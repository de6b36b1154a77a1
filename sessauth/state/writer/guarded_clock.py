"""The writer's wall clock, which is suspect once it deviates from a monotonic one.

A change is stamped with the wall clock, and the clock floor never goes back before a stamp. So one wrong
step of the clock, stamped once, would leave the floor in the future, and every check would deny until real
time reached it. The writer therefore compares the wall clock with a monotonic clock that counts suspend, from
the moment it was opened, with the same bound as the kernel's checks.
"""

from __future__ import annotations

from dataclasses import dataclass

from ... import limits
from ...clock import Clock


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A time in ms to stamp changes with, and the reason why the wall clock is suspect (empty: it is not)."""

    at_ms: int
    suspect: str = ""


class GuardedClock:
    """Reads a clock; safe to use from any thread."""

    def __init__(self, clock: Clock) -> None:
        """Trust the wall clock as it is now, and measure deviations from it."""
        self._clock = clock
        self._offset_ms = clock.now_ms() - clock.steady_ms()

    def read(self) -> ClockReading:
        """Return the wall time; while it is suspect, the earlier of it and of the expected time.

        The earlier of the two can neither put a stamp into the future nor let a lease live longer.
        """
        wall_ms = self._clock.now_ms()
        expected_ms = self._clock.steady_ms() + self._offset_ms
        moved_ms = wall_ms - expected_ms
        if abs(moved_ms) <= limits.CLOCK_STEP_MS:
            return ClockReading(wall_ms)
        return ClockReading(
            min(wall_ms, expected_ms),
            f"the wall clock moved by {round(moved_ms / 1000)} s against the monotonic one since the state "
            "was opened, so only ends, suspensions, narrowings, revocations and distrust are written; set "
            "the clock right, or restart the server if it is right now",
        )
