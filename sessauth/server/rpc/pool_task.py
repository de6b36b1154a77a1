"""A call submitted to a pool."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from ..log import fault


class PoolTask:
    """A function call that waits, runs or has ended: a future without a condition for every call.

    Only a caller that waits for the result pays for waiting. Work and callbacks that two threads may reach
    for are popped from a list, which one of them does first, so no lock is taken.
    """

    __slots__ = ("_callbacks", "_ended", "_error", "_release", "_value", "_work")

    def __init__(
        self, release: Callable[[], None], function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        """Hold a call of ``function``; ``release`` is called when it has ended, however it ends."""
        self._work = [(function, args)]
        self._release = release
        self._callbacks: list[Callable[[PoolTask], object]] = []
        self._ended = False
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make the call, unless it was cancelled."""
        try:
            function, args = self._work.pop()
        except IndexError:
            return
        try:
            self._value = function(*args)
        except BaseException as error:  # noqa: BLE001 - it is raised by result()
            self._error = error
        self._release()
        self._ended = True
        if self._callbacks:
            self._run_callbacks()

    def cancel(self) -> bool:
        """Drop the call; False if it has begun."""
        try:
            self._work.pop()
        except IndexError:
            return False
        self._error = CancelledError()
        self._release()
        self._ended = True
        self._run_callbacks()
        return True

    def add_done_callback(self, callback: Callable[[PoolTask], object]) -> None:
        """Call ``callback`` with the task when the call has ended, at once if it has."""
        self._callbacks.append(callback)
        if self._ended:
            self._run_callbacks()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end and return what was raised; TimeoutError after ``timeout`` seconds."""
        ended = threading.Event()
        self.add_done_callback(lambda _: ended.set())
        if not ended.wait(timeout):
            raise concurrent.futures.TimeoutError
        return self._error

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the call's result, or raise what it raised."""
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._value

    def _run_callbacks(self) -> None:
        # A callback appended meanwhile is called here or by the thread that appended it, never by both.
        callbacks = self._callbacks
        while callbacks:
            try:
                callback = callbacks.pop()
            except IndexError:
                return
            try:
                callback(self)
            except Exception as error:  # noqa: BLE001 - the thread goes on to the next call
                fault("callback", error)
