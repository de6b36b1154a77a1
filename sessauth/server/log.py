"""The server's log: JSON lines on stderr through the standard ``logging``.

A record carries an event and plain fields. Callers pass no token, key or credential. As a second fence a text
that looks like one is masked before it is written.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TextIO

from .._fast._check import masked

LOGGER: Final = logging.getLogger("sessauth.server")
STDERR: Final = 2
# Lines that may wait while stderr is not read; later ones are dropped.
MAX_LINES: Final = 2_048
# How long the end of the process waits for lines to be written.
FLUSH_SECONDS: Final = 1.0
# The pause before a non-blocking descriptor that is full is tried again.
RETRY_SECONDS: Final = 0.05

# Returns the trace id of this thread, if the process makes spans.
_trace_id: Callable[[], str] | None = None


def event(level: int, name: str, /, **fields: object) -> None:
    """Write one event with its fields, if the level is on."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, name, extra={"fields": fields})


def fault(where: str, error: BaseException) -> None:
    """Write an error of this server's own, with its traceback and the place that met it."""
    LOGGER.error("fault", exc_info=error, extra={"fields": {"in": where}})


def proofs_unavailable(problem: str) -> None:
    """Log why this process denies bound tokens."""
    event(logging.WARNING, "proofs_unavailable", error=problem)


def alarm_over(number: int) -> None:
    """Log that an operator's decision, a record with this number, ended the alarm of a cluster's host."""
    event(logging.WARNING, "cluster_alarm_over", number=number)


def add_trace_ids(trace_id: Callable[[], str] | None) -> None:
    """Add to each line the trace id that ``trace_id`` returns, empty for none; None: to no line."""
    global _trace_id
    _trace_id = trace_id


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send all records as JSON lines to ``stream``; None: to stderr, in a thread of its own."""
    handler = logging.StreamHandler(stream) if stream is not None else LogLines(STDERR)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        if isinstance(old, LogLines):
            old.close()
    root.addHandler(handler)
    root.setLevel(level)


def set_level(level: str) -> None:
    """Write records of ``level`` and above from now on."""
    logging.getLogger().setLevel(level)


class JsonFormatter(logging.Formatter):
    """One JSON object per record: ``at`` (RFC 3339), ``level``, ``event`` and the record's fields.

    The event is a word. Records of other libraries are sentences: they have ``logger`` and ``message``, and
    their event is the one that the record names, else ``log``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"at": f"{seconds}.{int(record.msecs):03d}Z", "level": record.levelname}
        if record.name == LOGGER.name:
            line["event"] = record.getMessage()
        else:
            line["event"] = getattr(record, "event", "log")
            line |= {"logger": record.name, "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        trace_id = _trace_id() if _trace_id is not None else ""
        if trace_id:
            line["trace_id"] = trace_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return masked(json.dumps(line, ensure_ascii=False, default=str))


class LogLines(logging.Handler):
    """Writes records to a descriptor in order, in a thread of its own: logging never waits for the reader.

    While :data:`MAX_LINES` wait, further ones are dropped. The next line that is written is preceded by the
    event ``log_lines_dropped`` with their ``number``.
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
        """Queue a record. ``logging`` calls it in one thread at a time."""
        if self._waiting.qsize() >= MAX_LINES:
            self._dropped += 1
            return
        self._report_dropped()
        try:
            # Formatted here: the line names the trace of this thread.
            self._waiting.put(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - a record that can't be formatted must not end its caller
            self._dropped += 1

    def flush(self) -> None:
        """Wait until the lines are written, :data:`FLUSH_SECONDS` at most."""
        written = threading.Event()
        self._report_dropped()
        self._waiting.put(written)
        written.wait(FLUSH_SECONDS)

    def close(self) -> None:
        """End the thread when the lines are written; waits for nothing."""
        self._waiting.put(None)
        super().close()

    def _report_dropped(self) -> None:
        number, self._dropped = self._dropped, 0
        if number:
            record = logging.LogRecord(LOGGER.name, logging.WARNING, "", 0, "log_lines_dropped", None, None)
            record.fields = {"number": number}
            self._waiting.put(self.format(record) + "\n")

    def _write(self) -> None:
        while (line := self._waiting.get()) is not None:
            if isinstance(line, str):
                self._write_line(line.encode("utf-8", "backslashreplace"))
            else:
                line.set()

    def _write_line(self, data: bytes) -> None:
        # Not by sys.stderr: a thread that waits in there keeps the interpreter from ending.
        while data:
            try:
                data = data[os.write(self._handle, data) :]
            except BlockingIOError:
                time.sleep(RETRY_SECONDS)
            except OSError:
                return
