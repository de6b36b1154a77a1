"""Lanes: a bounded pool of threads each, so that no kind of call can take the threads of another.

A lane counts what it has, running and waiting. A call that finds its lane full, or half of it taken by
its own caller, is refused, so that overload costs the caller an answer, not us a queue. End, Revoke and
Suspend have the reserved lane: taking authority away works while everything else is overloaded, and
operators' calls have one in which nobody else is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Final

from ..config.config import LimitSettings
from .pool import RELIEF_SECONDS, BoundedPool

CHANGE: Final = "change"
CHECK: Final = "check"
READ: Final = "read"
RESERVED: Final = "reserved"
# The same RPCs, called by operators.
OPERATOR: Final = "operator"
# Acknowledgements of ends: they are quick, and what they prove must not wait behind anything else.
EVIDENCE: Final = "evidence"
STREAM: Final = "stream"
# Those who watch sessions: of their own, so that no number of consoles takes the place of a gateway's stream.
EVENT: Final = "event"
# What needs no credential: whether this process serves, and the keys for verifiers.
HEALTH: Final = "health"
OPEN: Final = "open"
# What this server's own workers say of themselves.
WORKER: Final = "worker"

LANE_NAMES: Final = (
    *(CHANGE, CHECK, READ, RESERVED, OPERATOR, EVIDENCE),
    *(STREAM, EVENT, HEALTH, OPEN, WORKER),
)

# A check computes and waits for nothing: two threads keep one interpreter busy.
STEADY_CHECK_THREADS: Final = 2
EVIDENCE_THREADS: Final = 4
# Of lanes whose calls are few, and answered from memory.
FEW_THREADS: Final = 2
FEW_PLACES: Final = 32
CLOSE_SECONDS: Final = 1.0


class PoolSet:
    """The lanes of one process, by name, and the thread that looks whether one is held up."""

    def __init__(self, by_name: Mapping[str, BoundedPool]) -> None:
        """Hold these lanes."""
        self.by_name = by_name
        self._closing = threading.Event()
        self._watch = threading.Thread(target=self._relieve, name="sessauth-relief", daemon=True)

    def __getitem__(self, name: str) -> BoundedPool:
        """Return the lane of that name."""
        return self.by_name[name]

    def __iter__(self) -> Iterator[BoundedPool]:
        """Iterate over the lanes."""
        return iter(self.by_name.values())

    def watch(self) -> None:
        """Begin to help lanes whose threads are held up."""
        self._watch.start()

    def close(self) -> None:
        """Drop what waits, and give running calls :data:`CLOSE_SECONDS` to end."""
        self._closing.set()
        until = time.monotonic() + CLOSE_SECONDS
        for lane in self:
            lane.shutdown(wait=False, cancel_waiting=True)
        for lane in self:
            lane.join(max(0.0, until - time.monotonic()))

    def _relieve(self) -> None:
        lanes = [lane for lane in self if lane.steady < lane.threads]
        while not self._closing.wait(RELIEF_SECONDS):
            for lane in lanes:
                lane.relieve()


def open_lanes(limits: LimitSettings) -> PoolSet:
    """Open the lanes; threads start when they are first needed."""
    places = limits.queue_places
    return PoolSet(
        {
            CHANGE: BoundedPool(CHANGE, limits.change_threads, places),
            # A check that costs something waits for its fsync as a change does; the others go on.
            CHECK: BoundedPool(
                CHECK, limits.check_threads, places, STEADY_CHECK_THREADS, stand_ins=limits.change_threads
            ),
            READ: BoundedPool(READ, limits.read_threads, places),
            RESERVED: BoundedPool(RESERVED, limits.reserved_threads, places),
            OPERATOR: BoundedPool(OPERATOR, limits.reserved_threads, places),
            EVIDENCE: BoundedPool(EVIDENCE, EVIDENCE_THREADS, places),
            # A stream holds its thread, so one that would wait for a thread is refused instead.
            STREAM: BoundedPool(STREAM, limits.stream_threads, 0),
            EVENT: BoundedPool(EVENT, limits.event_threads, 0),
            HEALTH: BoundedPool(HEALTH, FEW_THREADS, FEW_PLACES),
            OPEN: BoundedPool(OPEN, FEW_THREADS, FEW_PLACES),
            # Each worker has two calls of these at a time.
            WORKER: BoundedPool(WORKER, FEW_THREADS, limits.queue_places),
        }
    )
