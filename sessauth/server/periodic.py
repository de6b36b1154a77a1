"""What the control process does by itself, once a second: sweep the state, judge its own readiness."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from .log import event

SECONDS: Final = 1.0


class Background:
    """Runs tasks once a second in a thread of its own; one that fails is logged and tried again."""

    def __init__(self, tasks: Sequence[tuple[str, Callable[[], object]]]) -> None:
        """Run the ``(name, task)`` pairs in their order."""
        self._tasks = tasks
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sessauth-background", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the running task and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(SECONDS):
            for name, task in self._tasks:
                try_once(name, task)


def try_once(name: str, task: Callable[[], object]) -> None:
    """Run a task that will be tried again; a failure is logged."""
    try:
        task()
    except Exception as error:  # noqa: BLE001 - the next second tries again; it must not end the thread
        event(
            logging.ERROR,
            "background_task_failed",
            task=name,
            error=f"{type(error).__name__}: {error}",
        )
