"""Findings of a verification, with kind, place and words."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class FindingKind(StrEnum):
    """Kinds of findings; stable words. docs/audit.md explains each."""

    CHANGED = "CHANGED"
    REMOVED = "REMOVED"
    REORDERED = "REORDERED"
    INTERLEAVED = "INTERLEAVED"
    FOREIGN = "FOREIGN"
    TRUNCATED = "TRUNCATED"
    MISSING_FILE = "MISSING_FILE"
    MISSING_STREAM = "MISSING_STREAM"
    BAD_CHECKPOINT = "BAD_CHECKPOINT"
    UNSIGNED = "UNSIGNED"
    NO_STREAM = "NO_STREAM"
    ROLLED_BACK = "ROLLED_BACK"
    # Notes: an untouched log may have them.
    TORN = "TORN"
    OPEN = "OPEN"
    NOT_ENDED = "NOT_ENDED"
    CLOCK_BACK = "CLOCK_BACK"
    LOST = "LOST"
    EXPIRED = "EXPIRED"


NOTES = frozenset(
    {
        FindingKind.TORN,
        FindingKind.OPEN,
        FindingKind.NOT_ENDED,
        FindingKind.CLOCK_BACK,
        FindingKind.LOST,
        FindingKind.EXPIRED,
    }
)


@dataclass(frozen=True, slots=True)
class VerificationFinding:
    """One finding.

    ``file`` is a file's name, "" for a whole folder; ``line`` counts from 1, 0 for a whole file; ``n`` is the
    number that the line has or should have, -1 if there is none.
    """

    kind: FindingKind
    file: str
    line: int
    n: int
    words: str

    @property
    def is_note(self) -> bool:
        """True if an untouched log may have it."""
        return self.kind in NOTES


@dataclass(slots=True)
class StreamState:
    """The state of a stream: ``count`` lines, of which a checkpoint covers the first ``signed``.

    ``head`` is the chain of the last line, 64 hex digits. Times in ms since 1970.
    """

    stream: bytes
    process: str = ""
    files: dict[int, Path] = field(default_factory=dict)
    count: int = 0
    signed: int = 0
    head: str = ""
    began_ms: int = 0
    latest_ms: int = 0
    closed: bool = False


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The report of a verification."""

    streams: tuple[StreamState, ...]
    findings: tuple[VerificationFinding, ...]

    @property
    def faults(self) -> tuple[VerificationFinding, ...]:
        """The findings that an untouched log can't have."""
        return tuple(finding for finding in self.findings if not finding.is_note)

    @property
    def notes(self) -> tuple[VerificationFinding, ...]:
        """The findings that an untouched log may have."""
        return tuple(finding for finding in self.findings if finding.is_note)

    @property
    def intact(self) -> bool:
        """True if there is no finding that an untouched log can't have."""
        return not self.faults
