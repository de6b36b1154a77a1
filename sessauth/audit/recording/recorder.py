"""The recorder: one thread of the process that hands decision records to sinks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final, Protocol

from ..._fast._check import DecisionQueue, DecisionRecord
from ...clock import Clock, SystemClock

# How long a record waits at most, while the machine keeps up.
DRAIN_SECONDS: Final = 0.05
LOG_EVERY_MS: Final = 1_000
# Limit of a stop: a disk that hangs must not keep a process from going on.
STOP_SECONDS: Final = 30.0
_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Consumes decision records. The recorder's thread alone calls both methods.

    Records are valid only during the call: those of a batch lie in one memory.
    """

    def consume(self, records: Sequence[DecisionRecord], lost: int) -> None:
        """Process a batch, in the order of the decisions; ``lost`` more did not fit since the last one."""
        ...

    def tick(self, now_ms: int) -> None:
        """Do the work that is due. ``now_ms``: the wall clock's time, in ms since 1970."""
        ...


class Recorder:
    """Drains a queue into sinks, every 50 ms and when the queue is half full.

    A sink that raises is logged, once a second, and counted; the others go on.
    """

    def __init__(self, queue: DecisionQueue, sinks: Sequence[Sink], *, clock: Clock | None = None) -> None:
        """Prepare; nothing runs yet."""
        self.queue = queue
        self.failures = 0
        self._sinks = tuple(sinks)
        self._clock = clock or SystemClock()
        self._lost = 0
        self._logged_ms = -LOG_EVERY_MS
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sessauth-recorder", daemon=True)
        queue.on_half_full = self._wake.set

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> bool:
        """Drain the queue and end. Later decisions are not recorded.

        Return False if a sink hangs for ``STOP_SECONDS``: then waiting records are lost, which is logged, and
        no sink may be touched, since the thread is still in one.
        """
        self._stopping = True
        self._wake.set()
        self.queue.on_half_full = None
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():
                _log.error("given up: waiting records could not be written within %.0f s", STOP_SECONDS)
                return False
        self.run_once()
        return True

    def run_once(self) -> None:
        """Drain the queue into every sink once; for the thread, and where none runs."""
        records = self.queue.drain()
        lost = self.queue.lost - self._lost
        self._lost += lost
        now_ms = self._clock.now_ms()
        for sink in self._sinks:
            try:
                if records or lost:
                    sink.consume(records, lost)
                sink.tick(now_ms)
            except Exception as error:  # noqa: BLE001 - one sink that fails takes nothing from the others
                self._failed(sink, error)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(DRAIN_SECONDS)
            self._wake.clear()
            try:
                self.run_once()
            except Exception as error:  # noqa: BLE001 - without memory for records they wait, or are counted lost
                self._failed(self, error)

    def _failed(self, source: object, error: Exception) -> None:
        self.failures += 1
        steady_ms = self._clock.steady_ms()
        if abs(steady_ms - self._logged_ms) >= LOG_EVERY_MS:
            self._logged_ms = steady_ms
            _log.error("%s failed to record: %s", type(source).__name__, error, exc_info=error)
