"""What the control process keeps beside the state: who may still judge, what was decided, used and told."""

from __future__ import annotations

from collections.abc import Callable

from ...clock import Clock
from ...state.lmdb.environment import LmdbSource
from ...state.writer.state_writer import StateWriter
from ...verifier.verifier import Verifier
from ..config.config import Config
from ..events.late_uses import UsesAfterEnd
from ..events.publisher import SessionEventPublisher
from ..evidence.receipts import ReceiptIssuer
from ..evidence.registry import VerifierRegistry
from ..keys.issuer_keyring import KeyRing
from ..keys.local_changes import LocalChanges
from ..metrics.evidence import ReceiptMetrics as EvidenceNumbers
from ..metrics.evidence import numbers_of
from ..metrics.service import CONTROL
from ..rpc.authenticate import Authenticator
from ..usage.files import UsageFiles
from ..usage.store import UsageStore
from .recorder import ServerRecorder


class ControlSubsystems:
    """The audit of this process, who is enrolled, receipts, usage and events; nothing here answers a call."""

    def __init__(
        self,
        config: Config,
        log: StateWriter,
        source: LmdbSource,
        verifier: Verifier,
        keyring: KeyRing,
        clock: Clock,
        authenticator: Authenticator,
    ) -> None:
        """Open what is asked for; ``verifier`` is whose decisions are recorded.

        Who may call, as ``authenticator`` knows it, and the brake are looked at for changes beside the log.

        Raises ConfigError or KeyFolderError if the audit or the usage can't be kept; then nothing stays open.
        """
        self.local = LocalChanges(
            config.state_dir,
            authenticator.credentials,
            authenticator.identities,
            lambda: log.braked_by_hand,
            clock,
            records=config.audit.enabled,
            fsync_ms=config.audit.fsync_ms,
        )
        self.recorder = ServerRecorder(config, verifier, source, CONTROL, clock, local=self.local)
        try:
            self.events = SessionEventPublisher(source)
            self.uses_after_end = UsesAfterEnd(log, self.events.tell)
            limits = config.usage
            files = UsageFiles(
                config.usage_dir, max_files=limits.max_sessions, max_bytes=limits.max_stored_bytes
            )
            self.usage = UsageStore(log, limits, files, clock)
            self.usage.on_used_after_end = self.uses_after_end.on_used_after_end
            if config.reports_observations:
                self.recorder.report_observations(
                    self.usage, source, verifier=CONTROL, wants_usage=limits.enabled
                )
            self.enrolment = VerifierRegistry(log, clock)
            self.evidence = ReceiptIssuer(
                log,
                verifier,
                keyring,
                self.enrolment,
                clock,
                wait_ms=config.evidence.receipt_wait_ms,
                last_allow_ms=self.usage.last_allow_ms,
            )
        except BaseException:
            self.recorder.close()
            raise

    def start(self) -> None:
        """Begin to record, first what was changed while no server ran."""
        self.local.poll()
        self.recorder.start()

    def tasks(self) -> list[tuple[str, Callable[[], object]]]:
        """Return what is to be done once a second."""
        return [
            ("enrolment", self.enrolment.tend),
            ("usage", self.usage.write_ended),
            ("uses after the end", self.uses_after_end.flush),
            ("local changes", self.local.poll),
        ]

    def numbers(self) -> EvidenceNumbers:
        """Return what the page of metrics shows of it."""
        return numbers_of(self.evidence, self.enrolment, self.uses_after_end, self.events)

    def close(self) -> None:
        """Record and store what waits, and end."""
        self.recorder.close()
        self.local.close()
        self.usage.close()
