"""Calls of each session in the last ten minutes, a count for each minute.

They answer "who is denied most now?", where sums over a session's life would name the oldest. They are held
in memory: a restart begins anew, and ``since_ms`` says so. Minutes are those of the steady clock, so a clock
that is set moves no count.
"""

from __future__ import annotations

import heapq
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from ...clock import Clock

MINUTES: Final = 10
_MINUTE_MS: Final = 60_000
# Sessions that are counted, some 400 bytes each; of more, those whose last call is the oldest are dropped.
MAX_SESSIONS: Final = 100_000
# What an array's item holds, and the bits that the sum of all of them needs.
_MOST: Final = 2**32 - 1
_BITS: Final = 37
_CALLS: Final = (1 << _BITS) - 1
# Sessions that are ordered before the others.
FIRST: Final = 200


class RecentCount:
    """Allowed and denied calls of the last :data:`MINUTES` minutes, and their sums."""

    __slots__ = ("_calls", "_minute", "allowed", "denied")

    def __init__(self, minute: int) -> None:
        """Begin in a minute with no call."""
        self._minute = minute
        # The allowed calls of minute m are at m % MINUTES, the denied ones MINUTES further.
        self._calls = array("I", bytes(4 * 2 * MINUTES))
        self.allowed = 0
        self.denied = 0

    def add(self, minute: int, allowed: int, denied: int) -> None:
        """Count calls of a minute."""
        self.advance(minute)
        place = self._minute % MINUTES
        for at, calls in ((place, allowed), (place + MINUTES, denied)):
            calls = min(calls, _MOST - self._calls[at])
            self._calls[at] += calls
            if at < MINUTES:
                self.allowed += calls
            else:
                self.denied += calls

    def advance(self, minute: int) -> None:
        """Forget the calls that are too old in a minute."""
        if minute <= self._minute:
            return
        for each in range(max(self._minute + 1, minute - MINUTES + 1), minute + 1):
            place = each % MINUTES
            self.allowed -= self._calls[place]
            self.denied -= self._calls[place + MINUTES]
            self._calls[place] = self._calls[place + MINUTES] = 0
        self._minute = minute

    @property
    def rank(self) -> int:
        """The denied calls, then all calls, as one number: these are compared faster than pairs."""
        return self.denied << _BITS | self.allowed + self.denied

    def is_over(self, minute: int) -> bool:
        """Return True if all calls are too old in a minute."""
        return minute - self._minute >= MINUTES

    def by_minute(self) -> tuple[list[int], list[int]]:
        """Return allowed and denied calls for each minute, the present one last."""
        first = self._minute % MINUTES + 1
        allowed, denied = self._calls[:MINUTES].tolist(), self._calls[MINUTES:].tolist()
        return allowed[first:] + allowed[:first], denied[first:] + denied[:first]


class RecentActivity:
    """The recent calls of all sessions. Any thread may use it."""

    def __init__(self, clock: Clock) -> None:
        """Count from now on."""
        self._clock = clock
        self._lock = threading.Lock()
        # The session whose last call is the oldest stands first.
        self._counts: OrderedDict[bytes, RecentCount] = OrderedDict()
        # What they are ranked by, apart from them: a hundred thousand objects are slow to read.
        self._ranks: dict[bytes, int] = {}
        self._total = RecentCount(self._minute())
        self._advanced_to = self._minute()
        self.since_ms: Final = clock.now_ms()

    def add(self, session_id: bytes, allowed: int, denied: int) -> None:
        """Count calls that were reported now."""
        if not allowed and not denied:
            return
        with self._lock:
            minute = self._minute()
            count = self._counts.get(session_id)
            if count is None:
                self._counts[session_id] = count = RecentCount(minute)
                if len(self._counts) > MAX_SESSIONS:
                    del self._ranks[self._counts.popitem(last=False)[0]]
            else:
                self._counts.move_to_end(session_id)
            count.add(minute, allowed, denied)
            self._ranks[session_id] = count.rank
            self._total.add(minute, allowed, denied)

    def total(self) -> tuple[list[int], list[int]]:
        """Return the allowed and the denied calls of all sessions for each minute, the present one last."""
        with self._lock:
            self._total.advance(self._minute())
            return self._total.by_minute()

    def elapsed_ms(self) -> int:
        """Return the part of the present minute that has passed, in ms."""
        return self._clock.steady_ms() % _MINUTE_MS

    def ranked(self, *, by_calls: bool) -> Iterator[tuple[bytes, tuple[list[int], list[int]]]]:
        """Yield each session with its calls for each minute: the most denied first, or the most called."""
        with self._lock:
            minute = self._minute()
            if minute > self._advanced_to:
                self._advance(minute)
            ids, ranks = list(self._ranks), list(self._ranks.values())
        if by_calls:
            ranks = [(rank & _CALLS) << _BITS | rank >> _BITS for rank in ranks]
        # Few of many are read, so the rest is ordered only if it is asked for.
        least = min(heapq.nlargest(FIRST, ranks), default=0)
        pairs = zip(ranks, ids, strict=True)
        yield from self._ordered([(-rank, each) for rank, each in pairs if rank >= least])
        pairs = zip(ranks, ids, strict=True)
        yield from self._ordered([(-rank, each) for rank, each in pairs if rank < least])

    def _advance(self, minute: int) -> None:
        """Forget the calls that are too old in a minute; those that are added later see to it themselves."""
        while self._counts and next(iter(self._counts.values())).is_over(minute):
            self._counts.popitem(last=False)
        for count in self._counts.values():
            count.advance(minute)
        self._ranks = {session_id: count.rank for session_id, count in self._counts.items()}
        self._advanced_to = minute

    def _ordered(self, ranks: list[tuple[int, bytes]]) -> Iterator[tuple[bytes, tuple[list[int], list[int]]]]:
        heapq.heapify(ranks)
        while ranks:
            _, session_id = heapq.heappop(ranks)
            with self._lock:
                left = self._counts.get(session_id)
                found = None if left is None else left.by_minute()
            if found is not None:
                yield session_id, found

    def __len__(self) -> int:
        """Return the number of sessions that are counted."""
        return len(self._counts)

    def _minute(self) -> int:
        return self._clock.steady_ms() // _MINUTE_MS
