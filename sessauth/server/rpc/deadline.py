"""Each call has a deadline, and the server has a longest one.

A call without a deadline could hold its thread forever. A call with a longer deadline than the server's cap
is cancelled at the cap.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import weakref
from typing import Final

from ..status import refused
from ..transport.rpc import Rpc
from .call import CallContext

# A stream may be open for an hour; its connection gets a GOAWAY earlier.
MAX_STREAM_SECONDS: Final = 3_600.0
# grpc reports the end of time for a call without a deadline; a stated one is below 10^8 s.
NO_DEADLINE_SECONDS: Final = 1e12


class Deadline:
    """Sets and caps deadlines. :meth:`close` ends its thread."""

    def __init__(self, max_deadline_ms: int) -> None:
        """Cap unary calls at ``max_deadline_ms``."""
        self._cap = max_deadline_ms / 1000
        self._never_capped = min(self._cap, MAX_STREAM_SECONDS)
        # Weak references: most calls end before their cap.
        self._due: list[tuple[float, int, weakref.ref[Rpc]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def judge(self, call: CallContext) -> None:
        """Set the call's deadline. Raises DEADLINE_REQUIRED if it states none."""
        remaining = call.context.time_remaining()
        # A call that waited longer than its deadline is refused by its first raise_if_expired().
        if remaining is not None and remaining <= self._never_capped:
            call.deadline = call.started + remaining
            return
        if remaining is None or remaining > NO_DEADLINE_SECONDS:
            raise refused("DEADLINE_REQUIRED", "deadline: state one with the call; none was stated")
        cap = MAX_STREAM_SECONDS if call.rule.streams else self._cap
        call.deadline = call.started + min(remaining, cap)
        if remaining > cap:
            self._cancel_at(call.deadline, call.context)

    def close(self) -> None:
        """End the thread that cancels calls."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _cancel_at(self, when: float, context: Rpc) -> None:
        with self._changed:
            heapq.heappush(self._due, (when, next(self._numbers), weakref.ref(context)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sessauth-deadline", daemon=True)
                self._thread.start()
            elif self._due[0][0] == when:
                # The thread sleeps until the earliest: it need not wake for the others.
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                context = heapq.heappop(self._due)[2]()
            if context is not None and context.is_active():
                context.cancel()
