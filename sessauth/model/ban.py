"""Selectors of sessions by the fields they were opened with, and bans of new ones.

    selector = SessionSelector(subject="agent:desk")
    selector.fits(session.subject, session.owner, session.labels)

A ban refuses each opening that its selector fits, until it lapses. It is for the minutes after many sessions
were ended: an orchestrator that opens again at once finds no way in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from .._fast.codec.record import Record
from .session import label_records

# A ban is an emergency measure: to refuse a caller for longer, remove its credential.
MAX_BAN_MS: Final = 24 * 3_600_000
# Each opening reads them.
MAX_BANS: Final = 64
MAX_BANS_BYTES: Final = 65_535


@dataclass(frozen=True, slots=True)
class SessionSelector(Record):
    """Selects sessions of this subject, this owner and all of these labels; an empty part fits each.

    ``all`` has no other part and selects every session.
    """

    subject: str = ""
    owner: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    all: bool = False

    @classmethod
    def of(cls, subject: str = "", owner: str = "", labels: Mapping[str, str] | None = None) -> Self:
        """Return the selector of these parts."""
        return cls(subject, owner, tuple(sorted((labels or {}).items())))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read the dict of message SessionSelector."""
        labels = tuple((label["name"], label["value"]) for label in record.get("labels", ()))
        return cls(record.get("subject", ""), record.get("owner", ""), labels, bool(record.get("all", False)))

    def to_record(self) -> dict[str, object]:
        """Return the dict of message SessionSelector."""
        return {
            "subject": self.subject,
            "owner": self.owner,
            "labels": label_records(dict(self.labels)),
            "all": self.all,
        }

    def fits(self, subject: str, owner: str, labels: Mapping[str, str]) -> bool:
        """Return True if it selects a session of this subject and owner with these labels."""
        return (
            (not self.subject or subject == self.subject)
            and (not self.owner or owner == self.owner)
            and all(labels.get(name) == value for name, value in self.labels)
        )

    def fault(self) -> str:
        """Return the rule that it breaks; empty if it is good."""
        stated = bool(self.subject or self.owner or self.labels)
        if self.all == stated:
            return "give subject, owner or labels, or all and none of them"
        if len(dict(self.labels)) != len(self.labels):
            return "a label is there twice"
        return ""

    def __str__(self) -> str:
        """Return its parts as text."""
        parts = [f"{name} {value}" for name in ("subject", "owner") if (value := getattr(self, name))]
        return ", ".join([*parts, *(f"label {name}={value}" for name, value in self.labels)]) or "all"


@dataclass(frozen=True, slots=True)
class SessionBan(Record):
    """A ban until ``until_ms``, set by a caller at ``set_at_ms``; both in ms since 1970."""

    selector: SessionSelector
    until_ms: int
    reason: str
    set_by: str
    set_at_ms: int


@dataclass(frozen=True, slots=True)
class SessionBans(Record):
    """All bans, in the order in which they were set."""

    bans: tuple[SessionBan, ...] = ()

    def living(self, at_ms: int) -> tuple[SessionBan, ...]:
        """Return those that have not lapsed."""
        return tuple(ban for ban in self.bans if ban.until_ms > at_ms)
