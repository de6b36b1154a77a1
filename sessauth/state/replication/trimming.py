"""Trimming: the leader has the engine forget records that every host can do without.

A host that needs one of them takes a snapshot, so nothing depends on it. Each server, leader or not, has the
engine free overwritten entries: servers write beats even while none of them leads.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from ...clock import Clock
from .carrier import Carrier, CarrierError, EngineRoom

_log = logging.getLogger(__name__)

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
        """Trim the records that are old by now, ``number`` being the last; return up to which, 0: none.

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
        """Start over: another server leads."""
        self._marks.clear()


class Compactor:
    """Has the engine free its history each minute, from the first one on, and knows its free space."""

    def __init__(
        self, carrier: Carrier, clock: Clock, on_full: Callable[[EngineRoom], None] = lambda room: None
    ) -> None:
        """Ask nothing yet. ``on_full`` is called once whenever the engine becomes full."""
        self._carrier = carrier
        self._clock = clock
        self._on_full = on_full
        self._due_ms = 0
        # As last reported; none yet.
        self.room = EngineRoom(0, 0, False)

    def step(self) -> None:
        """Compact and ask for the space if a minute has passed. Call it each second. Raises CarrierError."""
        now_ms = self._clock.steady_ms()
        if now_ms < self._due_ms:
            return
        self._due_ms = now_ms + PERIOD_MS
        try:
            self._carrier.compact()
        except CarrierError as error:
            # Its free space matters all the more.
            _log.warning("the engine's history was not compacted: %s", error)
        was_full, self.room = self.room.full, self._carrier.room()
        if self.room.full and not was_full:
            self._on_full(self.room)
