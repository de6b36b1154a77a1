"""Periodic tasks of a process, such as sweeping the state."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from .log import event

SECONDS: Final = 1.0


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

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            for name, task in self._tasks:
                try_once(name, task)


def try_once(name: str, task: Callable[[], object]) -> None:
    """Run a task that will be tried again; a failure is logged."""
    try:
        task()
    except Exception as error:  # noqa: BLE001 - the next turn tries again; it must not end the thread
        text = f"{type(error).__name__}: {error}"
        event(logging.ERROR, "background_task_failed", task=name, error=text)
