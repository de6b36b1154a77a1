"""A thread that reads the carried log and applies it to this host's folder."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from ...errors import NotLeader, OutcomeUnknown, RecordRefused, SessauthError, StateError
from ...model.group_record import CarriedPosition
from ..writer.group import Group
from ..writer.state_writer import StateWriter
from .alarm import StoredAlarm
from .carrier import Barrier, CarrierError, CompactedRecords, LogSource
from .following import apply_records, decode_record
from .position import read_position

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


class Follower:
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
                # In an alarm it is no news.
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
