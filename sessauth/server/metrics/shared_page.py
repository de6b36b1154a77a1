"""The numbers of one process, in memory that the control process reads.

Each worker counts into a page that the control process made for its place, and a worker that is started
anew counts on where the one before it was killed. So nothing is asked of a worker for a scrape, and no
counter goes back while the control process lives. The page has no file: a worker inherits it open.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum, unique
from typing import Final

from ..._fast.record.counters import COUNTERS_BYTES, CheckCounters, Histograms, histogram_bytes
from ..rpc.access import RULES
from ..rpc.pools import POOL_NAMES

# gRPC's codes in the order of their numbers, as they are read on the page and told to Prometheus.
CODES: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
RPCS: Final = tuple(RULES)
# 100 µs to 10 s: what a call over a socket takes at least, and what nobody waits for.
RPC_BOUNDS_NS: Final = (*(factor * 10**exponent for exponent in range(5, 10) for factor in (1, 2, 5)), 10**10)
WORD_BYTES: Final = 8


@unique
class MetricSlot(IntEnum):
    """What a process tells of itself beside decisions and calls, in the order of the page."""

    # Counted up, over all processes that had the place.
    CACHE_HITS = 0
    CACHE_MISSES = 1
    CACHE_EVICTED = 2
    SIGNATURES = 3
    BAD_SIGNATURES = 4
    WITHDRAWALS = 5
    AUDIT_LOST = 6
    AUDIT_RECORDED = 7
    # As they stand, of the process that has the place now.
    CACHE_BYTES = 16
    CACHE_CHAINS = 17
    REVISION = 18
    WATCHED_STREAMS = 19
    WATCHED_CALLS = 20
    AUDIT_ON = 21
    AUDIT_HEALTHY = 22
    AUDIT_WAITING_BYTES = 23


FIRST_GAUGE: Final = MetricSlot.CACHE_BYTES
_NUMBERS: Final = 32
# Behind the numbers for each pool: refusals, counted up; and the calls that it holds.
_POOL_REFUSALS: Final = _NUMBERS
_POOL_CALLS: Final = _POOL_REFUSALS + len(POOL_NAMES)
_WORDS: Final = _POOL_CALLS + len(POOL_NAMES)
_RPCS_AT: Final = COUNTERS_BYTES
_WORDS_AT: Final = _RPCS_AT + histogram_bytes(len(RPCS) * len(CODES), len(RPC_BOUNDS_NS))
PAGE_BYTES: Final = -(-(_WORDS_AT + _WORDS * WORD_BYTES) // mmap.PAGESIZE) * mmap.PAGESIZE


class Page:
    """One process's numbers. ``handle`` is what another process maps it by, -1 where there is none."""

    def __init__(self, memory: mmap.mmap, handle: int = -1) -> None:
        """Count in ``memory``, with what it holds."""
        view = memoryview(memory)
        self.handle = handle
        self.counters = CheckCounters(view[:_RPCS_AT])
        self.rpcs = Histograms(len(RPCS) * len(CODES), RPC_BOUNDS_NS, view[_RPCS_AT:_WORDS_AT])
        self._words = view[_WORDS_AT : _WORDS_AT + _WORDS * WORD_BYTES].cast("Q")
        # What this process told last of each number that is counted up.
        self._told = [0] * _WORDS

    @classmethod
    def make(cls, *, shared: bool) -> Page:
        """Make a page of zeros; ``shared`` for another process, which only Linux has."""
        if not shared:
            return cls(mmap.mmap(-1, PAGE_BYTES))
        handle = os.memfd_create("sessauth-metrics", os.MFD_CLOEXEC)
        os.ftruncate(handle, PAGE_BYTES)
        return cls(mmap.mmap(handle, PAGE_BYTES), handle)

    @classmethod
    def inherited(cls, handle: int) -> Page:
        """Map the page that this process inherited open, and close its descriptor."""
        try:
            return cls(mmap.mmap(handle, PAGE_BYTES))
        finally:
            os.close(handle)

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Count a call of ``method``, by its full name, that ended with one of :data:`CODES`."""
        self.rpcs.observe(_ROW_OF[method, code], int(seconds * 1e9))

    def close(self) -> None:
        """Close the descriptor; who mapped the page keeps it."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def read(self, number: MetricSlot) -> int:
        """Return a number."""
        return self._words[number]

    def tell(self, number: MetricSlot, value: int) -> None:
        """Write a number as it stands in this process; what is counted up goes on from what was there."""
        if number < FIRST_GAUGE:
            self._advance(number, value)
        else:
            self._words[number] = value

    def pool(self, index: int) -> tuple[int, int]:
        """Return how many calls a pool refused since the place was made, and how many it holds."""
        return self._words[_POOL_REFUSALS + index], self._words[_POOL_CALLS + index]

    def tell_pool(self, index: int, refusals: int, calls: int) -> None:
        """Write what a pool refused, and what it holds."""
        self._advance(_POOL_REFUSALS + index, refusals)
        self._words[_POOL_CALLS + index] = calls

    def _advance(self, place: int, value: int) -> None:
        self._words[place] += value - self._told[place]
        self._told[place] = value


RPC_ROWS: Final = tuple((method, code) for method in RPCS for code in CODES)
_ROW_OF: Final = {row: index for index, row in enumerate(RPC_ROWS)}
