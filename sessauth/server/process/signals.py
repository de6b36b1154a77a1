"""Signals of a process: each is handled by a thread of its own, which the handler wakes.

A handler runs on the main thread, in the middle of whatever stands there. There it may meet a lock that is
held by the code that it interrupted, or by another handler, and wait for ever.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

# By default they end a process without a drain.
HARMLESS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def set_on(event: threading.Event, *numbers: int) -> None:
    """Set ``event`` when this process gets one of the signals ``numbers``, however many come at once."""
    call_on(event.set, *numbers)


def call_on(action: Callable[[], object], *numbers: int) -> None:
    """Call ``action`` in a thread when this process gets one of the signals ``numbers``.

    Signals that come while it runs cause one more call together.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def signalled(*_: object) -> None:
        # Full of signals that nobody has read yet.
        with suppress(BlockingIOError):
            os.write(writer, b"\0")

    def call() -> None:
        while os.read(reader, 1 << 16):
            action()

    threading.Thread(target=call, name="sessauth-signals", daemon=True).start()
    for number in numbers:
        signal.signal(number, signalled)


def ignore_harmless() -> None:
    """Ignore the signals that have no meaning for a process, in place of its end."""
    for number in HARMLESS:
        signal.signal(number, signal.SIG_IGN)


def take_stop_signals(stopping: threading.Event) -> None:
    """Set ``stopping`` when this process is to end; ignore SIGHUP and the signals of users otherwise."""
    ignore_harmless()
    # A terminal that is closed sends SIGHUP: its server ends too.
    hangup = [signal.SIGHUP] if sys.stderr.isatty() else []
    set_on(stopping, signal.SIGTERM, signal.SIGINT, *hangup)


def reload_on_hangup(reload: Callable[[], object]) -> None:
    """Call ``reload`` for each SIGHUP, unless stderr is a terminal, whose end is the process's."""
    if not sys.stderr.isatty():
        call_on(reload, signal.SIGHUP)
