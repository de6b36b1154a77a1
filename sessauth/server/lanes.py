"""Lanes: a bounded pool of threads each, so that no kind of call can take the threads of another.

A lane counts what it has, running and waiting. A call that finds its lane full is refused before
it takes a place, so that overload costs the caller an answer, not us a queue. End, Revoke and
Suspend have the reserved lane: taking authority away works while everything else is overloaded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

from .config import LimitSettings
from .place import Place

CHANGE: Final = "change"
CHECK: Final = "check"
READ: Final = "read"
RESERVED: Final = "reserved"
STREAM: Final = "stream"
HEALTH: Final = "health"
# Says no. Never refuses a place itself: its calls end at once and wait for nothing.
REFUSAL: Final = "refusal"

CLOSE_SECONDS: Final = 1.0


class Lane(ThreadPoolExecutor):
    """A thread pool that knows how many calls it holds.

    It is a ``ThreadPoolExecutor`` because gRPC takes nothing else. Threads, queue and places are its own:
    the future and the semaphore that the base makes and signals for each call cost more than a check.
    """

    def __init__(self, name: str, threads: int, places: int) -> None:
        """Run ``threads`` calls at once; up to ``places`` more may wait."""
        super().__init__(max_workers=threads, thread_name_prefix=f"sessauth-{name}")
        self.name = name
        self.threads = threads
        self.capacity = threads + places
        self._held = 0
        self._closed = False
        self._count_lock = threading.Lock()
        self._waiting: SimpleQueue[Place | None] = SimpleQueue()
        self._running: list[threading.Thread] = []

    @property
    def held(self) -> int:
        """How many calls are running or waiting."""
        return self._held

    @property
    def full(self) -> bool:
        """Whether the next call must be refused."""
        return self._held >= self.capacity

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Place:  # type: ignore[override]
        """Take a place, which is given back when the call has ended, however it ends.

        Raises RuntimeError once the lane was shut down, and where not one thread can be started.
        """
        place = Place(self._release, function, args)
        with self._count_lock:
            if self._closed:
                raise RuntimeError(f"the {self.name} lane was shut down")
            if self.threads > len(self._running) <= self._held:
                self._start()
            self._held += 1
        self._waiting.put(place)
        return place

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; those that wait still run, unless ``cancel_futures`` drops them."""
        with self._count_lock:
            self._closed = True
        while cancel_futures:
            try:
                place = self._waiting.get_nowait()
            except Empty:
                break
            if place is not None:
                place.cancel()
        for _ in self._running:
            self._waiting.put(None)
        if wait:
            self.join(None)

    def join(self, seconds: float | None) -> None:
        """Wait for the threads of a lane that was shut down, at most ``seconds``; None has no end."""
        until = None if seconds is None else time.monotonic() + seconds
        for thread in self._running:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))

    def _start(self) -> None:
        name = f"sessauth-{self.name}_{len(self._running)}"
        # A daemon: a call that never ends does not keep the process from ending.
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._running:
                raise
            return
        self._running.append(thread)

    def _run(self) -> None:
        take = self._waiting.get
        while True:
            place = take()
            if place is None:
                return
            place.run()

    def _release(self) -> None:
        with self._count_lock:
            self._held -= 1


@dataclass(frozen=True)
class Lanes:
    """The lanes of one process, by name."""

    by_name: dict[str, Lane]

    def __getitem__(self, name: str) -> Lane:
        """Return the lane of that name."""
        return self.by_name[name]

    def __iter__(self) -> Iterator[Lane]:
        """Iterate over the lanes."""
        return iter(self.by_name.values())

    def close(self) -> None:
        """Drop what waits, and give running calls :data:`CLOSE_SECONDS` to end."""
        until = time.monotonic() + CLOSE_SECONDS
        for lane in self:
            lane.shutdown(wait=False, cancel_futures=True)
        for lane in self:
            lane.join(max(0.0, until - time.monotonic()))


def open_lanes(limits: LimitSettings) -> Lanes:
    """Open the lanes; threads start when they are first needed."""
    places = limits.queue_places
    sizes = {
        CHANGE: (limits.change_threads, places),
        CHECK: (limits.check_threads, places),
        READ: (limits.read_threads, places),
        RESERVED: (limits.reserved_threads, places),
        # A stream holds its thread, so one that would wait for a thread is refused instead.
        STREAM: (limits.stream_threads, 0),
        HEALTH: (2, 32),
        REFUSAL: (1, 1 << 30),
    }
    return Lanes({name: Lane(name, *size) for name, size in sizes.items()})
