"""A thread that reads the carried log and applies it to this host's folder, and proofs that it is fresh.

A proof states that this host holds every record that any server acknowledged a moment ago. It begins before
its question: at t0 the host asks for a barrier, which names the head of the log at some later time. Once the
host holds that record, every change acknowledged before t0 is in its folder, so its checks may allow until
t0 + bound. No wall clock and no heartbeat counts. A host whose follower was killed, was stopped or lost the
engine runs out of proofs by itself.

A host that refused its cluster's log has an alarm, which its folder stores. It survives restarts: a log that
was restored and then grew again could look right to a restarted process. An operator ends it, by a command on
this host, or by having the log go on elsewhere (``adopt``): a signed record that follows this host's
position, and comes after everything that raised its alarm.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from ...clock import Clock
from ...errors import NotLeader, OutcomeUnknown, RecordRefused, SessauthError, StateError
from ...model.host import CarriedPosition
from ..lmdb.cluster_rows import read_position
from ..writer.group import Group
from ..writer.state_writer import StateWriter
from .carried_log import apply_records, decode_record
from .carrier import Barrier, CarrierError, CompactedRecords, LogSource

_log = logging.getLogger(__name__)
# Records that are read, and committed, together.
PAGE_RECORDS: Final = 64
WAIT_MS: Final = 500
# The fault of a snapshot from a server that has yet to apply some record that this host has.
_BEHIND: Final = "OLD"
# Between attempts while the source does not answer.
PAUSE_SECONDS: Final = 0.1
# Between lines of the log about failures of one kind.
LOG_SECONDS: Final = 60.0
# In an alarm, between looks for an operator's decision, and how far one look goes.
DECISION_SECONDS: Final = 1.0
DECISION_PAGES: Final = 16
# Before another snapshot is fetched for one: many hosts may wait together.
SNAPSHOT_SECONDS: Final = (5.0, 15.0)
# After a snapshot that could not be installed: each attempt may carry the whole state.
RETRY_SECONDS: Final = 1.0


class ReplicationThread:
    """Applies the records of a source to a writer's folder, until :meth:`close`.

    ``idle()`` is True while this server leads, and so wrote the last record itself. ``on_compacted(number)``
    fetches a snapshot if the records after this host's are gone; unless its argument is None, only one in
    which an operator had the log go on after that record. A record or a snapshot that is refused raises the
    alarm, which the folder stores: nothing more is applied, ``alarm`` says why, and only an operator's
    decision ends it.
    """

    def __init__(
        self,
        source: LogSource,
        writer: StateWriter,
        *,
        idle: Callable[[], bool] = lambda: False,
        on_compacted: Callable[[int | None], None] | None = None,
    ) -> None:
        """Start nothing yet. Raises StateUnusable if the folder can't be read."""
        self._source = source
        self._writer = writer
        self._idle = idle
        self._on_compacted = on_compacted
        self._moved = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sessauth-follower", daemon=True)
        self._stored = StoredAlarm.decode(writer.alarm)
        self.alarm: RecordRefused | None = self._stored.refused() if self._stored is not None else None
        # Called once, on the thread that raised it; of an earlier process's by `start`.
        self.on_alarm: Callable[[RecordRefused], None] = lambda alarm: None
        # Called when an operator's decision ended it, with the number of the record.
        self.on_decision: Callable[[int], None] = lambda number: None
        # Number of operator decisions so far. Anything read from the engine before the latest one is stale.
        self.decisions = 0
        # Called when the folder holds the end of a session, and the source knows that it does.
        self.on_end: Callable[[], None] = lambda: None
        self._has_end = False
        # The highest number that was read.
        self._read = 0
        # Until the next snapshot, after one that failed.
        self._retry_seconds = RETRY_SECONDS
        # By message, when the next failure of that kind is logged; none: at once.
        self._log_at: dict[str, float] = {}

    def start(self) -> None:
        """Start the thread."""
        if self.alarm is not None:
            self._report_alarm(self.alarm)
        self._thread.start()

    @property
    def position(self) -> CarriedPosition:
        """The end of the log that the folder holds."""
        with self._writer.source().rows() as rows:
            return read_position(rows) or CarriedPosition()

    def barrier(self) -> Barrier:
        """Return a barrier of the source, which began after this call. Raises CarrierError."""
        return self._source.barrier()

    def wait_for(self, number: int, timeout_ms: int) -> bool:
        """Wait until the folder holds a record; False after the time-out, or once the alarm was raised."""
        deadline = time.monotonic() + timeout_ms / 1000
        with self._moved:
            while self.position.number < number:
                left = deadline - time.monotonic()
                if left <= 0 or self.alarm is not None or self._closing.is_set():
                    return False
                # The leader's own commits wake nobody here.
                self._moved.wait(min(left, 0.02 if self._idle() else left))
        return True

    def unless_alarmed(self, action: Callable[[], None]) -> None:
        """Call ``action`` unless the alarm was raised; none is raised meanwhile."""
        with self._moved:
            if self.alarm is None:
                action()

    def raise_alarm(self, alarm: RecordRefused, beyond: int = 0) -> None:
        """Follow nothing any more: an operator has to decide.

        ``beyond`` is the highest number of a record that was read with it, or that the engine stated.
        """
        with self._moved:
            if self.alarm is not None:
                return
            self._stored = StoredAlarm.of(alarm, max(beyond, self.position.number))
            if self._stored is not None:
                self._writer.raise_alarm(self._stored.encode())
            self.alarm = alarm
            self._moved.notify_all()
        self._report_alarm(alarm)

    def _report_alarm(self, alarm: RecordRefused) -> None:
        _log.critical("%s: %s; every call is denied here until the cause is found", alarm.fault, alarm)
        self.on_alarm(alarm)

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._closing.set()
        with self._moved:
            self._moved.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            if self.alarm is not None and self._stored is None:
                return
            try:
                if self._stored is not None:
                    self._look_for_decision(self._stored)
                elif self._idle() or not self._step():
                    self._source.wait(self.position.number, WAIT_MS)
            except CompactedRecords as compacted:
                self._catch_up(compacted)
            except RecordRefused as alarm:
                # Expected in an alarm.
                self.raise_alarm(alarm, self._read)
                self._closing.wait(DECISION_SECONDS)
            except CarrierError as error:
                self._log_failure(logging.WARNING, "the carried log can't be read: %s", error)
                self._closing.wait(PAUSE_SECONDS)
            except (StateError, NotLeader, OutcomeUnknown) as error:
                # A fault of the folder itself: its brake says so, and a later attempt may succeed.
                self._log_failure(logging.ERROR, "records could not be applied: %s", error)
                self._closing.wait(PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - the thread must go on
                _log.exception("following failed")
                self._closing.wait(1.0)

    def _log_failure(self, level: int, message: str, error: Exception) -> None:
        """Log a failure once, and each minute until records are applied: it is met ten times a second."""
        now = time.monotonic()
        if now >= self._log_at.get(message, now):
            self._log_at[message] = now + LOG_SECONDS
            _log.log(level, message, error)

    def _look_for_decision(self, stored: StoredAlarm) -> None:
        """End the alarm if an operator had the log go on after it, from this host's position."""
        self._end_alarm(stored)
        if self._stored is None:
            return
        reached = self.position.number
        for _ in range(DECISION_PAGES):
            records = self._source.read(reached, PAGE_RECORDS)
            for _, encoded in records:
                record = decode_record(encoded)[1]
                if record.begins_engine and record.number > stored.beyond:
                    self._apply_up_to(record.number)
                    self._end_alarm(stored)
                    return
            if not records or records[-1][0] <= reached:
                break
            reached = records[-1][0]
        self._closing.wait(DECISION_SECONDS)

    def _apply_up_to(self, number: int) -> None:
        """Apply records up to one, each by all the rules. Raises RecordRefused."""
        while (before := self.position.number) < number:
            encoded = [record for _, record in self._source.read(before, PAGE_RECORDS)]
            if self._writer.run(partial(apply_records, records=encoded)) <= before:
                return

    def _end_alarm(self, stored: StoredAlarm) -> None:
        """End the alarm if the folder has an operator's decision after it."""
        adopted = self.position.adopted
        if adopted <= stored.beyond:
            return
        with self._moved:
            # Every check denies until the next proof.
            self._writer.clear_alarm()
            self.decisions += 1
            self._stored = self.alarm = None
            self._moved.notify_all()
        _log.warning("the alarm is over: an operator had the log go on with record %d", adopted)
        self.on_decision(adopted)

    def _step(self) -> bool:
        """Apply the next records; return False if there are none."""
        before = self.position.number
        records = self._source.read(before, PAGE_RECORDS)
        if self._has_end:
            # After the read: a server's feed learns from it how far this host is.
            self._has_end = False
            self.on_end()
        if not records or self._idle():
            return False
        encoded = [record for _, record in records]
        self._read = records[-1][0]

        def work(group: Group) -> tuple[int, bool]:
            return apply_records(group, encoded), group.has_end

        reached, self._has_end = self._writer.run(work)
        self._log_at.clear()
        with self._moved:
            self._moved.notify_all()
        if reached <= before:
            # A source that repeats old records must not keep two threads busy.
            self._closing.wait(PAUSE_SECONDS)
        return True

    def _catch_up(self, compacted: CompactedRecords) -> None:
        stored = self._stored
        if self._on_compacted is None:
            self.raise_alarm(RecordRefused(f"{compacted}, and this host is behind them", "COMPACTED"))
            self._closing.wait(DECISION_SECONDS)
            return
        pause = self._retry_seconds if stored is None else random.uniform(*SNAPSHOT_SECONDS)
        self._retry_seconds = min(2 * self._retry_seconds, SNAPSHOT_SECONDS[1])
        try:
            self._on_compacted(None if stored is None else stored.beyond)
            self._retry_seconds = RETRY_SECONDS
            if stored is not None:
                self._end_alarm(stored)
        except RecordRefused as refused:
            if refused.fault != _BEHIND and stored is None:
                # Another attempt would fetch as much again, for the same end.
                self.raise_alarm(refused)
                return
            self._log_failure(logging.WARNING, "no snapshot yet: %s", refused)
            self._closing.wait(pause)
        except (CarrierError, SessauthError) as error:
            self._log_failure(logging.WARNING, "no snapshot yet: %s", error)
            self._closing.wait(pause)
        except Exception:  # noqa: BLE001 - the thread must go on
            _log.exception("a snapshot failed")
            self._closing.wait(pause)
        with self._moved:
            self._moved.notify_all()


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
        follower: ReplicationThread,
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


# A restart meets the same record before it can prove anything; an upgrade or a snapshot is the cure.
_PASSING: Final = frozenset({"NEWER_FORMAT", "COMPACTED", "OLD", "NOT_IN_CLUSTER"})
_NEVER: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class StoredAlarm:
    """A fault and its message. ``beyond`` is the highest record of the log that it was raised by."""

    fault: str
    beyond: int
    message: str

    @classmethod
    def of(cls, refused: RecordRefused, beyond: int) -> StoredAlarm | None:
        """Return the stored text of an alarm; None: a restart ends it."""
        return None if refused.fault in _PASSING else cls(refused.fault, beyond, str(refused))

    @classmethod
    def decode(cls, text: str) -> StoredAlarm | None:
        """Read a text of the brake page; None if it is empty. Only a command ends an unreadable one."""
        if not text:
            return None
        fault, _, rest = text.partition(" ")
        number, _, message = rest.partition(" ")
        if not number.isdecimal():
            return cls("UNREADABLE", _NEVER, "the stored alarm can't be read")
        return cls(fault, int(number), message)

    def encode(self) -> str:
        """Return the text for the brake page."""
        return f"{self.fault} {self.beyond} {self.message}"

    def refused(self) -> RecordRefused:
        """Return the alarm."""
        return RecordRefused(self.message, self.fault)
