"""The audit sink: writes decisions to an audit stream, and counts lost ones in it."""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ..._fast._check import DecisionQueue, DecisionRecord
from ..._fast._codec import DecisionText
from ...clock import Clock, SystemClock
from ...reasons import Reason, Stage
from .. import layout
from ..write.retention import AuditRetention
from ..write.stream import DENY, AuditOptions, AuditStream
from ..write.stream_register import RegisterWriter
from .change_follower import ChangeFollower

# Decisions are encoded and written in steps of this size. A larger step's memory goes back to the system
# each time, which costs more than the writes that it saves.
STEP_RECORDS: Final = 512
# The stream counts as sick for this long after a loss; a disk that failed is tried again this often.
SICK_MS: Final = 1_000
RETRY_MS: Final = 200
# Disk errors that may pass; all others at a start are wrong settings, and are raised at once.
PASSING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_REASONS: Final = {int(reason): reason.name for reason in Reason}
_STAGES: Final = {int(stage): stage.name for stage in Stage}
_log = logging.getLogger(__name__)


class LocalSource(Protocol):
    """A source of records for changes of the machine beside the log."""

    def bodies(self) -> bytes:
        """Return the bodies of records that are not in the stream yet."""

    def recorded(self, bodies: bytes) -> None:
        """Acknowledge that the stream has these."""


class AuditSink:
    """A ``Sink`` that writes an audit stream. Any thread may read its properties.

    While the disk fails, records wait, at most ``queue_bytes`` of them; further decisions are lost and
    counted. When the disk works again, the waiting records are written, then the number of the lost.
    """

    def __init__(
        self,
        open_stream: Callable[[], AuditStream],
        options: AuditOptions,
        queue: DecisionQueue,
        *,
        clock: Clock | None = None,
        changes: ChangeFollower | None = None,
        local: LocalSource | None = None,
        register: RegisterWriter | None = None,
        retention: AuditRetention | None = None,
    ) -> None:
        """Open the stream, or if the disk is full begin without one.

        With ``changes`` the log's changes are recorded too, with ``local`` changes beside the log. With
        ``register`` the state folder stores how far the stream is on the disk. ``retention`` removes files.
        Raises OSError if it can't be opened for another cause, KeyFolderError if a key of the folder can't be
        read or made.
        """
        self._open_stream = open_stream
        self._options = options
        self._queue = queue
        self._clock = clock or SystemClock()
        self._changes = changes
        self._local = local
        self._register = register
        self._retention = retention
        self._stream: AuditStream | None = None
        self._text: DecisionText | None = None
        self._waiting: deque[tuple[bytes, int]] = deque()
        self.waiting_bytes = 0
        """Bytes of records that wait for the disk."""
        # Lost, and not recorded in the stream yet.
        self._missing = 0
        self._missing_since_ms = 0
        self._why = ""
        self._retry_at = 0
        self._sick_until = 0
        self._stored_seq = -1
        self._settling: tuple[int, int] | None = None
        # How many of the queue's lost decisions are counted here.
        self._counted_lost = 0
        self._well = True
        self.recorded = 0
        """Decisions that were written."""
        self.lost = 0
        """Decisions that will never be written."""
        self.fault = ""
        """The error of the disk; empty if there is none."""
        queue.refuse_when_lost = options.when_full == DENY
        try:
            self._open()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            self._note_write_error(error)
        self._check_health()

    @property
    def healthy(self) -> bool:
        """True if decisions are recorded: the disk works, and for a second nothing was lost.

        A loss in the queue counts at once: while a disk hangs, the recorder's thread can't report it.
        """
        return self._well and self._queue.lost == self._counted_lost

    def consume(self, records: Sequence[DecisionRecord], lost: int) -> None:
        """Encode and write a batch."""
        self._counted_lost += lost
        for first in range(0, len(records), STEP_RECORDS):
            step = records[first : first + STEP_RECORDS]
            if self._text is None or self.waiting_bytes >= self._options.queue_bytes:
                self._lose(len(step), "the disk took no records, and no more could wait")
                continue
            try:
                bodies, count = self._text.write(step)
            except Exception as error:  # noqa: BLE001 - after any error these decisions are lost
                self._lose(len(step), f"no records could be made of them: {_error_text(error)}")
                continue
            if count:
                self._waiting.append((bodies, count))
                self.waiting_bytes += len(bodies)
            if not self.fault:
                try:
                    self._write_waiting()
                except Exception as error:  # noqa: BLE001 - waiting records stay, and the rest of the batch too
                    self._note_write_error(error)
        if lost:
            self._lose(lost, "more was decided at once than could wait")
        self._check_health()

    def tick(self, now_ms: int) -> None:
        """Write waiting records and the changes of the log, and do the stream's due work."""
        steady_ms = self._clock.steady_ms()
        if not self.fault or steady_ms >= self._retry_at:
            try:
                stream = self._stream or self._open()
                self._write_waiting()
                self._write_gap_record(stream, now_ms)
                self._write_changes(stream, now_ms)
                self._write_local(stream)
                stream.tick(now_ms)
                self._store_position(steady_ms)
                if self._retention is not None:
                    self._retention.apply(stream, now_ms, steady_ms)
                if self._register is not None:
                    self._register.update(stream)
            except Exception as error:  # noqa: BLE001 - a log that can't be read is as bad as a full disk
                self._note_write_error(error)
            else:
                self.fault = ""
        self._check_health()

    def close(self) -> None:
        """Write waiting records, sign the end and close the stream; the rest is logged as lost."""
        self._retry_at = 0
        self.tick(self._clock.now_ms())
        left = sum(count for _, count in self._waiting)
        self.lost += left
        if left or self._missing:
            count, why = left + self._missing, self.fault or self._why
            _log.error("audit: %s decisions were not recorded: %s", count, why)
        if self._stream is not None:
            try:
                self._stream.close()
            except OSError as error:
                _log.error("audit: the stream could not be closed: %s", error)
            else:
                if self._changes is not None:
                    self._changes.store_position(self._changes.seq)
                if self._register is not None:
                    self._register.update(self._stream, now=True)
        self._queue.refuse_when_lost = False
        self._queue.refusing = False

    def _open(self) -> AuditStream:
        stream = self._open_stream()
        self._text = DecisionText(
            stream.arguments_key.secret, _REASONS, _STAGES, sample_allows=self._options.sample_allows
        )
        self._stream = stream
        if self._changes is not None:
            # Stored at once: the next process goes on here even if this one records nothing.
            self._stored_seq = self._changes.seq
            self._changes.store_position(self._stored_seq)
        if self._register is not None:
            self._register.update(stream, now=True)
        return stream

    def _write_waiting(self) -> None:
        """Write waiting records, the oldest first. Raises OSError if the disk fails."""
        while self._waiting and self._stream is not None:
            bodies, count = self._waiting[0]
            self._stream.append(bodies)
            self._waiting.popleft()
            self.waiting_bytes -= len(bodies)
            self.recorded += count

    def _write_gap_record(self, stream: AuditStream, now_ms: int) -> None:
        if not self._missing:
            return
        record = {
            "at_ms": now_ms,
            "count": self._missing,
            "since_ms": self._missing_since_ms,
            "why": self._why,
        }
        stream.append(layout.body("lost", record))
        _log.warning("audit: %s decisions were not recorded: %s", self._missing, self._why)
        self._missing = 0

    def _write_changes(self, stream: AuditStream, now_ms: int) -> None:
        if self._changes is not None:
            for bodies in self._changes.bodies(now_ms):
                stream.append(bodies)

    def _write_local(self, stream: AuditStream) -> None:
        if self._local is not None:
            bodies = self._local.bodies()
            if bodies:
                stream.append(bodies)
                self._local.recorded(bodies)

    def _store_position(self, steady_ms: int) -> None:
        """Store how far the changes are recorded, once that has been on the disk for a while."""
        if self._changes is None or self._changes.seq == self._stored_seq:
            return
        if self._settling is None:
            self._settling = self._changes.seq, steady_ms
        elif steady_ms - self._settling[1] > 2 * self._options.fsync_ms:
            self._stored_seq, self._settling = self._settling[0], None
            self._changes.store_position(self._stored_seq)

    def _lose(self, count: int, why: str) -> None:
        if not self._missing:
            self._missing_since_ms = self._clock.now_ms()
        self._missing += count
        self.lost += count
        self._why = why
        self._sick_until = self._clock.steady_ms() + SICK_MS
        if self._text is not None:
            # The blocks of a chain may have been lost with its first decision.
            self._text.forget_chains()

    def _note_write_error(self, error: Exception) -> None:
        if not self.fault:
            trace = None if isinstance(error, OSError) else error
            _log.error("audit: the stream can't be written: %s", error, exc_info=trace)
        self.fault = _error_text(error)
        self._retry_at = self._clock.steady_ms() + RETRY_MS

    def _check_health(self) -> None:
        recovering = self._clock.steady_ms() < self._sick_until
        self._well = not (self.fault or self._missing or recovering)
        self._queue.refusing = self._options.when_full == DENY and not self.healthy


def _error_text(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else ""
    return strerror or str(error) or type(error).__name__
