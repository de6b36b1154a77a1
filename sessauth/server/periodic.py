"""Periodic work of a process: tasks such as sweeping the state, and polling on behalf of members.

A thread that polls runs while it has members.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from .log import event
from .status import refused

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


class Member(Protocol):
    """A stream that the thread serves."""

    def fail(self, error: BaseException) -> None:
        """Have the stream's own thread raise ``error``."""
        ...


M = TypeVar("M", bound=Member)


class PollingThread(ABC, Generic[M]):
    """Base of the pollers for streams. A drain, or a fault of the thread, ends them all.

    A subclass implements :meth:`_poll`, and adds members with :meth:`_add`.
    """

    def __init__(self, name: str, *, overloaded: str, draining: str, first_pause: float = 0.0) -> None:
        """Run nothing yet. ``overloaded`` and ``draining`` are the messages of refusals."""
        self._name = name
        self._overloaded = overloaded
        self._draining_message = draining
        self._first_pause = first_pause
        self._lock = threading.Lock()
        self._members: set[M] = set()
        self._thread: threading.Thread | None = None
        self._draining = False

    def drain(self) -> None:
        """End every stream with SHUTTING_DOWN, and accept no more."""
        with self._lock:
            self._draining = True
        self._fail_all(refused("SHUTTING_DOWN", self._draining_message))

    @abstractmethod
    def _poll(self, members: list[M]) -> float:
        """Poll once; returns the pause until the next poll, in seconds."""

    def _prepare(self) -> None:
        """Prepare for the first poll of a new thread. Called with the lock held."""

    def _add(self, member: M) -> None:
        """Add a member, and start the thread for the first one. Called with the lock held.

        Raises SHUTTING_DOWN while draining, OVERLOADED if no thread can be started.
        """
        if self._draining:
            raise refused("SHUTTING_DOWN", self._draining_message)
        if self._thread is None:
            self._prepare()
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                raise refused("OVERLOADED", self._overloaded) from None
            self._thread = thread
        self._members.add(member)

    def _run(self) -> None:
        pause: float | None = self._first_pause
        try:
            while pause is not None:
                time.sleep(pause)
                pause = self._poll_members()
        except BaseException as error:  # noqa: BLE001 - without the thread nothing is polled
            with self._lock:
                self._thread = None
            self._fail_all(error)

    def _poll_members(self) -> float | None:
        """Poll once for the members; None if there are none, which ends the thread."""
        with self._lock:
            members = list(self._members)
            if not members:
                self._thread = None
                return None
        return self._poll(members)

    def _fail_all(self, error: BaseException) -> None:
        with self._lock:
            members = list(self._members)
        for member in members:
            member.fail(error)
