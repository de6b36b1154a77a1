"""Findings of a verification, and the error of a pack that can't be read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EvidenceFault(StrEnum):
    """Kinds of findings; stable words. docs/evidence.md explains each."""

    DAMAGED = "DAMAGED"
    BAD_MANIFEST = "BAD_MANIFEST"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    NO_KEY = "NO_KEY"
    UNTRUSTED_KEY = "UNTRUSTED_KEY"
    OTHER_MEMBER = "OTHER_MEMBER"
    CHANGED = "CHANGED"
    REMOVED = "REMOVED"
    FOREIGN = "FOREIGN"
    UNLINKED = "UNLINKED"
    HIDDEN = "HIDDEN"
    BAD_CHECKPOINT = "BAD_CHECKPOINT"
    MISSING_FILE = "MISSING_FILE"
    MISSING_STREAM = "MISSING_STREAM"
    TRUNCATED = "TRUNCATED"
    MISCOUNTED = "MISCOUNTED"
    BAD_RECEIPT = "BAD_RECEIPT"
    BAD_REPORT = "BAD_REPORT"
    SURVIVED = "SURVIVED"


@dataclass(frozen=True, slots=True)
class EvidenceFinding:
    """One finding.

    ``member`` is a file of the pack, "" for the pack; ``line`` counts from 1, 0 for a whole file; ``n`` is
    the number of the audit record, -1 if there is none.
    """

    kind: EvidenceFault
    member: str
    line: int
    n: int
    words: str


class UnreadablePack(ValueError):
    """The pack can't be read further; ``finding`` says why."""

    def __init__(self, finding: EvidenceFinding) -> None:
        """Take the finding."""
        super().__init__(finding.words)
        self.finding = finding


def damaged(words: str, kind: EvidenceFault = EvidenceFault.DAMAGED, member: str = "") -> UnreadablePack:
    """Return the error of a pack that can't be read."""
    return UnreadablePack(EvidenceFinding(kind, member, 0, -1, words))
