"""Periodic tasks of a process, such as sweeping the state."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from .log import event

SECONDS: Final = 1.0
# Between lines of the log about a task that goes on failing for the same cause.
LOG_SECONDS: Final = 60.0


class Background:
    """Runs tasks periodically in a thread of its own; one that fails is logged and tried again."""

    def __init__(
        self,
        tasks: Sequence[tuple[str, Callable[[], object]]],
        name: str = "sessauth-background",
        seconds: float = SECONDS,
    ) -> None:
        """Run the ``(name, task)`` pairs in their order, with pauses of ``seconds``."""
        self._tasks = tasks
        self._seconds = seconds
        # The last failure of each task, and when it was logged.
        self._logged: dict[str, tuple[str, float]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the running task and end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def run_once(self) -> None:
        """Run each task once; a failure is logged, and each minute while it stays the same."""
        for name, task in self._tasks:
            failure = _failure(task)
            before, at = self._logged.get(name, ("", 0.0))
            now = time.monotonic()
            if not failure:
                self._logged.pop(name, None)
            elif failure != before or now - at >= LOG_SECONDS:
                self._logged[name] = failure, now
                _log_failure(name, failure)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self.run_once()


def try_once(name: str, task: Callable[[], object]) -> None:
    """Run a task that will be tried again; a failure is logged."""
    if failure := _failure(task):
        _log_failure(name, failure)


def _failure(task: Callable[[], object]) -> str:
    """Run a task; return its failure, empty if there is none."""
    try:
        task()
    except Exception as error:  # noqa: BLE001 - the next turn tries again; it must not end the thread
        return f"{type(error).__name__}: {error}"
    return ""


def _log_failure(name: str, failure: str) -> None:
    event(logging.ERROR, "background_task_failed", task=name, error=failure)
