"""Follows the log and tells the watchers of sessions what happens: one thread of the control process.

The thread runs while somebody watches. It reads each change once and hands its event to those that it is for;
each watcher has a bounded queue and a thread of its own, so that one who does not read holds up nobody. The
log itself is the long queue: who has fallen behind, or comes back, reads from there.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ...errors import Rejected
from ...state.lmdb.environment import LmdbSource
from ...state.lmdb.feed import LocalFeed
from ..status import refused
from .event import Event, event_of
from .subscriber import EventSubscriber, LogPosition

# How often it is looked whether anything was committed.
LOOK_SECONDS: Final = 0.02
# Changes that are read in one step, by this thread and by a watcher that reads for itself.
STEP: Final = 256
# Events that are not of the log and wait for a look. Of each session there is one a second.
MAX_ASIDE: Final = 4096


class SessionEventPublisher:
    """The watchers of one control process."""

    def __init__(self, source: LmdbSource) -> None:
        """Follow the log of ``source``; nothing runs yet."""
        self._commit_id = source.commit_id
        self.feed = LocalFeed(source)
        self._lock = threading.Lock()
        self._watchers: set[EventSubscriber] = set()
        self._thread: threading.Thread | None = None
        self._draining = False
        self._at = LogPosition(0, 0)
        self._commit = 0
        # Events that are not of the log, until the changes before them were told.
        self._aside: deque[Event] = deque(maxlen=MAX_ASIDE)

    @property
    def watchers(self) -> int:
        """How many streams are open."""
        return len(self._watchers)

    @contextmanager
    def open(self, watcher: EventSubscriber) -> Iterator[None]:
        """Tell a watcher of what happens, for a ``with`` block; it :meth:`join`s by itself.

        Raises SHUTTING_DOWN while draining, OVERLOADED if no thread can be had.
        """
        try:
            self.join(watcher)
            yield
        finally:
            with self._lock:
                self._watchers.discard(watcher)
                if not self._watchers:
                    # For nobody: who watches next was not there.
                    self._aside.clear()

    def join(self, watcher: EventSubscriber) -> LogPosition:
        """Have the watcher's queue begin anew; returns from where on: up to there it reads for itself."""
        with self._lock:
            if self._draining:
                raise _shutting_down()
            if self._thread is None:
                self._start()
            self._watchers.add(watcher)
            watcher.begin(self._at)
            return self._at

    def read(self, behind: LogPosition) -> tuple[list[Event], LogPosition]:
        """Return the events of some changes behind a position, and how far they reach.

        Raises Rejected COMPACTED if the log no longer has them.
        """
        step = self.feed.entries(behind.seq, STEP)
        events = [event for event in map(event_of, step) if event is not None]
        if not step:
            return [], behind
        revision = step[-1].result.revision if step[-1].result is not None else behind.revision
        return events, LogPosition(step[-1].seq, revision)

    def tell(self, event: Event) -> None:
        """Tell those who watch now of an event that is not of the log, behind the change that it follows."""
        with self._lock:
            if self._watchers:
                self._aside.append(event)

    def drain(self) -> None:
        """End every watch with SHUTTING_DOWN, and take no more."""
        with self._lock:
            self._draining = True
        self._fail_all(_shutting_down())

    def _start(self) -> None:
        """Start to follow from where the log is now. Called with the lock."""
        head = self.feed.head()
        self._at, self._commit = LogPosition(head.seq, head.revision), 0
        thread = threading.Thread(target=self._run, name="sessauth-session-events", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            raise refused("OVERLOADED", "no thread to follow the log with; retry later") from None
        self._thread = thread

    def _run(self) -> None:
        try:
            while self._look():
                time.sleep(LOOK_SECONDS)
        except BaseException as error:  # noqa: BLE001 - nobody follows any more, so nothing is watched
            with self._lock:
                self._thread = None
            self._fail_all(error)

    def _look(self) -> bool:
        """Hand on what was committed; whether anybody watches still."""
        while True:
            with self._lock:
                if not self._watchers:
                    self._thread = None
                    return False
            if self._commit_id is not None and self._commit_id.number == self._commit:
                self._hand_on_aside()
                return True
            # What a read sees may be one commit behind the pulse, which moves first. Asked for before the
            # log is read, so that a commit that comes in between is seen by the next look.
            commit = self.feed.commit_id()
            try:
                events, upto = self.read(self._at)
            except Rejected:
                # The log moved on by more than it keeps: each watcher finds out whether it lost anything.
                self._skip()
                return True
            if upto == self._at:
                self._commit = commit
                self._hand_on_aside()
                return True
            self._hand_on(events, upto)

    def _hand_on(self, events: Sequence[Event], upto: LogPosition) -> None:
        with self._lock:
            self._at = upto
            for watcher in self._watchers:
                watcher.offer(events, upto)

    def _hand_on_aside(self) -> None:
        """Hand on what is not of the log, once the change that it follows was told."""
        if not self._aside:
            return
        with self._lock:
            events = [event for event in self._aside if event.message.revision <= self._at.revision]
            for event in events:
                self._aside.remove(event)
            for watcher in self._watchers:
                watcher.offer(events, self._at)

    def _skip(self) -> None:
        head = self.feed.head()
        with self._lock:
            self._at = LogPosition(head.seq, head.revision)
            for watcher in self._watchers:
                watcher.fall_behind()

    def _fail_all(self, error: BaseException) -> None:
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher.fail(error)


def _shutting_down() -> Exception:
    return refused(
        "SHUTTING_DOWN", "this server is about to end; watch on from another, or from its next run"
    )
