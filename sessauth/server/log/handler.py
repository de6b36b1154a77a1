"""A handler of ``logging`` whose lines are written by a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
from queue import SimpleQueue
from typing import Final

# Lines that wait while nobody reads those before them; later ones are dropped.
MOST_LINES: Final = 2_048
# How long the end of the process waits for lines to be written.
FLUSH_SECONDS: Final = 1.0
# Of a descriptor that takes nothing now and does not wait.
AGAIN_SECONDS: Final = 0.05


class LogLines(logging.Handler):
    """Writes records to a descriptor, in order: who logs never waits for who reads.

    While :data:`MOST_LINES` wait, further ones are dropped; the next that is not is preceded by the event
    ``log_lines_dropped`` with their ``number``.
    """

    def __init__(self, handle: int) -> None:
        """Write to ``handle``, which stays the caller's."""
        super().__init__()
        self._handle = handle
        # An event is set when the lines before it are written; None ends the thread.
        self._waiting: SimpleQueue[str | threading.Event | None] = SimpleQueue()
        self._dropped = 0
        threading.Thread(target=self._write, name="sessauth-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written later. ``logging`` calls it in one thread at a time."""
        if self._waiting.qsize() >= MOST_LINES:
            self._dropped += 1
            return
        self._tell_dropped()
        try:
            # Here: the line names the trace of this thread.
            self._waiting.put(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - what can't be written must not end who logs it
            self._dropped += 1

    def flush(self) -> None:
        """Wait until the lines are written, :data:`FLUSH_SECONDS` at most."""
        written = threading.Event()
        self._tell_dropped()
        self._waiting.put(written)
        written.wait(FLUSH_SECONDS)

    def close(self) -> None:
        """End the thread when the lines are written; waits for nothing."""
        self._waiting.put(None)
        super().close()

    def _tell_dropped(self) -> None:
        number, self._dropped = self._dropped, 0
        if number:
            record = logging.LogRecord(
                "sessauth.server", logging.WARNING, "", 0, "log_lines_dropped", None, None
            )
            record.fields = {"number": number}
            self._waiting.put(self.format(record) + "\n")

    def _write(self) -> None:
        while (line := self._waiting.get()) is not None:
            if isinstance(line, str):
                self._write_out(line.encode("utf-8", "backslashreplace"))
            else:
                line.set()

    def _write_out(self, data: bytes) -> None:
        # Not by sys.stderr: a thread that waits in there keeps the interpreter from ending.
        while data:
            try:
                data = data[os.write(self._handle, data) :]
            except BlockingIOError:
                time.sleep(AGAIN_SECONDS)
            except OSError:
                return
