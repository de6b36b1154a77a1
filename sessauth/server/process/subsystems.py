"""Subsystems of the control process that answer no calls, as audit, receipts, usage, events and logins."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...clock import Clock
from ...model.receipt import ReceiptState, VerifierState
from ...state.lmdb.environment import LmdbSource
from ...state.writer.state_writer import StateWriter
from ...verifier.verifier import Verifier
from ..config import Config
from ..events import SessionEventPublisher, UsesAfterEnd
from ..evidence.receipts import ReceiptIssuer
from ..evidence.registry import VerifierRegistry
from ..identity.login_sessions import LoginSessions
from ..keys.issuer_keyring import KeyRing
from ..keys.local_files import LocalChanges
from ..metrics.service import CONTROL
from ..metrics.state import ReceiptMetrics
from ..rpc.authenticate import Authenticator
from ..usage.store import UsageFiles, UsageStore
from .recorder import ServerRecorder


class ControlSubsystems:
    """The audit of this process, registered verifiers, receipts, usage and events."""

    def __init__(
        self,
        config: Config,
        writer: StateWriter,
        source: LmdbSource,
        verifier: Verifier,
        keyring: KeyRing,
        clock: Clock,
        authenticator: Authenticator,
    ) -> None:
        """Open the subsystems that ``config`` enables; ``verifier``'s decisions are recorded.

        Callers, as ``authenticator`` knows them, and the brake are polled for local changes.

        Raises ConfigError or KeyFolderError if the audit or the usage can't be stored; then nothing stays
        open.
        """
        self.local = LocalChanges(
            config.state_dir,
            authenticator.credentials.file,
            authenticator.identities,
            lambda: writer.braked_by_hand,
            clock,
            cluster_brake=lambda: writer.cluster_brake,
            records=config.audit.enabled,
            fsync_ms=config.audit.fsync_ms,
        )
        self.recorder = ServerRecorder(config, verifier, source, CONTROL, clock, local=self.local)
        try:
            self.events = SessionEventPublisher(source)
            self.uses_after_end = UsesAfterEnd(writer, self.events.publish)
            limits = config.usage
            files = UsageFiles(
                config.usage_dir, max_files=limits.max_sessions, max_bytes=limits.max_stored_bytes
            )
            self.usage = UsageStore(writer, limits, files, clock)
            self.usage.on_used_after_end = self.uses_after_end.on_used_after_end
            if config.reports_observations:
                self.recorder.report_observations(
                    self.usage, source, verifier=CONTROL, wants_usage=limits.enabled
                )
            self.registry = VerifierRegistry(writer, clock)
            self.logins = LoginSessions(writer, config, clock)
            # Set when the services are made.
            self.exchanges: Callable[[], Mapping[tuple[str, ...], int]] = dict
            self.receipts = ReceiptIssuer(
                writer,
                verifier,
                keyring,
                self.registry,
                clock,
                wait_ms=config.evidence.receipt_wait_ms,
                last_allow_ms=self.usage.last_allow_ms,
            )
        except BaseException:
            self.recorder.close()
            raise

    def start(self) -> None:
        """Begin to record, first the changes made while no server ran."""
        self.local.poll()
        self.recorder.start()

    def tasks(self) -> list[tuple[str, Callable[[], object]]]:
        """Return tasks that run once a second."""
        return [
            ("registrations", self.registry.evict_inactive),
            ("usage", self.usage.write_ended),
            ("uses after the end", self.uses_after_end.flush),
            ("local changes", self.local.poll),
            ("event streams", self.logins.streams.poll),
        ]

    def metrics(self) -> ReceiptMetrics:
        """Return the metrics of receipts, verifiers, events and logins."""
        states = [state for _, state in self.registry.all()]
        late = sum(state is not VerifierState.ACKNOWLEDGED for state in states)
        issued = self.receipts.issued
        return ReceiptMetrics(
            receipts=(
                issued[ReceiptState.CLOSED],
                issued[ReceiptState.PARTIAL],
                issued[ReceiptState.UNKNOWN],
            ),
            used_after_end=self.uses_after_end.total,
            verifiers=(len(states) - late, late),
            event_watchers=self.events.watchers,
            identity_openings=self.logins.openings,
            security_events=self.logins.signals,
            stream_ages_s=self.logins.streams.ages_s,
            exchanges=self.exchanges(),
        )

    def close(self) -> None:
        """Record and store what waits, and end."""
        self.recorder.close()
        self.local.close()
        self.usage.close()
