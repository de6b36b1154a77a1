"""One watcher of sessions: what waits for it, and the thread of its call that tells it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from .event import Event

# Events that may wait for one watcher. They are shared between the watchers, and what does not fit is read
# from the log once the watcher has come so far.
MAX_WAITING: Final = 1024


class LogPosition(NamedTuple):
    """How far of the log something is told: by the changes' number, and by the revision behind it."""

    seq: int
    revision: int


class EventBatch(NamedTuple):
    """Responses that waited, in order, and how far a watcher is once it was told them."""

    responses: list[bytes]
    position: LogPosition


class EventSubscriber:
    """What waits for one watcher, bounded. Who adds to it never waits for who takes from it."""

    def __init__(self, admits: Callable[[Event], bytes | None], position: LogPosition) -> None:
        """Wait for the events that ``admits`` gives a response for, behind ``position``."""
        self.admits = admits
        # How far it was told. The call's own thread moves it.
        self.position = position
        # Events that are not of the log and were dropped: nothing can tell them again.
        self.missed = 0
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._seen = position
        self._fell_behind = False
        self._error: BaseException | None = None

    def begin(self, at: LogPosition) -> None:
        """Wait anew: everything behind ``at`` is offered from now on."""
        with self._changed:
            self._waiting.clear()
            self._seen = at
            self._fell_behind = False

    def offer(self, events: Iterable[Event], upto: LogPosition) -> None:
        """Add those of the events that are for this watcher; ``upto`` is how far they reach."""
        found = [(event, response) for event in events if (response := self.admits(event)) is not None]
        with self._changed:
            self._seen = upto
            if self._fell_behind:
                self.missed += sum(not event.of_the_log for event, _ in found)
                return
            for event, response in found:
                self._waiting.append((event.message.seq, response))
            if len(self._waiting) > MAX_WAITING:
                self._drop()
            if found:
                self._changed.notify()

    def fall_behind(self) -> None:
        """Have it read from the log what comes next."""
        with self._changed:
            self._drop()
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        """Have the call's thread raise ``error``; the first one counts."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify()

    def raise_if_failed(self) -> None:
        """Raise what ended the watch, if something did."""
        if self._error is not None:
            raise self._error

    def take(self, seconds: float) -> EventBatch | None:
        """Wait at most so long for something, and return all there is; None if it fell behind.

        What was told before (read from the log, while it waited here as well) is left out. Raises what
        ended the watch.
        """
        with self._changed:
            if not self._waiting and not self._fell_behind and self._error is None:
                self._changed.wait(seconds)
            self.raise_if_failed()
            if self._fell_behind:
                return None
            taken = [response for seq, response in self._waiting if not 0 < seq <= self.position.seq]
            self._waiting.clear()
            return EventBatch(taken, max(self._seen, self.position))

    def _drop(self) -> None:
        self.missed += sum(seq == 0 for seq, _ in self._waiting)
        self._waiting.clear()
        self._fell_behind = True
