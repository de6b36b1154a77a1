"""Rechecks allowed calls on watched streams: one thread of the process for all streams.

It checks nothing while the state is unchanged and no allow is due, so that an idle stream costs next to
nothing. It wakes a stream's own thread only for a withdrawal, or for the stream's end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ...clock import Clock, SystemClock
from ...verifier.verifier import Verifier
from ..config.sections import LimitSettings
from ..polling import PollingThread
from ..rpc.accounting import CallCounts
from ..rpc.call import CallContext
from .stream import WatchedStream

POLL_SECONDS: Final = 0.02
# A poll uses at most a fifth of one processor: after a long one there is a longer pause.
PAUSE_FACTOR: Final = 4
# Period of rechecks of every stream, changed or not: an allow also ends by causes that move no revision (a
# clock that was set, files that were swapped, a credential that was removed).
ALL_SECONDS: Final = 1.0


class Watching(PollingThread[WatchedStream]):
    """The watched streams of one process."""

    def __init__(
        self, verifier: Verifier, limits: LimitSettings | None = None, clock: Clock | None = None
    ) -> None:
        """Check by ``verifier``, which must not charge for calls; nothing runs yet."""
        super().__init__(
            "sessauth-watching",
            overloaded="no thread to watch with; retry later",
            draining="this server is about to end; ask another again about calls in progress",
            first_pause=POLL_SECONDS,
        )
        limits = limits or LimitSettings()
        self._verifier = verifier
        self._max_calls = limits.watched_calls
        self._max_bytes = limits.watched_bytes
        self._clock = clock or SystemClock()
        # Counts withdrawn allows.
        self.withdrawals = CallCounts()
        self._last_state: object = None
        self._all_again_at = 0.0

    @contextmanager
    def open(self, requests: Iterator[bytes], call: CallContext) -> Iterator[WatchedStream]:
        """Read a stream and recheck its watched calls, for a ``with`` block.

        Raises SHUTTING_DOWN while draining, OVERLOADED if no thread can be started.
        """
        stream = WatchedStream(requests, call, self._verifier, self._max_calls, self._max_bytes)
        try:
            with self._lock:
                self._add(stream)
            stream.start()
            yield stream
        finally:
            stream.close()
            with self._lock:
                self._members.discard(stream)

    def open_now(self) -> tuple[int, int]:
        """Return the number of watched streams, and of the calls on them."""
        with self._lock:
            streams = list(self._members)
        return len(streams), sum(len(stream.watchlist) for stream in streams)

    def _poll(self, members: list[WatchedStream]) -> float:
        """Recheck the streams that need it."""
        began = time.monotonic()
        # Read before anything is checked: a change in between is found by the next poll.
        state = self._state()
        every = began >= self._all_again_at
        if every:
            self._all_again_at = began + ALL_SECONDS
        changed = state != self._last_state
        self._last_state = state
        now_ms = self._clock.now_ms()
        for stream in members:
            try:
                if every:
                    stream.require_caller()
                if every or changed or now_ms >= stream.watchlist.due_ms:
                    stream.watchlist.recheck(now_ms)
            except Exception as error:  # noqa: BLE001 - the stream ends by it, the others go on
                stream.fail(error)
        return max(POLL_SECONDS, PAUSE_FACTOR * (time.monotonic() - began))

    def _state(self) -> object:
        """Return a value that changes with the state, the brake and the host's freshness.

        It also changes each time that they can't be read.
        """
        view = self._verifier.view
        try:
            return view.revision, view.current
        except Exception:  # noqa: BLE001 - the calls are checked, and denied by that error
            return object()
