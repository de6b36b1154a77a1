"""JSON lines on stderr through the standard ``logging``.

A record carries an event and plain fields. Nothing here is ever given a token, a key or a
credential; as a second fence a text that looks like one is replaced before it is written.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

from ..._fast.base.token_mask import masked
from .handler import LogLines

LOGGER: Final = logging.getLogger("sessauth.server")
STDERR: Final = 2


# Returns the trace that this thread works for, where there is tracing.
_trace_id: Callable[[], str] | None = None


class JsonFormatter(logging.Formatter):
    """One JSON object per record: ``at`` (RFC 3339), ``level``, ``event`` and the record's fields.

    The event is a word. What others log, in sentences, has ``logger`` and ``message``; its event is the one
    that the record names, else ``log``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            **_what(record),
            **getattr(record, "fields", {}),
        }
        trace_id = _trace_id() if _trace_id is not None else ""
        if trace_id:
            line["trace_id"] = trace_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return masked(json.dumps(line, ensure_ascii=False, default=str))


def _what(record: logging.LogRecord) -> dict[str, str]:
    if record.name == LOGGER.name:
        return {"event": record.getMessage()}
    return {"event": getattr(record, "event", "log"), "logger": record.name, "message": record.getMessage()}


def add_trace_ids(trace_id: Callable[[], str] | None) -> None:
    """Have each line name the trace that ``trace_id`` gives, empty for none; None: no line does."""
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


def proofs_unavailable(problem: str) -> None:
    """Say why this process denies bound tokens."""
    event(logging.WARNING, "proofs_unavailable", error=problem)


def fault(where: str, error: BaseException) -> None:
    """Write an error that is this server's own, with its traceback and the place that met it."""
    LOGGER.error("fault", exc_info=error, extra={"fields": {"in": where}})


def event(level: int, name: str, /, **fields: object) -> None:
    """Write one event with its fields, if the level is on."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, name, extra={"fields": fields})
