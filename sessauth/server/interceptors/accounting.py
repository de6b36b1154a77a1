"""Counts every call by method and outcome, and logs those worth a line.

Changes are logged at INFO, reads and checks at DEBUG, refusals at INFO but at most 50 a second (the
rest is counted), and our own faults at ERROR with their traceback.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Final

from ..call import Call
from ..log import LOGGER, event
from ..status import word_of

REFUSALS_PER_SECOND: Final = 50
# What the caller isn't told the details of, and the operator must be.
OURS: Final = frozenset({"STATE_UNUSABLE", "STATE_FULL", "KEY_FOLDER"})


class Accounting:
    """Counts and logs calls."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._second = 0
        self._logged = 0
        self._suppressed = 0

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many calls ended how: (method, word) to number; ``OK`` is an answer."""
        with self._lock:
            return dict(self._counts)

    def ended(self, call: Call, error: BaseException | None) -> None:
        """Count the call and log it if it is worth a line."""
        word = "OK" if error is None else word_of(error)
        with self._lock:
            self._counts[call.method, word] += 1
        if word in OURS:
            event(logging.ERROR, "unusable", error=str(error), **self._fields(call, word))
        elif word == "INTERNAL":
            logging.getLogger("sessauth.server").error(
                "fault", exc_info=error, extra={"fields": self._fields(call, word)}
            )
        elif error is not None:
            if self._may_log():
                event(logging.INFO, "refused", **self._fields(call, word))
        else:
            level = logging.INFO if call.rule.changes else logging.DEBUG
            # Asked before the fields are made: a check is answered thousands of times a second.
            if LOGGER.isEnabledFor(level):
                event(level, "call", **self._fields(call, word))

    @staticmethod
    def _fields(call: Call, word: str) -> dict[str, object]:
        ms = round(1000 * (time.monotonic() - call.started), 3)
        return {"method": call.method, "principal": call.principal.name, "outcome": word, "ms": ms}

    def _may_log(self) -> bool:
        second = int(time.monotonic())
        with self._lock:
            suppressed = 0
            if second != self._second:
                suppressed, self._suppressed = self._suppressed, 0
                self._second, self._logged = second, 0
            self._logged += 1
            allowed = self._logged <= REFUSALS_PER_SECOND
            self._suppressed += not allowed
        if suppressed:
            event(logging.INFO, "refusals_not_logged", number=suppressed)
        return allowed
