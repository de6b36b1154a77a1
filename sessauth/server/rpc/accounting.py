"""Counts every call by method and outcome, and logs those worth a line.

Changes are logged at INFO, reads and checks at DEBUG, refusals at INFO, those of strangers, of missing
roles and of full pools at WARNING, but at most 50 a second (the rest is counted), and our own faults at ERROR
with their traceback.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from ..log import LOGGER, event
from ..status import CODES, word_of
from .access import Rule, pool_of
from .call import CallContext

REFUSALS_PER_SECOND: Final = 50
# What the caller isn't told the details of, and the operator must be.
OURS: Final = frozenset({"STATE_UNUSABLE", "STATE_FULL", "KEY_FOLDER"})
SESSION_ID_BYTES: Final = 16
# What somebody should look at who is not the caller.
NOT_THEIRS: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "OVERLOADED"})


class CallCounts:
    """A number that threads count up without a lock: one step of a C iterator is one step."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.up: Final = itertools.count().__next__
        self._looks = 0
        self._lock = threading.Lock()

    def read(self) -> int:
        """Return how often it was counted up."""
        with self._lock:
            # A look counts too, and is taken off again.
            counted = self.up() - self._looks
            self._looks += 1
            return counted


class Meter(Protocol):
    """Takes the time of calls."""

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Count a call of ``method`` that ended with a gRPC code after so many seconds."""
        ...


class Accounting:
    """Counts and logs calls. Whether reads and checks are logged is judged once, when it is made."""

    def __init__(self, meter: Meter | None = None) -> None:
        """Start with nothing counted; ``meter`` is told how long each call took."""
        self._meter = meter
        # By pool: calls that found it full.
        self.overloaded: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._answered: dict[str, CallCounts] = {}
        self._refused: Counter[tuple[str, str]] = Counter()
        self._second = 0
        self._logged = 0
        self._suppressed = 0
        self._verbose = LOGGER.isEnabledFor(logging.DEBUG)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many calls ended how: (method, word) to number; ``OK`` is an answer."""
        answered = {(method, "OK"): tally.read() for method, tally in self._answered.items()}
        with self._lock:
            return {**{key: number for key, number in answered.items() if number}, **self._refused}

    def answered(self, method: str, rule: Rule) -> Callable[[CallContext], object]:
        """Return what is told of each call of ``method`` that was answered."""
        tally = self._answered.setdefault(method, CallCounts())
        up, level = tally.up, logging.INFO if rule.changes else logging.DEBUG

        def count(call: CallContext) -> None:
            up()

        def count_and_log(call: CallContext) -> None:
            up()
            event(level, "call", **self._fields(call, "OK"))

        # A check is answered thousands of times a second: what is not logged is not asked about either.
        told = count_and_log if rule.changes or self._verbose else count
        return told if self._meter is None else self._metered(method, self._meter, told)

    def refused(self, call: CallContext, error: BaseException) -> None:
        """Count a call that was not answered and log it if it is worth a line."""
        word = word_of(error)
        with self._lock:
            self._refused[call.method, word] += 1
            if word == "OVERLOADED":
                self.overloaded[pool_of(call.rule, call.principal.role)] += 1
        if self._meter is not None:
            self._meter.observe(call.method, CODES[word].name, time.monotonic() - call.started)
        if word in OURS:
            event(logging.ERROR, "unusable", error=str(error), **self._fields(call, word))
        elif word == "INTERNAL":
            logging.getLogger("sessauth.server").error(
                "fault", exc_info=error, extra={"fields": self._fields(call, word)}
            )
        elif self._may_log():
            # Who calls, and what it may not do, is an operator's business; a wrong argument is its caller's.
            level = logging.WARNING if word in NOT_THEIRS else logging.INFO
            why = {"why": str(error)} if word in NOT_THEIRS else {}
            event(level, "refused", **self._fields(call, word), **why)

    @staticmethod
    def _metered(
        method: str, meter: Meter, told: Callable[[CallContext], object]
    ) -> Callable[[CallContext], object]:
        def count_and_measure(call: CallContext) -> None:
            told(call)
            meter.observe(method, "OK", time.monotonic() - call.started)

        return count_and_measure

    @staticmethod
    def _fields(call: CallContext, word: str) -> dict[str, object]:
        ms = round(1000 * (time.monotonic() - call.started), 3)
        fields: dict[str, object] = {
            "method": call.method,
            "principal": call.principal.name,
            "outcome": word,
            "ms": ms,
            "peer": call.context.peer(),
        }
        # Of any length, until the service looked at it.
        if len(call.session_id) == SESSION_ID_BYTES:
            fields["session"] = call.session_id.hex()
        return fields

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
