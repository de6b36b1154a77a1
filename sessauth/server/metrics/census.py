"""Counts of all sessions, reused so that counting takes a bounded share of a processor."""

from __future__ import annotations

import threading
import time
from typing import Final

from ...state.lmdb.effective_status import StateStatistics
from ...state.writer.state_writer import StateWriter

# Counting all sessions may take this share of one processor: slow statistics are cached for longer.
COUNTING_SHARE: Final = 0.02


class SessionCensus:
    """Counts the sessions of a log. Every method may be called from any thread."""

    def __init__(self, log: StateWriter) -> None:
        """Count nothing yet."""
        self._log = log
        self._lock = threading.Lock()
        self._statistics = StateStatistics()
        self._cached_until = float("-inf")

    def statistics(self) -> StateStatistics:
        """Return the counts of now, or of a while ago. Raises StateError if the state can't be read."""
        with self._lock:
            began = time.monotonic()
            if began >= self._cached_until:
                self._statistics = self._log.census()
                now = time.monotonic()
                self._cached_until = now + (now - began) * (1 / COUNTING_SHARE - 1)
            return self._statistics
