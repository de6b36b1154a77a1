"""Withdrawals: one thread of the process looks whether what watched streams were allowed is still true.

It judges nothing while the state stands still and no time has come, so that an idle stream costs next to
nothing; it wakes a stream's own thread only to tell a withdrawal, or the stream's end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ...clock import Clock, SystemClock
from ...verifier.verifier import Verifier
from ..config.sections import LimitSettings
from ..rpc.accounting import CallCounts
from ..rpc.call import CallContext
from ..status import refused
from .stream import WatchedStream

# How often it is looked whether anything changed.
LOOK_SECONDS: Final = 0.02
# Looking takes at most a fifth of one processor: behind a long look stands a longer pause.
PAUSE_FACTOR: Final = 4
# How often every stream is looked at, changed or not: what no revision tells (a clock that was set, files
# that were swapped, a credential that was removed) ends an allow too.
ALL_SECONDS: Final = 1.0


class Watching:
    """The watched streams of one process. Its thread runs while there are any."""

    def __init__(
        self, verifier: Verifier, limits: LimitSettings | None = None, clock: Clock | None = None
    ) -> None:
        """Judge by ``verifier``, which must take nothing for what a call costs; nothing runs yet."""
        limits = limits or LimitSettings()
        self._verifier = verifier
        self._max_calls = limits.watched_calls
        self._max_bytes = limits.watched_bytes
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._streams: set[WatchedStream] = set()
        # Counted up for each allow that is told to be taken back.
        self.withdrawals = CallCounts()
        self._thread: threading.Thread | None = None
        self._draining = False
        self._seen: object = None
        self._all_again_at = 0.0

    @contextmanager
    def open(self, requests: Iterator[bytes], call: CallContext) -> Iterator[WatchedStream]:
        """Read a stream and look after what it watches, for a ``with`` block.

        Raises SHUTTING_DOWN while draining, OVERLOADED if no thread can be had.
        """
        stream = WatchedStream(requests, call, self._verifier, self._max_calls, self._max_bytes)
        try:
            self._add(stream)
            stream.start()
            yield stream
        finally:
            stream.close()
            with self._lock:
                self._streams.discard(stream)

    def open_now(self) -> tuple[int, int]:
        """Return how many streams are watched, and how many calls on them."""
        with self._lock:
            streams = list(self._streams)
        return len(streams), sum(len(stream.watchlist) for stream in streams)

    def drain(self) -> None:
        """End every watched stream with SHUTTING_DOWN, and take no more."""
        with self._lock:
            self._draining = True
        self._fail_all(_shutting_down())

    def _add(self, stream: WatchedStream) -> None:
        with self._lock:
            if self._draining:
                raise _shutting_down()
            self._streams.add(stream)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="sessauth-watching", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    raise refused("OVERLOADED", "no thread to watch with; retry later") from None
                self._thread = thread

    def _run(self) -> None:
        pause: float | None = LOOK_SECONDS
        try:
            while pause is not None:
                time.sleep(pause)
                pause = self._look()
        except BaseException as error:  # noqa: BLE001 - nobody looks any more, so nothing is watched
            with self._lock:
                self._thread = None
            self._fail_all(error)

    def _look(self) -> float | None:
        """Look once; returns how long to pause, None if there is nothing to look at any more."""
        with self._lock:
            streams = list(self._streams)
            if not streams:
                self._thread = None
                return None
        began = time.monotonic()
        # Read before anything is judged: a change that comes in between is seen by the next look.
        seen = self._state()
        every = began >= self._all_again_at
        if every:
            self._all_again_at = began + ALL_SECONDS
        changed = seen != self._seen
        self._seen = seen
        now_ms = self._clock.now_ms()
        for stream in streams:
            try:
                if every:
                    stream.require_caller()
                if every or changed or now_ms >= stream.watchlist.due_ms:
                    stream.watchlist.look(now_ms)
            except Exception as error:  # noqa: BLE001 - the stream ends by it, the others go on
                stream.fail(error)
        return max(LOOK_SECONDS, PAUSE_FACTOR * (time.monotonic() - began))

    def _state(self) -> object:
        """Return what moves with the state and the brake; if that can't be read, what is like nothing."""
        view = self._verifier.view
        try:
            return view.revision, view.braked
        except Exception:  # noqa: BLE001 - the calls are judged, and denied by what is wrong
            return object()

    def _fail_all(self, error: BaseException) -> None:
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.fail(error)


def _shutting_down() -> Exception:
    return refused("SHUTTING_DOWN", "this server is about to end; ask another again about what goes on")
