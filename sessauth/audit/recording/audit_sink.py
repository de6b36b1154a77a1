"""The audit sink: notes become records, records wait for the disk, and what was lost is said."""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ..._fast.record.audit_json import DecisionText
from ..._fast.record.note import DecisionRecord
from ..._fast.record.queue import DecisionQueue
from ...clock import Clock, SystemClock
from ...reasons import Reason, Stage
from .. import layout
from ..write.stream import AuditStream
from .change_follower import ChangeFollower
from .options import DENY, AuditOptions
from .stream_register import StreamRegister

# Records are made and written so many notes at a time.
STEP_NOTES: Final = 2_048
# How long after the last loss the stream counts as sick, and how often a disk that failed is tried again.
SICK_MS: Final = 1_000
RETRY_MS: Final = 200
# What a disk may be at a start and get over; all else is a wrong setting, and told at once.
PASSING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_REASONS: Final = {int(reason): reason.name for reason in Reason}
_STAGES: Final = {int(stage): stage.name for stage in Stage}
_log = logging.getLogger(__name__)


class LocalSource(Protocol):
    """Gives records of what is changed on the machine beside the log."""

    def bodies(self) -> bytes:
        """Return bodies of records that are not in the stream yet."""
        ...

    def recorded(self, bodies: bytes) -> None:
        """Take note that the stream has these."""
        ...


class AuditSink:
    """A ``Sink`` that keeps an audit stream. Its properties may be read by any thread.

    While the disk takes nothing, records wait, at most ``queue_bytes`` of them; then decisions are lost and
    counted. When it takes them again, all that waited is written, and behind it how many are missing.
    """

    def __init__(
        self,
        open_stream: Callable[[], AuditStream],
        options: AuditOptions,
        tap: DecisionQueue,
        *,
        clock: Clock | None = None,
        changes: ChangeFollower | None = None,
        local: LocalSource | None = None,
        kept: StreamRegister | None = None,
    ) -> None:
        """Open the stream, or if the disk is full begin without one.

        With ``changes`` the log's changes are recorded too, with ``local`` what is changed beside the log.
        With ``kept`` the state folder keeps how far the stream came.

        Raises:
            OSError: if it can't be opened for another cause.
            KeyFolderError: if a key of the folder can't be read or made.
        """
        self._open_stream = open_stream
        self._options = options
        self._tap = tap
        self._clock = clock or SystemClock()
        self._changes = changes
        self._local = local
        self._kept = kept
        self._stream: AuditStream | None = None
        self._text: DecisionText | None = None
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._waiting_bytes = 0
        # Not yet said in the stream.
        self._missing = 0
        self._missing_since_ms = 0
        self._why = ""
        self._retry_at = 0
        self._sick_until = 0
        self._kept_seq = -1
        self._settling: tuple[int, int] | None = None
        # Of what the tap had no room for: how much of it we were told of.
        self._heard_lost = 0
        self._well = True
        self.recorded = 0
        """Decisions that were written."""
        self.lost = 0
        """Decisions that never will be."""
        self.fault = ""
        """What is wrong with the disk; empty if nothing is."""
        tap.refuse_when_lost = options.when_full == DENY
        try:
            self._open()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            self._stumble(error)
        self._judge_health()

    @property
    def healthy(self) -> bool:
        """Whether what is decided is recorded: the disk takes it, and for a second nothing was lost.

        A loss counts at once: a disk that hangs holds up the recorder's thread, and then nobody else says it.
        """
        return self._well and self._tap.lost == self._heard_lost

    @property
    def waiting_bytes(self) -> int:
        """Bytes of records that wait for the disk."""
        return self._waiting_bytes

    def take(self, notes: Sequence[DecisionRecord], lost: int) -> None:
        """Make records of a batch."""
        self._heard_lost += lost
        for first in range(0, len(notes), STEP_NOTES):
            step = notes[first : first + STEP_NOTES]
            if self._text is None or self._waiting_bytes >= self._options.queue_bytes:
                self._lose(len(step), "the disk took no records, and no more could wait")
                continue
            try:
                bodies, count = self._text.write(step)
            except Exception as error:  # noqa: BLE001 - whatever it was, these decisions have no records
                self._lose(len(step), f"no records could be made of them: {_said(error)}")
                continue
            if count:
                self._waiting.append((bodies, count))
                self._waiting_bytes += len(bodies)
            if not self.fault:
                try:
                    self._write_waiting()
                except Exception as error:  # noqa: BLE001 - what waits stays, and the rest of the batch too
                    self._stumble(error)
        if lost:
            self._lose(lost, "more was decided at once than could wait")
        self._judge_health()

    def tick(self, now_ms: int) -> None:
        """Write what waits, the changes of the log, and what is due of the stream."""
        steady_ms = self._clock.steady_ms()
        if not self.fault or steady_ms >= self._retry_at:
            try:
                stream = self._stream or self._open()
                self._write_waiting()
                self._say_what_is_missing(stream, now_ms)
                self._write_changes(stream, now_ms)
                self._write_local(stream)
                stream.tick(now_ms)
                self._keep_position(steady_ms)
                if self._kept is not None:
                    self._kept.keep(stream)
            except Exception as error:  # noqa: BLE001 - a log that can't be read is as bad as a full disk
                self._stumble(error)
            else:
                self.fault = ""
        self._judge_health()

    def close(self) -> None:
        """Write what waits, sign the end and close the stream; what can't be written is logged as lost."""
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
                    self._changes.keep(self._changes.seq)
                if self._kept is not None:
                    self._kept.keep(self._stream, now=True)
        self._tap.refuse_when_lost = False
        self._tap.refusing = False

    def _open(self) -> AuditStream:
        stream = self._open_stream()
        self._text = DecisionText(
            stream.arguments_key.secret, _REASONS, _STAGES, sample_allows=self._options.sample_allows
        )
        self._stream = stream
        if self._changes is not None:
            # Also if nothing is recorded before this process is killed, the next one knows where to go on.
            self._kept_seq = self._changes.seq
            self._changes.keep(self._kept_seq)
        if self._kept is not None:
            self._kept.keep(stream, now=True)
        return stream

    def _write_waiting(self) -> None:
        """Write what waits, the oldest first. Raises OSError once the disk takes no more."""
        while self._waiting and self._stream is not None:
            bodies, count = self._waiting[0]
            self._stream.append(bodies)
            self._waiting.popleft()
            self._waiting_bytes -= len(bodies)
            self.recorded += count

    def _say_what_is_missing(self, stream: AuditStream, now_ms: int) -> None:
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

    def _keep_position(self, steady_ms: int) -> None:
        """Note how far the changes are recorded, once that has been on the disk for a while."""
        if self._changes is None or self._changes.seq == self._kept_seq:
            return
        if self._settling is None:
            self._settling = self._changes.seq, steady_ms
        elif steady_ms - self._settling[1] > 2 * self._options.fsync_ms:
            self._kept_seq, self._settling = self._settling[0], None
            self._changes.keep(self._kept_seq)

    def _lose(self, count: int, why: str) -> None:
        if not self._missing:
            self._missing_since_ms = self._clock.now_ms()
        self._missing += count
        self.lost += count
        self._why = why
        self._sick_until = self._clock.steady_ms() + SICK_MS
        if self._text is not None:
            # Blocks of a chain may have been lost with its first decision.
            self._text.forget_chains()

    def _stumble(self, error: Exception) -> None:
        if not self.fault:
            trace = None if isinstance(error, OSError) else error
            _log.error("audit: the stream can't be written: %s", error, exc_info=trace)
        self.fault = _said(error)
        self._retry_at = self._clock.steady_ms() + RETRY_MS

    def _judge_health(self) -> None:
        recovering = self._clock.steady_ms() < self._sick_until
        self._well = not (self.fault or self._missing or recovering)
        self._tap.refusing = self._options.when_full == DENY and not self.healthy


def _said(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else ""
    return strerror or str(error) or type(error).__name__
