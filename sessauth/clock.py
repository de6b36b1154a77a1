"""Clocks. No other file of the package reads one, except the kernel.

Code that needs the time takes a :class:`Clock`, so that tests can stop it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final, Protocol

# The kernel compares the wall clock with the same one. Linux: CLOCK_BOOTTIME counts suspend,
# CLOCK_MONOTONIC does not; elsewhere CLOCK_MONOTONIC does.
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """A source of wall time in ms since 1970-01-01 UTC, and of a monotonic time to compare it with."""

    def now_ms(self) -> int:
        """Return the wall time in ms."""

    def steady_ms(self) -> int:
        """Return a time in ms that nobody sets, from an unknown start; it counts suspend."""


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Return the wall time in ms."""
        return time.time_ns() // 1_000_000

    def steady_ms(self) -> int:
        """Return the monotonic time in ms."""
        return time.clock_gettime_ns(_STEADY) // 1_000_000


class FixedClock:
    """A clock that moves only by :meth:`advance` and :meth:`step`."""

    def __init__(self, now_ms: int) -> None:
        """Start at ``now_ms``, in ms since 1970."""
        self._now_ms = now_ms
        self._stepped_ms = 0

    def now_ms(self) -> int:
        """Return the time it was set to, in ms."""
        return self._now_ms

    def steady_ms(self) -> int:
        """Return the time without the steps of the wall clock, in ms."""
        return self._now_ms - self._stepped_ms

    def advance(self, ms: int) -> None:
        """Let ``ms`` pass on both clocks; may be negative."""
        self._now_ms += ms

    def step(self, ms: int) -> None:
        """Set the wall clock alone by ``ms``, which may be negative, as a time server does."""
        self._now_ms += ms
        self._stepped_ms += ms


def utc_text(at_ms: int, form: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    """Return a time in ms since 1970 as UTC in a form of strftime; beyond the year 9999 the number."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"
