"""Ctrl-C, SIGTERM and a closed terminal, as one exception that is raised until the block ends by it."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """A block that these signals end with KeyboardInterrupt; use it in the main thread.

    Python drops an exception that a signal raises within a destructor, and gRPC has some that wait. So each
    :meth:`check` behind the signal raises it again. A signal that the process ignores stays ignored.
    """

    def __init__(self) -> None:
        """Nothing is installed before the block."""
        self._requested = False
        self._before: dict[int, object] = {}

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came."""
        if self._requested:
            raise KeyboardInterrupt

    def ignore(self) -> None:
        """Ignore further signals, for work that must not be left half done."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def __enter__(self) -> Interruption:
        """Install the handlers."""
        for number in NUMBERS:
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN:
                self._before[number] = handler
                signal.signal(number, self._interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        """Restore the handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        raise KeyboardInterrupt
