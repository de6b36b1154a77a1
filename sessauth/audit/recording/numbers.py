"""What a recorder says of itself, for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass

from .process import ProcessRecorder


@dataclass(frozen=True, slots=True)
class AuditNumbers:
    """Decisions lost and recorded so far, bytes of what waits, and whether all is recorded that should be."""

    lost: int
    recorded: int
    waiting_bytes: int
    healthy: bool


def audit_numbers(recorder: ProcessRecorder | None) -> AuditNumbers | None:
    """Return what a process's recorder says of its audit stream; None while it has none."""
    audit = recorder.audit if recorder is not None else None
    if recorder is None or audit is None:
        return None
    waiting = recorder.tap.waiting_bytes + audit.waiting_bytes
    return AuditNumbers(audit.lost, audit.recorded, waiting, audit.healthy)
