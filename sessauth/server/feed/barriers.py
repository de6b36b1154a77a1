"""Barriers for any number of followers: all that wait share the next one, and one is under way at a time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Final

from ...state.replication.carrier import Barrier, CarrierError, LogSource
from ..status import refused

# From the begin of one barrier to that of the next: each is a write to a majority of the engine.
PAUSE_SECONDS: Final = 0.05


class SharedBarriers:
    """Asks a source for barriers, in a thread of its own that the first call starts."""

    def __init__(self, source: LogSource) -> None:
        """Ask nothing yet."""
        self._source = source
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        # The barrier that has not begun yet.
        self._next: Future[Barrier] | None = None

    def barrier(self, timeout_seconds: float) -> Barrier:
        """Return a barrier that began after this call.

        Raises ENGINE_UNREACHABLE, SHUTTING_DOWN, OVERLOADED if no thread can be started, and TimeoutError.
        """
        with self._changed:
            if self._closing.is_set():
                raise refused("SHUTTING_DOWN", "this server is about to end; ask another")
            self._start()
            if self._next is None:
                self._next = Future()
            shared = self._next
            self._changed.notify_all()
        return shared.result(timeout_seconds)

    def close(self) -> None:
        """End the thread, and fail the waiting requests."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _start(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="sessauth-barriers", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            raise refused("OVERLOADED", "no thread to ask the engine with; retry later") from None
        self._thread = thread

    def _run(self) -> None:
        began = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._closing.is_set())
            self._closing.wait(max(0.0, began + PAUSE_SECONDS - time.monotonic()))
            with self._changed:
                # Calls from here on wait for the one after this.
                shared, self._next = self._next, None
            if self._closing.is_set():
                if shared is not None:
                    shared.set_exception(refused("SHUTTING_DOWN", "this server is about to end; ask another"))
                return
            began = time.monotonic()
            if shared is not None:
                self._ask(shared)

    def _ask(self, shared: Future[Barrier]) -> None:
        try:
            shared.set_result(self._source.barrier())
        except CarrierError as error:
            shared.set_exception(refused("ENGINE_UNREACHABLE", f"the engine gave no barrier: {error}"))
        except Exception as error:  # noqa: BLE001 - becomes the answer of those that wait
            shared.set_exception(error)
