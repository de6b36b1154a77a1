"""Sessions: their fields, selectors and bans of them, and their ancestors.

A :class:`Session` has its parties and purpose, its time limits and its ceiling. A :class:`SessionSelector`
fits sessions by the fields that they were opened with:

    selector = SessionSelector(subject="agent:desk")
    selector.fits(session.subject, session.owner, session.labels)

A :class:`SessionBan` refuses each opening that its selector fits, until it lapses. It is for the minutes
after many sessions were ended: an orchestrator that opens sessions again at once is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Final, Protocol, Required, Self, TypedDict

from .._fast import _check as kernel
from .._fast.codec.record import Record
from ..clock import utc_text
from ..errors import UsageError
from ..limits import MAX_ANCESTORS
from ..scopes.scope import Scope
from ..scopes.value import Plain, value_from_record, value_to_record
from .notebook import html_table

# The owner of sessions that a provider's logins opened, and labels that each of them has of itself.
LOGINS_OWNER: Final = "sessauth/identity"
PROVIDER_LABEL: Final = "provider"
ISSUER_LABEL: Final = "issuer"
SUBJECT_LABEL: Final = "sub"
LOGIN_LABEL: Final = "login"
SID_LABEL: Final = "sid"
ACTOR_LABEL: Final = "actor"
LOGIN_LABELS: Final = (PROVIDER_LABEL, ISSUER_LABEL, SUBJECT_LABEL, LOGIN_LABEL, SID_LABEL, ACTOR_LABEL)
ScopeRecord = Mapping[str, object]
_READ_ELSEWHERE: Final = {"open_permits": 0, "open_approvals": 0, "inherited_from": b""}
_IN_OTHER_ROWS: Final = ("lease_deadline_ms", *_READ_ELSEWHERE)


class SessionStatus(IntEnum):
    """ENDED is final; SUSPENDED can be resumed."""

    UNSPECIFIED = 0
    ACTIVE = 1
    SUSPENDED = 2
    ENDED = 3


class EndCause(IntEnum):
    """The cause of a session's end."""

    UNSPECIFIED = 0
    ASKED = 1
    LEASE_LAPSED = 2
    EXPIRED = 3
    PARENT_ENDED = 4
    RESTORED = 5


@dataclass(frozen=True, slots=True)
class Fact(Record):
    """One entry of a session's typed map. Holders' blocks may test it only if it is visible.

    A fact that was read back has a ``value.Number`` where an int or Decimal was given.
    """

    name: str
    value: Plain
    visible: bool = False

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read the dict of message Fact; raises UsageError if it has no value."""
        value = record.get("value")
        if not isinstance(value, Mapping):
            raise UsageError(f"fact {record.get('name')!r} has no value; give it a text, a number or a truth")
        return cls(str(record["name"]), value_from_record(value), bool(record.get("visible", False)))

    def to_record(self) -> dict[str, object]:
        """Return the dict of message Fact; raises ScopeError for a value that is not of the format."""
        return {"name": self.name, "value": value_to_record(self.value), "visible": self.visible}


@dataclass(frozen=True, slots=True)
class Session(Record):
    """One session at one revision. Times are ms since 1970-01-01 UTC.

    ``ceilings`` are layers of scope records (the dict of message Scope); a call must match a scope of
    each layer, unless the session is in ``observe`` mode, which ended at ``enforced_at_ms`` (0: it did not).
    ``lease_deadline_ms`` is 0 without a lease. ``open_permits`` were neither committed nor released,
    ``open_approvals`` wait for an answer: both are 0 where a session was read by itself.

    A session that a server answers with has its effective status, as a check finds it. If an ancestor has
    ended or is suspended, so is the session, and ``inherited_from`` is that ancestor's id; else it is empty.
    """

    message: ClassVar[str] = "SessionRecord"

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
    observe: bool = False
    enforced_at_ms: int = 0
    inherited_from: bytes = b""

    def __repr__(self) -> str:
        """Return one line: the id in hex, the status, the parties, and the ceiling as scope text."""
        ceiling = [[str(Scope.from_record(scope)) for scope in layer] for layer in self.ceilings]
        parties = f"subject={self.subject!r} purpose={self.purpose!r} owner={self.owner!r}"
        return f"<Session {self.id.hex()} {self.status.name} {parties} ceiling={ceiling}>"

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        rows: list[tuple[str, object]] = [
            (name, getattr(self, name)) for name in ("subject", "purpose", "owner") if getattr(self, name)
        ]
        rows += [
            ("status", self.status.name + (" in observe mode" if self.observe else "")),
            ("reason", self.reason),
            ("opened", utc_text(self.opened_at_ms)),
            ("ended" if self.ended_at_ms else "ends", utc_text(self.ended_at_ms or self.ends_at_ms())),
        ]
        for number, layer in enumerate(self.ceilings):
            rows.append((f"ceiling, layer {number}", [str(Scope.from_record(scope)) for scope in layer]))
        return html_table(f"Session {self.id.hex()}", [row for row in rows if row[1]])

    @classmethod
    def from_record(cls, record: Mapping[str, Any], lease_deadline_ms: int = 0) -> Self:
        """Read the dict of message SessionRecord, with the deadline that the leases table holds."""
        values = {
            **record,
            "status": SessionStatus(record["status"]),
            "end_cause": EndCause(record["end_cause"]),
            "ceilings": tuple([tuple(layer["scopes"]) for layer in record["ceilings"]]),
            "facts": tuple(map(Fact.from_record, record["facts"])),
            "labels": {label["name"]: label["value"] for label in record["labels"]},
            "issuer_key_ids": tuple(record["issuer_key_ids"]),
            "lease_deadline_ms": lease_deadline_ms if record["lease_ms"] else 0,
            **_READ_ELSEWHERE,
        }
        return kernel.new_record(cls, values)

    @classmethod
    def decode(cls, data: bytes, lease_deadline_ms: int = 0) -> Self:
        """Read an encoded SessionRecord; raises ``protobuf.WireError`` if it is not canonical."""
        return cls.from_record(kernel.decode_message("SessionRecord", data), lease_deadline_ms)

    def to_record(self) -> dict[str, object]:
        """Return the dict of message SessionRecord, without the fields that have rows of their own."""
        record: dict[str, object] = {name: getattr(self, name) for name in _STORED}
        record["ceilings"] = [{"scopes": layer} for layer in self.ceilings]
        record["labels"] = label_records(self.labels)
        return record

    def ends_at_ms(self) -> int:
        """Return the time at which it ends by itself: the earlier of hard end and lease deadline, in ms."""
        if self.lease_ms and self.lease_deadline_ms:
            return min(self.expires_at_ms, self.lease_deadline_ms)
        return self.expires_at_ms


_STORED: Final = tuple(name for name in Session.__slots__ if name not in _IN_OTHER_ROWS)


def search_text(session: Session) -> str:
    """Return the id in hex and the texts that a search finds, as casefolded lines.

    A label reads ``name=value``.
    """
    labels = (f"{name}={value}" for name, value in session.labels.items())
    return "\n".join((session.id.hex(), session.subject, session.purpose, session.owner, *labels)).casefold()


def fits_words(session: Session, words: str) -> bool:
    """Return True if each word begins the id, or is in a text of :func:`search_text`, in any case."""
    text = search_text(session)
    return all(text.startswith(word) or word in text[32:] for word in words.casefold().split())


class SessionTerms(TypedDict, total=False):
    """Terms of a new session that pass by name from the client to the log. Times are in ms.

    Ids are bytes in the log; a client takes their hex digits too.
    """

    subject: Required[str]
    purpose: str
    owner: str
    parent_id: bytes | str
    ttl_ms: int
    lease_ms: int
    issuer_key_ids: Sequence[bytes | str]
    observe: bool


def label_records(labels: Mapping[str, str]) -> list[dict[str, object]]:
    """Return labels as dicts of message Label, sorted by name."""
    return [{"name": name, "value": labels[name]} for name in sorted(labels)]


def fact_records(facts: Iterable[Fact]) -> list[dict[str, object]]:
    """Return facts as dicts of message Fact, sorted by name."""
    return [fact.to_record() for fact in sorted(facts, key=lambda fact: fact.name)]


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


@dataclass(frozen=True, slots=True)
class LoginCut(Record):
    """Moments of logins of an identity provider, each the latest stated one, in ms since 1970.

    They are those of a ``subject`` (the provider's ``sub``), of a ``sid``, or without both of the ``issuer``.
    ``without_sid``: of the subject those alone that have no ``sid``. Logins up to ``up_to_ms`` don't count.
    Each pair of moments says when something began to be so and when it last ceased to be. ``place`` is the
    latest one in the queue of cuts. What a token says that was issued up to ``claims_ms`` no longer holds.
    """

    issuer: str
    subject: str
    sid: str
    up_to_ms: int
    keep_until_ms: int
    reason: str
    cut_by: str
    cut_at_ms: int
    place: int
    without_sid: bool = False
    disabled_ms: int = 0
    enabled_ms: int = 0
    noncompliant_ms: int = 0
    compliant_ms: int = 0
    high_risk_ms: int = 0
    low_risk_ms: int = 0
    claims_ms: int = 0

    @property
    def is_disabled(self) -> bool:
        """True while the provider's account is disabled: no token of it counts, whenever its login was."""
        return 0 < self.disabled_ms >= self.enabled_ms

    @property
    def unsafe_ms(self) -> tuple[int, int]:
        """Up to when logins are suspended for the user's device, and for the user's risk; 0 for not."""
        device_ms = self.noncompliant_ms if self.noncompliant_ms >= self.compliant_ms else 0
        return device_ms, self.high_risk_ms if self.high_risk_ms >= self.low_risk_ms else 0


MOMENTS: Final = (
    "up_to_ms",
    "disabled_ms",
    "enabled_ms",
    "noncompliant_ms",
    "compliant_ms",
    "high_risk_ms",
    "low_risk_ms",
    "claims_ms",
)
"""The moments of a :class:`LoginCut`."""


class SessionLookup(Protocol):
    """A reader of sessions by id."""

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session."""


def lineage(session: Session | None, read: Callable[[bytes], Session | None]) -> Iterator[Session]:
    """Yield a session and its ancestors, the parent first, up to the first that ``read`` does not find.

    ``read`` is called for an ancestor only once the session before it was used.
    """
    for _ in range(MAX_ANCESTORS + 1):
        if session is None:
            return
        yield session
        session = read(session.parent_id) if session.parent_id else None


def ancestor_ids(session: Session, read: Callable[[bytes], Session | None]) -> tuple[bytes, ...]:
    """Return the ids of a session's ancestors, the parent first; a purged one is the last that is known."""
    return tuple(member.parent_id for member in lineage(session, read) if member.parent_id)


def ceiling_layers(session_id: bytes, read: Callable[[bytes], Session | None]) -> Iterator[list[Scope]]:
    """Yield the layers of a session's ceiling and then its ancestors', as a check counts them."""
    for session in lineage(read(session_id) if session_id else None, read):
        for layer in session.ceilings:
            yield [Scope.from_record(scope) for scope in layer]
