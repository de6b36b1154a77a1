"""Findings of an examination, and the table of all that there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

WARNING: Final = "warning"
ERROR: Final = "error"

# By id. An error denies calls or loses data, now or at the next start; a warning may come to that.
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
