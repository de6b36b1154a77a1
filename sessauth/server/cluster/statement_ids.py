"""Ids of statements that were used: each counts once, for as long as a statement can be accepted.

They are in memory alone. A restarted process leads in another term, for which no earlier statement is valid.
"""

from __future__ import annotations

import threading
from typing import Final

from ...clock import Clock

# The oldest and the furthest ahead that a statement may be by the receiver's clock. The clocks of two hosts
# differ by less than 2 s, which leaves 3 s for the way.
MAX_AGE_MS: Final = 5_000
MAX_AHEAD_MS: Final = 2_000
# Longer than any statement is accepted after it was used.
WINDOW_MS: Final = MAX_AGE_MS + MAX_AHEAD_MS
# Of one window; a single host may have half of them.
MAX_IDS: Final = 131_072


class StatementIds:
    """The ids of this window and of the one before, by host. Any thread may use it."""

    def __init__(self, clock: Clock) -> None:
        """Begin without any."""
        self._clock = clock
        self._lock = threading.Lock()
        self._began_ms = clock.steady_ms()
        self._used: dict[bytes, set[bytes]] = {}
        self._before: dict[bytes, set[bytes]] = {}
        self._count = 0
        # The latest issue times of both windows, and of all that were forgotten.
        self._latest_ms = self._latest_before_ms = 0
        self._forgotten_ms = -1

    def use(self, signer: bytes, statement_id: bytes, issued_at_ms: int) -> str:
        """Use a statement; returns the reason for which it may not be, empty if it may.

        A statement issued no later than a forgotten one is refused, wherever the wall clock was set since.
        """
        with self._lock:
            self._rotate()
            if issued_at_ms <= self._forgotten_ms:
                return "issued before others that were forgotten since"
            used = self._used.setdefault(signer, set())
            if statement_id in used or statement_id in self._before.get(signer, ()):
                return "used before"
            if self._count >= MAX_IDS or len(used) >= MAX_IDS // 2:
                return "too many statements at once"
            used.add(statement_id)
            self._count += 1
            self._latest_ms = max(self._latest_ms, issued_at_ms)
        return ""

    def _rotate(self) -> None:
        passed_ms = self._clock.steady_ms() - self._began_ms
        if passed_ms < WINDOW_MS:
            return
        for _ in range(1 if passed_ms < 2 * WINDOW_MS else 2):
            if self._before:
                self._forgotten_ms = max(self._forgotten_ms, self._latest_before_ms)
            self._before, self._used = self._used, {}
            self._latest_before_ms, self._latest_ms = self._latest_ms, 0
        self._count = 0
        self._began_ms += passed_ms
