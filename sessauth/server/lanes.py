"""Lanes: a bounded pool of threads each, so that no kind of call can take the threads of another.

A lane counts what it has, running and waiting. A call that finds its lane full is refused before
it takes a place, so that overload costs the caller an answer, not us a queue. End, Revoke and
Suspend have the reserved lane: taking authority away works while everything else is overloaded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from .config import LimitSettings

CHANGE: Final = "change"
CHECK: Final = "check"
READ: Final = "read"
RESERVED: Final = "reserved"
STREAM: Final = "stream"
HEALTH: Final = "health"
# Says no. Never refuses a place itself: its calls end at once and wait for nothing.
REFUSAL: Final = "refusal"


class Lane(ThreadPoolExecutor):
    """A thread pool that knows how many calls it holds."""

    def __init__(self, name: str, threads: int, places: int) -> None:
        """Run ``threads`` calls at once; up to ``places`` more may wait."""
        super().__init__(max_workers=threads, thread_name_prefix=f"sessauth-{name}")
        self.name = name
        self.threads = threads
        self.capacity = threads + places
        self._held = 0
        self._count_lock = threading.Lock()

    @property
    def held(self) -> int:
        """How many calls are running or waiting."""
        return self._held

    @property
    def full(self) -> bool:
        """Whether the next call must be refused."""
        return self._held >= self.capacity

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Take a place, which is given back when the call has ended, however it ends."""
        with self._count_lock:
            self._held += 1
        try:
            future = super().submit(function, *args, **kwargs)
        except BaseException:
            self._release(None)
            raise
        future.add_done_callback(self._release)
        return future

    def _release(self, _future: Future[Any] | None) -> None:
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
        """Let running calls end and drop what waits."""
        for lane in self:
            lane.shutdown(wait=False, cancel_futures=True)


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
