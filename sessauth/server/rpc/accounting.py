"""Counts every call by method and outcome, and logs it.

Changes are logged at INFO, reads and checks at DEBUG. Refusals are logged at INFO, those of strangers, of
missing roles and of full pools at WARNING: at most 50 a second, the rest is counted. The server's own faults
are logged at ERROR with their traceback.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from ..log import LOGGER, event
from ..status import CODES, word_of
from .access import Rule, pool_of
from .call import CallContext

REFUSALS_PER_SECOND: Final = 50
# Faults of the server: their details go to the log, not to the caller.
SERVER_FAULTS: Final = frozenset({"STATE_UNUSABLE", "STATE_FULL", "KEY_FOLDER"})
SESSION_ID_BYTES: Final = 16
STRANGER: Final = "UNAUTHENTICATED"
# Refusals that concern the operator, not only the caller.
OPERATOR_CONCERNS: Final = frozenset(
    {"UNAUTHENTICATED", "PERMISSION_DENIED", "OVERLOADED", "CHECKS_AT_WORKERS"}
)


class CallCounts:
    """A number that threads count up without a lock: one step of a C iterator is one step."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.up: Final = itertools.count().__next__
        self._reads = 0
        self._lock = threading.Lock()

    def read(self) -> int:
        """Return the number."""
        with self._lock:
            # A read counts up too, and is subtracted again.
            counted = self.up() - self._reads
            self._reads += 1
            return counted


class Meter(Protocol):
    """Measures calls."""

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Count a call of ``method`` that ended with a gRPC code after so many seconds."""
        ...


class Accounting:
    """Counts and logs calls. The log level is read once, here: it decides if reads and checks are logged."""

    def __init__(self, meter: Meter | None = None) -> None:
        """Begin at 0; ``meter`` observes how long each call took."""
        self._meter = meter
        # Calls that found their pool full, by pool.
        self.overloaded: Counter[str] = Counter()
        # Returns the calls that the server's loop answered, by method.
        self.direct_counts: Callable[[], Mapping[str, int]] = dict
        self._lock = threading.Lock()
        self._succeeded: dict[str, CallCounts] = {}
        self._failed: Counter[tuple[str, str]] = Counter()
        self._second = 0
        self._logged = 0
        self._suppressed = 0
        # Each call is logged.
        self.verbose = LOGGER.isEnabledFor(logging.DEBUG)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return the number of calls by method and word; the word of a success is ``OK``."""
        succeeded = {(method, "OK"): counts.read() for method, counts in self._succeeded.items()}
        for method, number in self.direct_counts().items():
            succeeded[method, "OK"] = succeeded.get((method, "OK"), 0) + number
        with self._lock:
            return {**{key: number for key, number in succeeded.items() if number}, **self._failed}

    def success_recorder(self, method: str, rule: Rule) -> Callable[[CallContext], object]:
        """Return a function that records a successful call of ``method``."""
        up = self._succeeded.setdefault(method, CallCounts()).up
        level = logging.INFO if rule.changes else logging.DEBUG

        def count(call: CallContext) -> None:
            up()

        def count_and_log(call: CallContext) -> None:
            up()
            event(level, "call", **self._fields(call, "OK"))

        # Checks succeed thousands of times a second: the level is not looked up for each of them.
        record = count_and_log if rule.changes or self.verbose else count
        return record if self._meter is None else self._metered(method, self._meter, record)

    def record_failure(self, call: CallContext, error: BaseException) -> None:
        """Count a call that failed or was refused, and log it."""
        word = word_of(error)
        with self._lock:
            self._failed[call.method, word] += 1
            if word == "OVERLOADED":
                self.overloaded[pool_of(call.rule, call.principal.role)] += 1
        if self._meter is not None:
            self._meter.observe(call.method, CODES[word].name, time.monotonic() - call.started)
        if word in SERVER_FAULTS:
            event(logging.ERROR, "unusable", error=str(error), **self._fields(call, word))
        elif word == "INTERNAL":
            logging.getLogger("sessauth.server").error(
                "fault", exc_info=error, extra={"fields": self._fields(call, word)}
            )
        elif self._may_log():
            # A wrong argument concerns its caller alone.
            level = logging.WARNING if word in OPERATOR_CONCERNS else logging.INFO
            why = {"why": str(error)} if word in OPERATOR_CONCERNS else {}
            event(level, "refused", **self._fields(call, word), **why)

    def counts_stranger(self, method: str) -> bool:
        """Count the refusal of a stranger's call, unless it is to be logged: then return False."""
        with self._lock:
            if self._second != int(time.monotonic()) or self._logged < REFUSALS_PER_SECOND:
                return False
            self._suppressed += 1
            self._failed[method, STRANGER] += 1
        if self._meter is not None:
            self._meter.observe(method, CODES[STRANGER].name, 0.0)
        return True

    @staticmethod
    def _metered(
        method: str, meter: Meter, record: Callable[[CallContext], object]
    ) -> Callable[[CallContext], object]:
        def count_and_measure(call: CallContext) -> None:
            record(call)
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
        # It may have any length until the service has checked it.
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
