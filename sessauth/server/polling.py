"""A thread that polls on behalf of its members, while it has any."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

from .status import refused


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
