"""The report of a replay."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from .trial import TrialReport

# So that one forged file does not fill the memory; the rest is counted.
MAX_SHOWN: Final = 1_000


class Standing(StrEnum):
    """The standing of a recorded decision after the call was evaluated again."""

    # The result is the recorded one.
    CONFIRMED = "confirmed"
    # The log agrees as far as it goes; the rest of the verdict is the record's own word.
    ON_TRUST = "on_trust"
    # It depends on the call's arguments, or on facts about its tool.
    UNDECIDED = "undecided"
    # The state of the decision is not in the log, or its chain is not.
    UNDECIDABLE = "undecidable"
    # It can't be: for another reason, at another place, by another scope or epoch.
    DIFFERENT_REASON = "different_reason"
    # A recorded allow is a denial, or the other way round.
    FLIPPED = "flipped"


class ReplayFault(StrEnum):
    """Other contradictions within a log."""

    # A change that comes to another outcome by the changes before it.
    DIFFERENT_OUTCOME = "different_outcome"
    # Two changes with one number.
    TWO_CHANGES = "two_changes"
    # The first payload of a chain does not match its id.
    WRONG_CHAIN = "wrong_chain"
    # Two chains of the same ids.
    TWO_CHAINS = "two_chains"


FOUND: Final = frozenset({Standing.DIFFERENT_REASON, Standing.FLIPPED})


@dataclass(frozen=True, slots=True)
class ReplayedCall:
    """One decision, made again. ``why``: the thing it depends on, or the contradiction."""

    standing: Standing
    why: str = ""
    comes_out: str = ""


@dataclass(frozen=True, slots=True)
class ReplayFinding:
    """One record that can't be true, and its place. ``id`` names the decision or the change."""

    kind: Standing | ReplayFault
    file: str
    line: int
    n: int
    id: str
    at_ms: int = 0
    session: str = ""
    recorded: str = ""
    comes_out: str = ""
    why: str = ""


@dataclass(slots=True)
class ReplayReport:
    """Counts of a replay. ``found`` counts all findings; ``findings`` are the first of them."""

    decisions: int = 0
    changes: int = 0
    chains: int = 0
    unreadable: int = 0
    # Histories whose first changes, with the issuer keys that there were, are not in the log.
    begun_later: int = 0
    standings: Counter[Standing] = field(default_factory=Counter)
    on_trust: Counter[str] = field(default_factory=Counter)
    undecided: Counter[str] = field(default_factory=Counter)
    undecidable: Counter[str] = field(default_factory=Counter)
    found: int = 0
    findings: list[ReplayFinding] = field(default_factory=list)
    # Allowed calls by another ceiling, if one is tried.
    trial: TrialReport | None = None

    def count(self, call: ReplayedCall) -> None:
        """Count a decision."""
        self.decisions += 1
        self.standings[call.standing] += 1
        by_standing = {
            Standing.ON_TRUST: self.on_trust,
            Standing.UNDECIDED: self.undecided,
            Standing.UNDECIDABLE: self.undecidable,
        }
        if call.standing in by_standing:
            by_standing[call.standing][call.why] += 1

    def add(self, finding: ReplayFinding) -> None:
        """Count a finding."""
        self.found += 1
        if len(self.findings) < MAX_SHOWN:
            self.findings.append(finding)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        counts = ("decisions", "changes", "chains", "unreadable", "begun_later")
        return {
            **{name: getattr(self, name) for name in counts},
            **{standing.value: self.standings[standing] for standing in Standing},
            "on_trust_by": dict(sorted(self.on_trust.items())),
            "undecided_by": dict(sorted(self.undecided.items())),
            "undecidable_by": dict(sorted(self.undecidable.items())),
            "found": self.found,
            "findings": [{**asdict(each), "kind": each.kind.value} for each in self.findings],
            **({"trial": self.trial.to_dict()} if self.trial is not None else {}),
        }
