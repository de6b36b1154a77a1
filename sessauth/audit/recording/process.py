"""The recording of one process: a verifier's queue, the thread that drains it, and its sinks.

:class:`Recorder` is the thread. It hands decision records to sinks, of which the audit stream is one.
:class:`ProcessRecorder` composes queue, thread and sinks for a verifier.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol, Self

from ..._fast._check import Checker, DecisionQueue, DecisionRecord, RecordingRunner
from ...clock import Clock, SystemClock
from ...errors import ConfigError
from ...model.change import Head
from ...state.lmdb.environment import LmdbSource
from ...state.lmdb.feed import ChangeLog
from ...state.lmdb.rows import stored_lineage
from ...state.rules.effects import SessionSource
from ...usage.collector import ObservationSender, ObservationSink
from ..write.retention import AuditRetention
from ..write.stream import AuditOptions, AuditStream
from ..write.stream_register import RegisterWriter
from .audit_sink import AuditSink, LocalSource
from .change_follower import ChangeFollower

# How long a record waits at most, while the machine keeps up.
DRAIN_SECONDS: Final = 0.05
LOG_EVERY_MS: Final = 1_000
# Limit of a stop: a disk that hangs must not keep a process from going on.
STOP_SECONDS: Final = 30.0
_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Consumes decision records. The recorder's thread alone calls both methods.

    Records are valid only during the call: those of a batch lie in one memory.
    """

    def consume(self, records: Sequence[DecisionRecord], lost: int) -> None:
        """Process a batch, in the order of the decisions; ``lost`` more did not fit since the last one."""

    def tick(self, now_ms: int) -> None:
        """Do the work that is due. ``now_ms``: the wall clock's time, in ms since 1970."""


class Recorder:
    """Drains a queue into sinks, every 50 ms and when the queue is half full.

    A sink that raises is logged, once a second, and counted; the others go on.
    """

    def __init__(self, queue: DecisionQueue, sinks: Sequence[Sink], *, clock: Clock | None = None) -> None:
        """Prepare; nothing runs yet."""
        self.queue = queue
        self.failures = 0
        self._sinks = tuple(sinks)
        self._clock = clock or SystemClock()
        self._lost = 0
        self._logged_ms = -LOG_EVERY_MS
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sessauth-recorder", daemon=True)
        queue.on_half_full = self._wake.set

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> bool:
        """Drain the queue and end. Later decisions are not recorded.

        Return False if a sink hangs for ``STOP_SECONDS``: then waiting records are lost, which is logged, and
        no sink may be touched, since the thread is still in one.
        """
        self._stopping = True
        self._wake.set()
        self.queue.on_half_full = None
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():
                _log.error("given up: waiting records could not be written within %.0f s", STOP_SECONDS)
                return False
        self.run_once()
        return True

    def run_once(self) -> None:
        """Drain the queue into every sink once; for the thread, and where none runs."""
        records = self.queue.drain()
        lost = self.queue.lost - self._lost
        self._lost += lost
        now_ms = self._clock.now_ms()
        for sink in self._sinks:
            try:
                if records or lost:
                    sink.consume(records, lost)
                sink.tick(now_ms)
            except Exception as error:  # noqa: BLE001 - one sink that fails takes nothing from the others
                self._failed(sink, error)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(DRAIN_SECONDS)
            self._wake.clear()
            try:
                self.run_once()
            except Exception as error:  # noqa: BLE001 - without memory for records they wait, or are counted lost
                self._failed(self, error)

    def _failed(self, source: object, error: Exception) -> None:
        self.failures += 1
        steady_ms = self._clock.steady_ms()
        if abs(steady_ms - self._logged_ms) >= LOG_EVERY_MS:
            self._logged_ms = steady_ms
            _log.error("%s failed to record: %s", type(source).__name__, error, exc_info=error)


EMBEDDED: Final = "embedded"
# Limit of a queue without an audit stream, in bytes.
QUEUE_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class AuditNumbers:
    """Decisions lost and recorded so far, bytes that wait, and whether recording works."""

    lost: int
    recorded: int
    waiting_bytes: int
    healthy: bool


class ProcessRecorder:
    """Hands the decisions of a verifier to an audit stream and to other sinks."""

    def __init__(self, verifier: RecordingRunner, *, queue_bytes: int, clock: Clock | None = None) -> None:
        """Prepare for ``verifier``; at most ``queue_bytes`` of records wait."""
        self._verifier = verifier
        self._clock = clock or SystemClock()
        self.queue = DecisionQueue(queue_bytes)
        self._sinks: list[Sink] = []
        self._recorder: Recorder | None = None
        self.audit: AuditSink | None = None
        self.observations: ObservationSink | None = None

    def report_observations(
        self,
        sender: ObservationSender,
        source: SessionSource,
        *,
        verifier: str = "",
        wants_usage: bool | None = None,
    ) -> None:
        """Report observations of sessions to the control process, from :meth:`start` on.

        ``sender`` is not closed here, and needed until :meth:`close`. The ceilings of sessions are read from
        ``source``. ``verifier`` is a worker's name; ``wants_usage`` is that of
        :class:`~sessauth.usage.collector.ObservationSink`.
        """
        self.observations = ObservationSink(
            sender,
            verifier=verifier,
            lineage_of=partial(stored_lineage, source),
            wants_usage=wants_usage,
            forget_chains=self.queue.forget_chains,
        )
        self._sinks.append(self.observations)

    def open_audit(
        self,
        options: AuditOptions,
        head: Head,
        process: str,
        *,
        audience: str = "",
        index: bool = False,
        changes: ChangeFollower | None = None,
        local: LocalSource | None = None,
        register: RegisterWriter | None = None,
        host: str = "",
        retention: AuditRetention | None = None,
    ) -> None:
        """Begin an audit stream of the process ``process``, which checks by the state of ``head``.

        ``audience`` is that of its decisions, empty if they have several. With ``changes`` the log's changes
        are recorded too, with ``local`` those beside the log. ``register`` stores in the state folder how far
        the stream is on the disk, ``retention`` removes old files. ``index`` and ``host`` are those of
        :meth:`AuditStream.open_new`. Raises ConfigError if the folder can't be written, unless the disk is
        full; KeyFolderError if a key in it can't be used; StateUnusable if the folder is writable by
        everyone.
        """
        folder = Path(options.dir)
        open_stream = partial(
            AuditStream.open_new,
            folder,
            process=process,
            audience=audience,
            cluster_id=head.cluster_id,
            incarnation=head.incarnation,
            options=options.stream,
            clock=self._clock,
            index=index,
            host=host,
        )
        try:
            self.audit = AuditSink(
                open_stream,
                options,
                self.queue,
                clock=self._clock,
                changes=changes,
                local=local,
                register=register,
                retention=retention,
            )
        except OSError as error:
            raise ConfigError(f"audit.dir: {folder} can't be written: {error.strerror or error}") from error
        self._sinks.append(self.audit)

    def add(self, sink: Sink) -> None:
        """Add a sink for every decision, from :meth:`start` on."""
        self._sinks.append(sink)

    def start(self) -> Self:
        """Begin to record, if there is a sink."""
        if self._sinks:
            self._verifier.decision_queue = self.queue
            self._recorder = Recorder(self.queue, self._sinks, clock=self._clock)
            self._recorder.start()
        return self

    def close(self) -> None:
        """Record and report the decisions so far, and end. Later decisions are not recorded.

        On a disk that hangs, waiting records are given up after 30 s; the stream is left as after a crash.
        """
        self._verifier.decision_queue = None
        recorder, self._recorder = self._recorder, None
        if recorder is not None and not recorder.stop():
            # The thread is still in one of them.
            self.observations = self.audit = None
            return
        # Only now: without a stream no call would be refused for decisions that can't be recorded.
        if self.observations is not None:
            self.observations.close()
            self.observations = None
        if self.audit is not None:
            self.audit.close()
            self.audit = None

    @property
    def healthy(self) -> bool:
        """True unless decisions can't be recorded that should be."""
        return self.audit is None or self.audit.healthy

    def audit_numbers(self) -> AuditNumbers | None:
        """Return the numbers of the audit stream; None while there is none."""
        audit = self.audit
        if audit is None:
            return None
        waiting = self.queue.waiting_bytes + audit.waiting_bytes
        return AuditNumbers(audit.lost, audit.recorded, waiting, audit.healthy)


def start_embedded(
    verifier: Checker,
    source: LmdbSource,
    options: AuditOptions | None,
    sender: ObservationSender | None = None,
) -> ProcessRecorder:
    """Return the running recorder of an embedded verifier; close it before ``source`` and ``sender``.

    With ``options`` it writes an audit stream; with ``sender`` it reports observations. Raises ConfigError if
    the folder can't be written, KeyFolderError if a key in it can't be used.
    """
    recorder = ProcessRecorder(verifier, queue_bytes=options.queue_bytes if options else QUEUE_BYTES)
    if options is not None:
        head = ChangeLog(source).head()
        recorder.open_audit(options, head, EMBEDDED, audience=verifier.audience, index=True)
    if sender is not None:
        recorder.report_observations(sender, source)
    return recorder.start()
