"""Findings of an examination, the table of all findings, and the host that is examined.

The host has its settings, and the answer of its server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...clock import Clock
from ...errors import StateError
from ...model.server_status import ServerStatus
from ..config import Config

WARNING: Final = "warning"
ERROR: Final = "error"

# By id. An error denies calls or loses data, now or at the next start; a warning may lead to that.
SEVERITIES: Final[Mapping[str, str]] = {
    "settings": ERROR,
    "not_examined": ERROR,
    "open_file": ERROR,
    "folder_unusable": ERROR,
    "state_unusable": ERROR,
    "membership": ERROR,
    "brake": ERROR,
    "cluster_alarm": ERROR,
    "stale": ERROR,
    "clock_suspect": ERROR,
    "clock_floor": ERROR,
    "clock_unsynchronised": WARNING,
    "map_full": ERROR,
    "map_filling": WARNING,
    "disk_full": ERROR,
    "disk_small": WARNING,
    "not_running": WARNING,
    "not_answering": ERROR,
    "not_asked": WARNING,
    "not_ready": ERROR,
    "workers_down": ERROR,
    "other_version": WARNING,
    "address_taken": ERROR,
    "socket_path": ERROR,
    "missing_library": ERROR,
    "missing_extra": ERROR,
    "identity_keys": ERROR,
    "identity_key_dropped": WARNING,
    "identity_settings": WARNING,
    "event_stream_silent": WARNING,
    "open_files_limit": WARNING,
    "few_cores": WARNING,
    "proof_keys": ERROR,
    "issuer_key": ERROR,
    "host_key": ERROR,
    "credentials": ERROR,
    "no_operator": WARNING,
    "orphaned_sessions": WARNING,
    "certificate_unusable": ERROR,
    "certificate_expired": ERROR,
    "certificate_ends": WARNING,
    "audit_fault": ERROR,
    "audit_missing": ERROR,
    "audit_damaged": ERROR,
    "backup_missing": WARNING,
    "backup_old": WARNING,
    "backup_unusable": ERROR,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: its id, in words, and the remedy."""

    id: str
    words: str
    remedy: str

    @property
    def severity(self) -> str:
        """``error`` or ``warning``."""
        return SEVERITIES[self.id]


def of_error(finding_id: str, error: Exception, remedy: str = "") -> Finding:
    """Return the finding for an error. Its message has the remedy after a semicolon, unless it is stated."""
    words, _, knob = str(error).partition("; ")
    return Finding(finding_id, words, remedy or knob or "see the message")


DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Host:
    """The input of an examination.

    ``status`` is the answer of the host's server; None if there is none, for the reason ``silence``, or if it
    could not be asked as an operator or an auditor, for the reason ``refusal``. ``deep`` reads the whole
    state and the whole audit. ``backups`` are folders of backups, of which the newest must be younger than
    ``backup_age_ms``. ``others`` are the answers of the cluster's other servers that gave one. The streams of
    security events of the providers ``silent_streams`` are silent, as the server says. With a ``state_fault``
    the state can't be read, and nothing of it is examined.
    """

    config: Config
    clock: Clock
    status: ServerStatus | None = None
    silence: str = ""
    refusal: str = ""
    deep: bool = False
    backups: tuple[Path, ...] = ()
    backup_age_ms: int = DAY_MS
    proc: Path = Path("/proc")
    others: tuple[ServerStatus, ...] = ()
    state_fault: StateError | None = None
    silent_streams: tuple[str, ...] = ()

    @property
    def workers(self) -> int:
        """Processes that check: those of the server that runs, which its command line may have stated."""
        return self.config.server.workers if self.status is None else self.status.workers
