"""Following: a thread that reads the carried log and applies it to this host's folder."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from ...errors import NotLeader, OutcomeUnknown, RecordRefused, SessauthError, StateError
from ...model.group_record import CarriedPosition
from ..writer.group import Group
from ..writer.state_writer import StateWriter
from .carrier import Barrier, CarrierError, CompactedRecords, LogSource
from .following import apply_records
from .position import read_position

_log = logging.getLogger(__name__)
# Records that are read, and committed, together.
PAGE_RECORDS: Final = 64
WAIT_MS: Final = 500
# The fault of a snapshot from a server that has yet to apply what this host holds.
_BEHIND: Final = "OLD"
# Between attempts while the source does not answer.
PAUSE_SECONDS: Final = 0.1


class Follower:
    """Applies the records of a source to a writer's folder, until :meth:`close`.

    ``idle()`` is True while this server leads, and so wrote the last record itself. ``on_compacted()``
    fetches a snapshot if the records behind this host's are gone. A record or a snapshot that is refused
    raises the alarm: nothing is applied any more, and ``alarm`` says why.
    """

    def __init__(
        self,
        source: LogSource,
        writer: StateWriter,
        *,
        idle: Callable[[], bool] = lambda: False,
        on_compacted: Callable[[], None] | None = None,
    ) -> None:
        """Start nothing yet. Raises StateUnusable if the folder can't be read."""
        self._source = source
        self._writer = writer
        self._idle = idle
        self._on_compacted = on_compacted
        self._moved = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sessauth-follower", daemon=True)
        self.alarm: RecordRefused | None = None
        # Called once, on the thread that raised it.
        self.on_alarm: Callable[[RecordRefused], None] = lambda alarm: None
        # Called when the folder holds the end of a session, and the source knows that it does.
        self.on_end: Callable[[], None] = lambda: None
        self._has_end = False

    def start(self) -> None:
        """Start the thread."""
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

    def raise_alarm(self, alarm: RecordRefused) -> None:
        """Follow nothing any more: an operator has to decide."""
        with self._moved:
            if self.alarm is not None:
                return
            self.alarm = alarm
            self._moved.notify_all()
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
        while not self._closing.is_set() and self.alarm is None:
            try:
                if self._idle() or not self._step():
                    self._source.wait(self.position.number, WAIT_MS)
            except CompactedRecords as compacted:
                self._catch_up(compacted)
            except RecordRefused as alarm:
                self.raise_alarm(alarm)
            except CarrierError as error:
                _log.warning("the carried log can't be read: %s", error)
                self._closing.wait(PAUSE_SECONDS)
            except (StateError, NotLeader, OutcomeUnknown) as error:
                # The folder's own trouble: its brake says so, and a later attempt may succeed.
                _log.error("records could not be applied: %s", error)
                self._closing.wait(PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - the thread must go on
                _log.exception("following failed")
                self._closing.wait(1.0)

    def _step(self) -> bool:
        """Apply what is there; return False if nothing is."""
        before = self.position.number
        records = self._source.read(before, PAGE_RECORDS)
        if self._has_end:
            # Behind the read: a server's feed learns by it how far this host is.
            self._has_end = False
            self.on_end()
        if not records or self._idle():
            return False
        encoded = [record for _, record in records]

        def work(group: Group) -> tuple[int, bool]:
            return apply_records(group, encoded), group.has_end

        reached, self._has_end = self._writer.run(work)
        with self._moved:
            self._moved.notify_all()
        if reached <= before:
            # A source that repeats old records must not keep two threads busy.
            self._closing.wait(PAUSE_SECONDS)
        return True

    def _catch_up(self, compacted: CompactedRecords) -> None:
        if self._on_compacted is None:
            self.raise_alarm(RecordRefused(f"{compacted}, and this host is behind them", "COMPACTED"))
            return
        try:
            self._on_compacted()
        except RecordRefused as refused:
            if refused.fault != _BEHIND:
                # Another attempt would fetch as much again, for the same end.
                self.raise_alarm(refused)
                return
            _log.warning("no snapshot yet: %s", refused)
            self._closing.wait(1.0)
        except (CarrierError, SessauthError) as error:
            _log.warning("no snapshot yet: %s", error)
            self._closing.wait(1.0)
        except Exception:  # noqa: BLE001 - the thread must go on
            _log.exception("a snapshot failed")
            self._closing.wait(1.0)
        with self._moved:
            self._moved.notify_all()
