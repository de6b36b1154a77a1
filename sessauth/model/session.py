"""A session as the state holds it: who does what for whom, for how long, and how far at most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self, cast

from .._fast.codec import protobuf
from ..errors import UsageError
from ..scopes.value import Plain, value_from_record, value_to_record

ScopeRecord = Mapping[str, object]
_IN_OTHER_ROWS = ("lease_deadline_ms", "open_permits", "open_approvals")


class SessionStatus(IntEnum):
    """ENDED is final; SUSPENDED can be resumed."""

    UNSPECIFIED = 0
    ACTIVE = 1
    SUSPENDED = 2
    ENDED = 3


class EndCause(IntEnum):
    """Why a session ended."""

    UNSPECIFIED = 0
    ASKED = 1
    LEASE_LAPSED = 2
    EXPIRED = 3
    PARENT_ENDED = 4
    RESTORED = 5


@dataclass(frozen=True, slots=True)
class Fact:
    """One entry of a session's typed map. Holders' blocks may test it only if it is visible.

    A fact that was read back has a ``value.Number`` where an int or Decimal was given.
    """

    name: str
    value: Plain
    visible: bool = False

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Self:
        """Read the dict of message Fact; raises UsageError if it has no value."""
        value = record.get("value")
        if not isinstance(value, Mapping):
            raise UsageError(f"fact {record.get('name')!r} has no value; give it a text, a number or a truth")
        return cls(str(record["name"]), value_from_record(value), bool(record.get("visible", False)))

    def to_record(self) -> dict[str, object]:
        """Return the dict of message Fact; raises ScopeError for a value that is not of the format."""
        return {"name": self.name, "value": value_to_record(self.value), "visible": self.visible}


@dataclass(frozen=True, slots=True)
class Session:
    """One session at one revision. Times are ms since 1970-01-01 UTC.

    ``ceilings`` are layers of scope records (the dict of message Scope); a call must match a scope of
    each layer. ``lease_deadline_ms`` is 0 without a lease. ``open_permits`` were neither committed nor
    released, ``open_approvals`` wait for an answer: both are 0 where a session was read by itself.
    """

    id: bytes
    subject: str
    purpose: str
    owner: str
    parent_id: bytes
    status: SessionStatus
    epoch: int
    ceilings: tuple[tuple[ScopeRecord, ...], ...]
    facts: tuple[Fact, ...]
    labels: Mapping[str, str]
    opened_at_ms: int
    expires_at_ms: int
    lease_ms: int
    issuer_key_ids: tuple[bytes, ...]
    revoked_count: int
    ended_at_ms: int
    end_cause: EndCause
    reason: str
    revision: int
    lease_deadline_ms: int = 0
    open_permits: int = 0
    open_approvals: int = 0

    @classmethod
    def from_record(cls, record: Mapping[str, object], lease_deadline_ms: int = 0) -> Self:
        """Read the dict of message SessionRecord, with the deadline that the leases table holds."""
        value = dict(cast("Mapping[str, Any]", record))
        value["status"] = SessionStatus(value["status"])
        value["end_cause"] = EndCause(value["end_cause"])
        value["ceilings"] = tuple(tuple(layer["scopes"]) for layer in value["ceilings"])
        value["facts"] = tuple(Fact.from_record(fact) for fact in value["facts"])
        value["labels"] = {label["name"]: label["value"] for label in value["labels"]}
        value["issuer_key_ids"] = tuple(value["issuer_key_ids"])
        return cls(**value, lease_deadline_ms=lease_deadline_ms if value["lease_ms"] else 0)

    @classmethod
    def decode(cls, data: bytes, lease_deadline_ms: int = 0) -> Self:
        """Read an encoded SessionRecord; raises ``protobuf.WireError`` if it is not canonical."""
        return cls.from_record(protobuf.decode("SessionRecord", data), lease_deadline_ms)

    def to_record(self) -> dict[str, object]:
        """Return the dict of message SessionRecord (without what has rows of its own)."""
        names = [name for name in Session.__slots__ if name not in _IN_OTHER_ROWS]
        record: dict[str, object] = {name: getattr(self, name) for name in names}
        record["ceilings"] = [{"scopes": list(layer)} for layer in self.ceilings]
        record["facts"] = [fact.to_record() for fact in self.facts]
        record["labels"] = label_records(self.labels)
        record["issuer_key_ids"] = list(self.issuer_key_ids)
        return record

    def encode(self) -> bytes:
        """Return the canonical bytes of message SessionRecord."""
        return protobuf.encode("SessionRecord", self.to_record())

    def ends_at_ms(self) -> int:
        """Return when it ends by itself: the earlier of hard end and lease deadline, in ms."""
        if self.lease_ms and self.lease_deadline_ms:
            return min(self.expires_at_ms, self.lease_deadline_ms)
        return self.expires_at_ms


def label_records(labels: Mapping[str, str]) -> list[dict[str, object]]:
    """Return labels as dicts of message Label, sorted by name."""
    return [{"name": name, "value": labels[name]} for name in sorted(labels)]


def fact_records(facts: Iterable[Fact]) -> list[dict[str, object]]:
    """Return facts as dicts of message Fact, sorted by name."""
    return [fact.to_record() for fact in sorted(facts, key=lambda fact: fact.name)]
