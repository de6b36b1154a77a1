"""The queue of one subscriber: events that were published and wait to be sent."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from .event import Event

# Bound of the queue, in events. They are shared between subscribers; events that do not fit are read from the
# log once the subscriber has come so far.
MAX_WAITING: Final = 1024


class LogPosition(NamedTuple):
    """A position in the log: sequence number and revision."""

    seq: int
    revision: int


class EventBatch(NamedTuple):
    """Responses that waited, in order, and the position that they reach."""

    responses: list[bytes]
    position: LogPosition


class EventSubscriber:
    """A bounded queue for one stream. The publisher never waits for the stream's thread."""

    def __init__(self, admits: Callable[[Event], bytes | None], position: LogPosition) -> None:
        """Wait for the events that ``admits`` returns a response for, after ``position``."""
        self.admits = admits
        # The position up to which events were sent. The stream's own thread moves it.
        self.position = position
        # Dropped events that are not of the log: they can't be sent again.
        self.missed = 0
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._offered = position
        self._fell_behind = False
        self._error: BaseException | None = None

    def begin(self, position: LogPosition) -> None:
        """Restart: everything after ``position`` is offered from now on."""
        with self._changed:
            self._waiting.clear()
            self._offered = position
            self._fell_behind = False

    def offer(self, events: Iterable[Event], upto: LogPosition) -> None:
        """Queue those of the events that are admitted; ``upto`` is the position that they reach."""
        admitted = [(event, response) for event in events if (response := self.admits(event)) is not None]
        with self._changed:
            self._offered = upto
            if self._fell_behind:
                self.missed += sum(not event.is_logged for event, _ in admitted)
                return
            for event, response in admitted:
                self._waiting.append((event.message.seq, response))
            if len(self._waiting) > MAX_WAITING:
                self._drop()
            if admitted:
                self._changed.notify()

    def fall_behind(self) -> None:
        """Have it read the next events from the log."""
        with self._changed:
            self._drop()
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        """Have the stream's thread raise ``error``; the first one counts."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify()

    def raise_if_failed(self) -> None:
        """Raise the error that ended the watch, if there is one."""
        if self._error is not None:
            raise self._error

    def next_batch(self, seconds: float) -> EventBatch | None:
        """Wait up to ``seconds`` for events, and return all that wait; None if it fell behind.

        Events that were sent before (read from the log while they waited here as well) are left out. Raises
        the error that ended the watch.
        """
        with self._changed:
            if not self._waiting and not self._fell_behind and self._error is None:
                self._changed.wait(seconds)
            self.raise_if_failed()
            if self._fell_behind:
                return None
            responses = [response for seq, response in self._waiting if not 0 < seq <= self.position.seq]
            self._waiting.clear()
            return EventBatch(responses, max(self._offered, self.position))

    def _drop(self) -> None:
        self.missed += sum(seq == 0 for seq, _ in self._waiting)
        self._waiting.clear()
        self._fell_behind = True
