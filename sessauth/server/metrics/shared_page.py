"""The numbers of one process, in memory that the control process reads.

Each worker counts into a page that the control process made for its place. A restarted worker continues the
counters of the one before it. So a scrape needs no worker, and no counter goes back while the control process
lives. The page has no file: a worker inherits it open.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum, unique
from typing import Final

import grpc

from ..._fast._check import COUNTERS_BYTES, CheckCounters, Histograms, histogram_bytes
from ..rpc.access import RULES
from ..rpc.pool import POOL_NAMES

# gRPC's codes in the order of their numbers.
CODES: Final = tuple(code.name for code in sorted(grpc.StatusCode, key=lambda code: int(code.value[0])))
RPCS: Final = tuple(RULES)
# 100 µs to 10 s: the least time of a call over a socket, and more than any caller waits.
RPC_BOUNDS_NS: Final = (*(factor * 10**exponent for exponent in range(5, 10) for factor in (1, 2, 5)), 10**10)
WORD_BYTES: Final = 8


@unique
class MetricSlot(IntEnum):
    """Numbers of a process beside decisions and calls, in the order of the page."""

    # Counters, over all processes that had the place.
    CACHE_HITS = 0
    CACHE_MISSES = 1
    CACHE_EVICTED = 2
    SIGNATURES = 3
    BAD_SIGNATURES = 4
    WITHDRAWALS = 5
    AUDIT_LOST = 6
    AUDIT_RECORDED = 7
    DIRECT_CALLS = 8
    REFUSED_CONNECTIONS = 9
    # Gauges, of the process that has the place now.
    CACHE_BYTES = 16
    CACHE_CHAINS = 17
    REVISION = 18
    WATCHED_STREAMS = 19
    WATCHED_CALLS = 20
    AUDIT_ON = 21
    AUDIT_HEALTHY = 22
    AUDIT_WAITING_BYTES = 23
    CONNECTIONS = 24


FIRST_GAUGE: Final = MetricSlot.CACHE_BYTES
_NUMBERS: Final = 32
# After the numbers, for each pool: its refusals (a counter), and its calls in flight.
_POOL_REFUSALS: Final = _NUMBERS
_POOL_CALLS: Final = _POOL_REFUSALS + len(POOL_NAMES)
_WORDS: Final = _POOL_CALLS + len(POOL_NAMES)
_RPCS_AT: Final = COUNTERS_BYTES
_WORDS_AT: Final = _RPCS_AT + histogram_bytes(len(RPCS) * len(CODES), len(RPC_BOUNDS_NS))
PAGE_BYTES: Final = -(-(_WORDS_AT + _WORDS * WORD_BYTES) // mmap.PAGESIZE) * mmap.PAGESIZE


class Page:
    """One process's numbers. ``handle`` is the descriptor that another process maps, -1 for none."""

    def __init__(self, memory: mmap.mmap, handle: int = -1) -> None:
        view = memoryview(memory)
        self.handle = handle
        self.counters = CheckCounters(view[:_RPCS_AT])
        self.rpcs = Histograms(len(RPCS) * len(CODES), RPC_BOUNDS_NS, view[_RPCS_AT:_WORDS_AT])
        self._words = view[_WORDS_AT : _WORDS_AT + _WORDS * WORD_BYTES].cast("Q")
        # The last value of each counter in this process.
        self._last = [0] * _WORDS

    @classmethod
    def make(cls, *, shared: bool) -> Page:
        """Make a page of zeros; ``shared`` with another process (Linux only)."""
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
        self.rpcs.observe(ROW_OF[method, code], int(seconds * 1e9))

    def close(self) -> None:
        """Close the descriptor; mappings stay."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def read(self, number: MetricSlot) -> int:
        """Return a number."""
        return self._words[number]

    def write(self, number: MetricSlot, value: int) -> None:
        """Write this process's value of a number; a counter continues that of the process before it."""
        if number < FIRST_GAUGE:
            self._advance(number, value)
        else:
            self._words[number] = value

    def pool(self, index: int) -> tuple[int, int]:
        """Return a pool's refusals since the place was made, and its calls in flight."""
        return self._words[_POOL_REFUSALS + index], self._words[_POOL_CALLS + index]

    def write_pool(self, index: int, refusals: int, calls: int) -> None:
        """Write a pool's refusals and its calls in flight."""
        self._advance(_POOL_REFUSALS + index, refusals)
        self._words[_POOL_CALLS + index] = calls

    def _advance(self, place: int, value: int) -> None:
        self._words[place] += value - self._last[place]
        self._last[place] = value


RPC_ROWS: Final = tuple((method, code) for method in RPCS for code in CODES)
# The row of :attr:`Page.rpcs` for calls of a method that ended with a code.
ROW_OF: Final = {row: index for index, row in enumerate(RPC_ROWS)}
