"""The audit recorder of one process: of its decisions, and in the control process of changes too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...audit.recording.change_follower import ChangeFollower
from ...audit.recording.process import ProcessRecorder
from ...audit.write.retention import AuditRetention
from ...audit.write.stream import STOP_MINTING
from ...audit.write.stream_register import RegisterWriter
from ...clock import Clock
from ...state.lmdb.environment import LmdbSource
from ...state.lmdb.feed import ChangeLog
from ...verifier.verifier import Verifier
from ..config import Config
from ..keys.local_files import LocalChanges
from ..status import refused

AUDIT_UNAVAILABLE: Final = "AUDIT_UNAVAILABLE"


class ServerRecorder(ProcessRecorder):
    """A recorder with the settings of ``[audit]``."""

    def __init__(
        self,
        config: Config,
        verifier: Verifier,
        source: LmdbSource,
        process: str,
        clock: Clock,
        *,
        local: LocalChanges | None = None,
    ) -> None:
        """Open the stream of ``process`` if ``[audit]`` is enabled.

        With ``local``, in the control process, the log's changes and local changes are recorded too.

        Raises:
            ConfigError: if the folder of ``audit.dir`` can't be written.
            KeyFolderError: if a key in it can't be used.
        """
        super().__init__(verifier, queue_bytes=config.audit.queue_bytes, clock=clock)
        self._when_full = config.audit.when_full
        if config.audit.enabled:
            folder = config.audit_dir
            feed = ChangeLog(source)
            changes = register = retention = None
            if local is not None:
                changes = ChangeFollower(feed, folder)
                register = RegisterWriter(config.state_dir, folder, clock, config.audit.checkpoint_ms)
                retention = AuditRetention(folder, config.audit.limits, register.keys)
            self.open_audit(
                config.audit.options(folder),
                feed.head(),
                process,
                index=local is not None,
                changes=changes,
                local=local,
                register=register,
                retention=retention,
                host=config.host,
            )

    def problem(self) -> str:
        """Return why decisions of this process are not recorded; empty if they are, or need not be."""
        if self.audit is None or self.audit.healthy:
            return ""
        return self.audit.fault or "decisions were lost"

    def require(self, others: Callable[[], bool] = lambda: True) -> None:
        """Raise AUDIT_UNAVAILABLE if no authority may be granted: its use would not be recorded.

        ``others`` returns True if the other processes of this server record.
        """
        if self.audit is None or self._when_full != STOP_MINTING:
            return
        why = self.problem()
        if not why and not others():
            why = "a worker lost decisions, or can't write"
        if not why:
            return
        raise refused(
            AUDIT_UNAVAILABLE,
            f"decisions can't be recorded ({why}), so no authority is given: make room in audit.dir, or set "
            "audit.when_full",
        )
