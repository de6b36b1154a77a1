"""Publishes session events to subscribers: one thread of the control process follows the log for all.

The thread runs while there are subscribers. It reads each change once and offers its event to them; each
subscriber has a bounded queue and a thread of its own, so that a slow one delays no other. The log itself is
the long queue: a subscriber that has fallen behind, or comes back, reads from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ...errors import Rejected
from ...state.lmdb.environment import LmdbSource
from ...state.lmdb.feed import LocalFeed
from ..polling import PollingThread
from .event import Event, event_of
from .subscriber import EventSubscriber, LogPosition

POLL_SECONDS: Final = 0.02
# Changes read in one step, by this thread and by a subscriber that reads for itself.
STEP: Final = 256
# Events that are not of the log and wait for the next poll. Each session has one a second.
MAX_UNLOGGED: Final = 4096


class SessionEventPublisher(PollingThread[EventSubscriber]):
    """The subscribers of one control process."""

    def __init__(self, source: LmdbSource) -> None:
        """Follow the log of ``source``; nothing runs yet."""
        super().__init__(
            "sessauth-session-events",
            overloaded="no thread to follow the log with; retry later",
            draining="this server is about to end; watch on from another, or from its next run",
        )
        self._commit_id = source.commit_id
        self.feed = LocalFeed(source)
        self._position = LogPosition(0, 0)
        self._commit = 0
        # Events that are not of the log, until the changes before them are published.
        self._unlogged: deque[Event] = deque(maxlen=MAX_UNLOGGED)

    @property
    def watchers(self) -> int:
        """The number of open streams."""
        return len(self._members)

    @contextmanager
    def open(self, subscriber: EventSubscriber) -> Iterator[None]:
        """Publish to a subscriber for a ``with`` block; it calls :meth:`join` itself when it fell behind.

        Raises SHUTTING_DOWN while draining, OVERLOADED if no thread can be started.
        """
        try:
            self.join(subscriber)
            yield
        finally:
            with self._lock:
                self._members.discard(subscriber)
                if not self._members:
                    # The next subscriber did not watch when these happened.
                    self._unlogged.clear()

    def join(self, subscriber: EventSubscriber) -> LogPosition:
        """Restart the subscriber's queue; returns its start: up to there it reads the log itself."""
        with self._lock:
            self._add(subscriber)
            subscriber.begin(self._position)
            return self._position

    def read(self, behind: LogPosition) -> tuple[list[Event], LogPosition]:
        """Return the events of some changes after a position, and the position that they reach.

        Raises Rejected COMPACTED if the log no longer has them.
        """
        step = self.feed.entries(behind.seq, STEP)
        events = [event for event in map(event_of, step) if event is not None]
        if not step:
            return [], behind
        revision = step[-1].result.revision if step[-1].result is not None else behind.revision
        return events, LogPosition(step[-1].seq, revision)

    def publish(self, event: Event) -> None:
        """Publish an event that is not of the log, after the change that it follows."""
        with self._lock:
            if self._members:
                self._unlogged.append(event)

    def _prepare(self) -> None:
        """Follow from the log's present end."""
        head = self.feed.head()
        self._position, self._commit = LogPosition(head.seq, head.revision), 0

    def _poll(self, members: list[EventSubscriber]) -> float:
        """Offer the changes committed since the last poll."""
        if self._commit_id is not None and self._commit_id.number == self._commit:
            self._offer_unlogged()
            return POLL_SECONDS
        # Read before the log: a commit in between is found by the next poll. A read may be one commit behind
        # the id, which moves first.
        commit = self.feed.commit_id()
        try:
            events, upto = self.read(self._position)
        except Rejected:
            # The log no longer holds the next changes: each subscriber finds out if it lost any.
            self._skip()
            return POLL_SECONDS
        if upto == self._position:
            self._commit = commit
            self._offer_unlogged()
            return POLL_SECONDS
        self._offer(events, upto)
        return 0.0

    def _offer(self, events: Sequence[Event], upto: LogPosition) -> None:
        with self._lock:
            self._position = upto
            for subscriber in self._members:
                subscriber.offer(events, upto)

    def _offer_unlogged(self) -> None:
        """Offer events that are not of the log, once the changes that they follow were offered."""
        if not self._unlogged:
            return
        with self._lock:
            events = [event for event in self._unlogged if event.message.revision <= self._position.revision]
            for event in events:
                self._unlogged.remove(event)
            for subscriber in self._members:
                subscriber.offer(events, self._position)

    def _skip(self) -> None:
        head = self.feed.head()
        with self._lock:
            self._position = LogPosition(head.seq, head.revision)
            for subscriber in self._members:
                subscriber.fall_behind()
