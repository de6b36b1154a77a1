"""The pools of one process: no kind of call can take the threads of another.

A call that finds its pool full, or half of it taken by its own caller, is refused: overload costs the caller
an answer, not the server a queue. End, Revoke and Suspend have the reserved pool: taking authority away works
while everything else is overloaded. Operators' calls of these have a pool of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Final

from ..config.sections import LimitSettings
from .pool import SPARE_SECONDS, BoundedPool

CHANGE: Final = "change"
CHECK: Final = "check"
READ: Final = "read"
RESERVED: Final = "reserved"
# The same RPCs, called by operators.
OPERATOR: Final = "operator"
# Acknowledgements of ends: they are quick, and their proof must not wait behind anything else.
EVIDENCE: Final = "evidence"
STREAM: Final = "stream"
# Watches of sessions: no number of consoles takes the place of a gateway's stream.
EVENT: Final = "event"
# Streams to followers of a cluster's log, and their barriers: each host needs one every half second.
FEED: Final = "feed"
BARRIER: Final = "barrier"
# RPCs that need no credential: the health of this process, and the keys for verifiers.
HEALTH: Final = "health"
OPEN: Final = "open"
# Reports of this server's own workers.
WORKER: Final = "worker"

POOL_NAMES: Final = (
    *(CHANGE, CHECK, READ, RESERVED, OPERATOR, EVIDENCE),
    *(STREAM, EVENT, FEED, BARRIER, HEALTH, OPEN, WORKER),
)

# A check computes and waits for nothing: two threads keep one interpreter busy.
CORE_CHECK_THREADS: Final = 2
EVIDENCE_THREADS: Final = 4
# They wait together for one answer of the engine.
BARRIER_THREADS: Final = 64
# For pools with few calls, answered from memory.
FEW_THREADS: Final = 2
FEW_PLACES: Final = 32
CLOSE_SECONDS: Final = 1.0


class PoolSet:
    """The pools of one process, by name, and the thread that adds spare threads to those held up."""

    def __init__(self, by_name: Mapping[str, BoundedPool]) -> None:
        """Hold these pools."""
        self.by_name = by_name
        self._closing = threading.Event()
        self._watch = threading.Thread(target=self._add_spare_threads, name="sessauth-relief", daemon=True)

    def __getitem__(self, name: str) -> BoundedPool:
        """Return the pool of that name."""
        return self.by_name[name]

    def __iter__(self) -> Iterator[BoundedPool]:
        """Iterate over the pools."""
        return iter(self.by_name.values())

    def watch(self) -> None:
        """Begin to add spare threads."""
        self._watch.start()

    def close(self) -> None:
        """Drop waiting calls, and give running calls :data:`CLOSE_SECONDS` to end."""
        self._closing.set()
        until = time.monotonic() + CLOSE_SECONDS
        for pool in self:
            pool.shutdown(wait=False, cancel_waiting=True)
        for pool in self:
            pool.join(max(0.0, until - time.monotonic()))

    def _add_spare_threads(self) -> None:
        pools = [pool for pool in self if pool.core_threads < pool.threads]
        while not self._closing.wait(SPARE_SECONDS):
            for pool in pools:
                pool.add_spare_thread()


def open_pools(limits: LimitSettings) -> PoolSet:
    """Open the pools. Threads start when they are first needed."""
    places = limits.queue_places
    return PoolSet(
        {
            CHANGE: BoundedPool(CHANGE, limits.change_threads, places),
            # A check that costs something waits for its fsync as a change does; the others go on.
            CHECK: BoundedPool(
                CHECK,
                limits.check_threads,
                places,
                CORE_CHECK_THREADS,
                compensating_threads=limits.change_threads,
            ),
            READ: BoundedPool(READ, limits.read_threads, places),
            RESERVED: BoundedPool(RESERVED, limits.reserved_threads, places),
            OPERATOR: BoundedPool(OPERATOR, limits.reserved_threads, places),
            EVIDENCE: BoundedPool(EVIDENCE, EVIDENCE_THREADS, places),
            # A stream holds its thread, so one that would wait for a thread is refused instead.
            STREAM: BoundedPool(STREAM, limits.stream_threads, 0),
            EVENT: BoundedPool(EVENT, limits.event_threads, 0),
            FEED: BoundedPool(FEED, limits.feed_threads, 0),
            BARRIER: BoundedPool(BARRIER, BARRIER_THREADS, limits.feed_threads),
            HEALTH: BoundedPool(HEALTH, FEW_THREADS, FEW_PLACES),
            OPEN: BoundedPool(OPEN, FEW_THREADS, FEW_PLACES),
            # Each worker has two calls of these at a time.
            WORKER: BoundedPool(WORKER, FEW_THREADS, limits.queue_places),
        }
    )
