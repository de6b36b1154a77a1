"""The end of a process by a signal: an event that waits may see, set by a thread of its own.

A handler that set it would run on the main thread, in the middle of whatever stands there. There it may meet
the event's lock, held by the wait that it interrupted or by another handler, and wait for ever.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress


def set_on(event: threading.Event, *numbers: int) -> None:
    """Set ``event`` when this process gets one of the signals ``numbers``, however many come at once."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def signalled(*_: object) -> None:
        # Full of signals that nobody has read yet.
        with suppress(BlockingIOError):
            os.write(writer, b"\0")

    def set_event() -> None:
        os.read(reader, 1)
        event.set()

    threading.Thread(target=set_event, name="sessauth-signals", daemon=True).start()
    for number in numbers:
        signal.signal(number, signalled)
