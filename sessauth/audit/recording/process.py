"""All that one process records: a verifier's tap, the thread that empties it, and who is told."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Self

from ..._fast.check.recording_judge import RecordingRunner
from ..._fast.record.queue import DecisionQueue
from ...clock import Clock, SystemClock
from ...errors import ConfigError
from ...model.log_records import Head
from ...state.lmdb.ceilings import SessionSource, ceiling_layers
from ...usage.collector import ObservationSender, ObservationSink
from ..write.stream import AuditStream
from .audit_sink import AuditSink, LocalSource
from .change_follower import ChangeFollower
from .options import AuditOptions
from .recorder import Recorder, Sink
from .stream_register import StreamRegister


class ProcessRecorder:
    """Hands what a verifier decides to the audit stream, if there is to be one, and to other sinks."""

    def __init__(self, verifier: RecordingRunner, *, queue_bytes: int, clock: Clock | None = None) -> None:
        """Prepare for ``verifier``; at most ``queue_bytes`` of notes wait."""
        self._verifier = verifier
        self._clock = clock or SystemClock()
        self.tap = DecisionQueue(queue_bytes)
        self._sinks: list[Sink] = []
        self._recorder: Recorder | None = None
        self.audit: AuditSink | None = None
        self.telling: ObservationSink | None = None

    def tell(
        self,
        teller: ObservationSender,
        source: SessionSource,
        *,
        verifier: str = "",
        wants_usage: bool | None = None,
    ) -> None:
        """Have ``teller`` told what is seen of sessions, from :meth:`start` on.

        Args:
            teller: the way to the control process; not closed here, and needed until :meth:`close`.
            source: where the ceilings of sessions are read.
            verifier: a worker's name.
            wants_usage: see :class:`~sessauth.usage.collector.TellingSink`.
        """
        self.telling = ObservationSink(
            teller,
            verifier=verifier,
            ceilings_of=partial(ceiling_layers, source),
            wants_usage=wants_usage,
            forget_chains=self.tap.forget_chains,
        )
        self._sinks.append(self.telling)

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
        kept: StreamRegister | None = None,
    ) -> None:
        """Begin an audit stream of ``process``, which judges by the state of ``head``.

        With ``changes`` it has the log's changes too, with ``local`` what is changed beside the log. With
        ``index`` it names the folder's other streams, so that their removal is found, with ``kept`` the state
        folder keeps how far it came.

        Raises:
            ConfigError: if the folder can't be written, for another cause than that the disk is full.
            KeyFolderError: if a key in it can't be used.
            StateUnusable: if everybody may write there.
        """
        folder = Path(options.dir)

        def open_stream() -> AuditStream:
            return AuditStream.open_new(
                folder,
                process=process,
                audience=audience,
                cluster_id=head.cluster_id,
                incarnation=head.incarnation,
                options=options.stream,
                clock=self._clock,
                index=index,
            )

        try:
            self.audit = AuditSink(
                open_stream, options, self.tap, clock=self._clock, changes=changes, local=local, kept=kept
            )
        except OSError as error:
            raise ConfigError(f"audit.dir: {folder} can't be written: {error.strerror or error}") from error
        self._sinks.append(self.audit)

    def add(self, sink: Sink) -> None:
        """Have another sink told of every decision, from :meth:`start` on."""
        self._sinks.append(sink)

    def start(self) -> Self:
        """Begin to record, if anybody wants to know."""
        if self._sinks:
            self._verifier.tap = self.tap
            self._recorder = Recorder(self.tap, self._sinks, clock=self._clock)
            self._recorder.start()
        return self

    def close(self) -> None:
        """Record and tell what was decided until now, and end. What is decided later is not noted.

        On a disk that hangs what waits is given up after 30 s, and the stream left as after a crash.
        """
        self._verifier.tap = None
        recorder, self._recorder = self._recorder, None
        if recorder is not None and not recorder.stop():
            # The thread is still in one of them.
            self.telling = self.audit = None
            return
        # Only now: without a stream nobody would be refused for decisions that can't be recorded.
        if self.telling is not None:
            self.telling.close()
            self.telling = None
        if self.audit is not None:
            self.audit.close()
            self.audit = None

    @property
    def healthy(self) -> bool:
        """Whether all that is to be recorded is."""
        return self.audit is None or self.audit.healthy
