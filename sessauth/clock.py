"""Clocks. The only file of the package that reads one, beside the kernel's own.

Everything that needs the time takes a :class:`Clock`, so that tests can hold it still.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Gives the wall time in ms since 1970-01-01 UTC."""

    def now_ms(self) -> int:
        """Return the wall time in ms."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now_ms(self) -> int:
        """Return the wall time in ms."""
        return time.time_ns() // 1_000_000


class FixedClock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, now_ms: int) -> None:
        """Start at ``now_ms``, in ms since 1970."""
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Return the time it was set to, in ms."""
        return self._now_ms

    def advance(self, ms: int) -> None:
        """Move by ``ms``, which may be negative."""
        self._now_ms += ms
