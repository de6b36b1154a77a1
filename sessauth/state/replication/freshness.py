"""Freshness: proofs that this host holds every record that any server acknowledged a moment ago.

A proof begins before its question: at t0 the host asks for a barrier, which names the head of the log at some
later time. Once the host holds that record, every change acknowledged before t0 is in its folder, so its
checks may allow until t0 + bound. No wall clock and no heartbeat counts. A host whose follower was killed,
was stopped or lost the engine runs out of proofs by itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from ...clock import Clock
from ...errors import RecordRefused
from ...model.group_record import CarriedPosition
from .carrier import Barrier, CarrierError, LogSource
from .follower import Follower

_log = logging.getLogger(__name__)
BOUND_MS: Final = 3_000
PERIOD_MS: Final = 500
# A follower that does not hold the head by then reads a dead stream, even if the stream looks alive.
APPLY_MS: Final = 700
# Between lines of the log about proofs that are missing.
LOG_MS: Final = 60_000


class Freshness:
    """Proves every 500 ms that a folder is fresh, and writes until when into its brake page.

    ``extend(steady_ms)`` writes the time, ``deny()`` ends all proofs.
    """

    def __init__(
        self,
        source: LogSource,
        follower: Follower,
        clock: Clock,
        extend: Callable[[int], None],
        deny: Callable[[], None],
        *,
        bound_ms: int = BOUND_MS,
        registered_ms: Callable[[], int] | None = None,
        report: Callable[[int, str], None] | None = None,
    ) -> None:
        """Start nothing yet; until the first proof every call is denied.

        ``registered_ms()`` returns the longest bound that this host is registered for by its folder, 0
        without a row; None: the source requires registration. In an alarm ``report(number, fault)`` says how
        far the folder is.
        """
        self._source = source
        self._follower = follower
        self._clock = clock
        self._extend = extend
        self._deny = deny
        self._bound_ms = bound_ms
        self._registered_ms = registered_ms or (lambda: bound_ms)
        follower.on_end = self.prove_soon
        self._due = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sessauth-freshness", daemon=True)
        self._report = report
        self._last: Barrier | None = None
        # Time of the last line about a missing proof; None: there was a proof since.
        self._logged_ms: int | None = None
        self._decisions = follower.decisions
        # The number that was proven last, for acknowledgements.
        self.proven = 0

    def start(self) -> None:
        """Deny until the first proof, and start the thread."""
        self._deny()
        self._thread.start()

    def prove_soon(self) -> None:
        """Prove now, not at the next half second: a session ended."""
        self._due.set()

    def close(self) -> None:
        """End the thread. The last proof stays valid until its time."""
        self._closing = True
        self._due.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            try:
                self._prove()
            except CarrierError as error:
                self._missed(f"no proof of freshness: {error}")
            except Exception:  # noqa: BLE001 - the thread must go on
                _log.exception("proving freshness failed")
            self._due.wait(PERIOD_MS / 1000)
            self._due.clear()

    def _prove(self) -> None:
        """Make one proof. Raises CarrierError if the source does not answer."""
        alarm = self._follower.alarm
        if alarm is not None:
            self._deny()
            if self._report is not None:
                self._report(self._follower.position.number, alarm.fault)
            return
        if self._decisions != self._follower.decisions:
            # The engine that an operator decided for has another past than the one that answered before.
            self._decisions, self._last = self._follower.decisions, None
        before = self._follower.position
        began_ms = self._clock.steady_ms()
        barrier = self._source.barrier()
        alarm = contradiction(before, barrier) or _regression(self._last, barrier)
        if alarm is None:
            self._last = barrier
            if not self._follower.wait_for(barrier.head.number, APPLY_MS):
                self._missed(f"record {barrier.head.number} is not here after {APPLY_MS} ms")
                return
            # The rows read may be of another log than the barrier.
            position = self._follower.position
            alarm = _fork(position, barrier) or other_engine(position, barrier)
        if alarm is not None:
            self._follower.raise_alarm(alarm, barrier.head.number)
            self._deny()
            return
        # By rows at or after the barrier: a host that they don't name may be in no receipt.
        bound_ms = min(self._bound_ms, self._registered_ms())
        if not bound_ms:
            self._missed("no proof of freshness: this host is not registered in the cluster yet")
            return
        self._follower.unless_alarmed(lambda: self._grant(barrier, began_ms + bound_ms))

    def _missed(self, problem: str) -> None:
        """Log a missing proof once, and each minute while there is none: it is tried twice a second."""
        now_ms = self._clock.steady_ms()
        if self._logged_ms is None or now_ms - self._logged_ms >= LOG_MS:
            self._logged_ms = now_ms
            _log.warning("%s", problem)

    def _grant(self, barrier: Barrier, until_ms: int) -> None:
        self._logged_ms = None
        self.proven = barrier.head.number
        self._extend(until_ms)


def contradiction(before: CarriedPosition, barrier: Barrier) -> RecordRefused | None:
    """Return an alarm if the engine lost records that this host had before the barrier: wiped or restored."""
    head = barrier.head
    if head.number < before.number:
        return RecordRefused(
            f"the engine's log ends at record {head.number}, this host holds {before.number}: it was wiped "
            "or restored",
            "ENGINE_WENT_BACK",
        )
    return _fork(before, barrier)


def _fork(position: CarriedPosition, barrier: Barrier) -> RecordRefused | None:
    """Return an alarm if the host's last record is the engine's by number, and not by digest."""
    head = barrier.head
    if head.number == position.number and head.digest != position.digest:
        return RecordRefused(
            f"record {head.number} of the engine is another one than this host applied", "OTHER_PAST"
        )
    return None


def other_engine(position: CarriedPosition, barrier: Barrier) -> RecordRefused | None:
    """Return an alarm if another engine answers than the one that carried the host's last record.

    A host that was behind a restored engine would not notice by its own records.
    """
    if position.engine_id in ("", barrier.engine_id):
        return None
    return RecordRefused(
        f"the engine is {barrier.engine_id!r}, and {position.engine_id!r} carried record {position.number} "
        "of this host",
        "OTHER_PAST",
    )


def _regression(last: Barrier | None, barrier: Barrier) -> RecordRefused | None:
    """Return an alarm if the engine is behind its earlier answer, or another one.

    A host that is behind would not notice by its own records.
    """
    if last is None:
        return None
    if barrier.engine_id != last.engine_id:
        # Another engine may have adopted the log: then a record says so.
        return None
    number, revision = last.head.number, last.engine_revision
    if barrier.head.number < number or barrier.engine_revision < revision:
        return RecordRefused(
            f"the engine is at record {barrier.head.number}, revision {barrier.engine_revision}; it was at "
            f"{number}, {revision} before: it was wiped or restored",
            "ENGINE_WENT_BACK",
        )
    if barrier.head.number == number and barrier.head.digest != last.head.digest:
        return RecordRefused(f"record {number} of the engine is another one than before", "OTHER_PAST")
    return None
