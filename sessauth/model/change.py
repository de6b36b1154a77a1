"""A Change, the only way to write state, and its outcome.

A change is built by one of the functions below, stamped with the writer's clock, applied by
``sessauth.state.rules.apply`` and ordered by the log. Its id is the caller's request id: a repeated id
returns the first outcome, or the rejection ``CONFLICT`` if the content differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum, StrEnum
from typing import Any, ClassVar, Self, Unpack

from .._fast import _check as kernel
from .._fast.codec.record import Record
from ..crypto.issuer_key import KeyStatus
from ..errors import Rejected
from .approval import ApprovalRecord, SignedApproval
from .ban import SessionSelector
from .session import EndCause, Fact, ScopeRecord, SessionTerms, fact_records, label_records

FORMAT = 1
_DIGEST_LABEL = b"sessauth/change-content/v1\x00"
# The parts of a Consume that a retry has in common with the first attempt.
_RETRIED = ("gateway", "token_digest", "request_digest")


class ChangeKind(Enum):
    """The effect of a change; the value is the name of its body's field."""

    OPEN_SESSION = "open_session"
    NARROW_SESSION = "narrow_session"
    UPDATE_FACTS = "update_facts"
    SUSPEND_SESSION = "suspend_session"
    RESUME_SESSION = "resume_session"
    END_SESSION = "end_session"
    REVOKE = "revoke"
    ADD_KEY = "add_key"
    SET_KEY_STATUS = "set_key_status"
    PURGE_SESSION = "purge_session"
    NEW_INCARNATION = "new_incarnation"
    CONSUME = "consume"
    SETTLE_PERMIT = "settle_permit"
    REQUEST_APPROVAL = "request_approval"
    ANSWER_APPROVAL = "answer_approval"
    ADD_CREDENTIAL = "add_credential"
    REMOVE_CREDENTIAL = "remove_credential"
    BAN_SESSIONS = "ban_sessions"


class Rejection(StrEnum):
    """Every word that an outcome's ``rejection`` can be; stable."""

    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    ALREADY_ENDED = "ALREADY_ENDED"
    EPOCH_MISMATCH = "EPOCH_MISMATCH"
    CONFLICT = "CONFLICT"
    WIDENS = "WIDENS"
    PARENT_NOT_LIVE = "PARENT_NOT_LIVE"
    WRONG_STATUS = "WRONG_STATUS"
    LIMIT = "LIMIT"
    INVALID = "INVALID"
    COMPACTED = "COMPACTED"
    USES_EXHAUSTED = "USES_EXHAUSTED"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    APPROVAL_USED = "APPROVAL_USED"
    APPROVAL_DENIED = "APPROVAL_DENIED"
    BAD_APPROVAL = "BAD_APPROVAL"
    BAD_PERMIT = "BAD_PERMIT"
    LAST_OPERATOR = "LAST_OPERATOR"
    BANNED = "BANNED"
    FROZEN = "FROZEN"


@dataclass(frozen=True, slots=True)
class Change:
    """One change. ``at_ms`` is the writer's clock, 0 until the log stamps it."""

    id: str
    kind: ChangeKind
    body: Mapping[str, object]
    session_id: bytes = b""
    actor: str = ""
    expected_epoch: int = 0
    at_ms: int = 0
    format: int = FORMAT

    def to_record(self) -> dict[str, object]:
        """Return the dict of message Change."""
        names = ("format", "id", "session_id", "actor", "at_ms", "expected_epoch")
        return {**{name: getattr(self, name) for name in names}, self.kind.value: self.body}

    def encode(self) -> bytes:
        """Return the canonical bytes; raises ``protobuf.WireError`` for a value out of range."""
        return kernel.encode_message("Change", self.to_record())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded Change; raises ``protobuf.WireError`` if it is not canonical or has no body."""
        record: dict[str, Any] = kernel.decode_message("Change", data)
        for kind in ChangeKind:
            body = record.pop(kind.value)
            if body is not None:
                break
        else:
            raise kernel.WireError("a Change without a body, or of a kind that this version does not know")
        names = {item.name for item in fields(cls)}
        return cls(kind=kind, body=body, **{name: value for name, value in record.items() if name in names})

    def stamped(self, at_ms: int) -> Change:
        """Return a copy with the writer's clock, in ms since 1970."""
        return replace(self, at_ms=at_ms)

    def digest(self) -> bytes:
        """Return the BLAKE2b-256 of the content: without the clock, and without the id made for an open.

        A consumption counts by gateway, token and request alone: each attempt computes its own costs.
        """
        content = replace(self, at_ms=0)
        if self.kind is ChangeKind.OPEN_SESSION:
            content = replace(content, session_id=b"")
        elif self.kind is ChangeKind.CONSUME:
            body = {name: self.body.get(name) for name in _RETRIED}
            content = replace(content, body=body, actor="", expected_epoch=0)
        return hashlib.blake2b(_DIGEST_LABEL + content.encode(), digest_size=32).digest()


@dataclass(frozen=True, slots=True)
class ChangeOutcome(Record):
    """The log's answer to a change. An empty ``rejection`` means applied.

    ``revision`` is the one at which the change is visible (for a rejection: at which it was evaluated).
    ``permit_id`` (16 bytes, or empty) and ``permit_deadline_ms`` are those of a consumption's permit.
    """

    message: ClassVar[str] = "Outcome"

    change_id: str
    digest: bytes = field(repr=False, default=b"")
    rejection: str = ""
    detail: str = ""
    revision: int = 0
    seq: int = 0
    session_id: bytes = b""
    epoch: int = 0
    at_ms: int = 0
    permit_id: bytes = b""
    permit_deadline_ms: int = 0

    @property
    def applied(self) -> bool:
        """True if the change was applied."""
        return not self.rejection

    def raise_if_rejected(self) -> Self:
        """Return self; raises Rejected with the word and the detail if the change was not applied."""
        if self.rejection:
            raise Rejected(self.rejection, self.detail)
        return self


def open_session(
    change_id: str,
    session_id: bytes,
    ceiling: Iterable[ScopeRecord],
    *,
    actor: str = "",
    facts: Iterable[Fact] = (),
    labels: Mapping[str, str] | None = None,
    expires_at_ms: int = 0,
    **terms: Unpack[SessionTerms],
) -> Change:
    """Open a session with 16 random bytes as its id.

    Give ``ttl_ms`` (clamped to the parent's hard end) or ``expires_at_ms`` (rejected beyond it).
    """
    body = {
        **terms,
        "ceiling": {"scopes": list(ceiling)},
        "facts": fact_records(facts),
        "labels": label_records(labels or {}),
        "expires_at_ms": expires_at_ms,
    }
    return Change(change_id, ChangeKind.OPEN_SESSION, body, session_id, actor)


def narrow_session(
    change_id: str,
    session_id: bytes,
    ceiling: Iterable[ScopeRecord],
    *,
    actor: str = "",
    expected_epoch: int = 0,
    enforce: bool = False,
) -> Change:
    """Narrow a session's ceiling: every call must also match one of these scopes.

    ``enforce`` ends observe mode, also without scopes.
    """
    body: dict[str, object] = {"ceiling": {"scopes": list(ceiling)}, "enforce": enforce}
    return Change(change_id, ChangeKind.NARROW_SESSION, body, session_id, actor, expected_epoch)


def update_facts(
    change_id: str,
    session_id: bytes,
    *,
    set_facts: Iterable[Fact] = (),
    remove: Iterable[str] = (),
    actor: str = "",
    expected_epoch: int = 0,
) -> Change:
    """Set and remove facts; the next check uses them."""
    body = {"set": fact_records(set_facts), "remove": sorted(remove)}
    return Change(change_id, ChangeKind.UPDATE_FACTS, body, session_id, actor, expected_epoch)


def suspend_session(
    change_id: str, session_id: bytes, reason: str = "", *, actor: str = "", expected_epoch: int = 0
) -> Change:
    """Suspend an active session until it is resumed."""
    return Change(
        change_id, ChangeKind.SUSPEND_SESSION, {"reason": reason}, session_id, actor, expected_epoch
    )


def resume_session(
    change_id: str, session_id: bytes, reason: str = "", *, actor: str = "", expected_epoch: int = 0
) -> Change:
    """Resume a suspended session."""
    return Change(change_id, ChangeKind.RESUME_SESSION, {"reason": reason}, session_id, actor, expected_epoch)


def end_session(
    change_id: str, session_id: bytes, reason: str = "", *, actor: str = "", cause: EndCause = EndCause.ASKED
) -> Change:
    """End a session for good, with all that descends from it."""
    return Change(
        change_id, ChangeKind.END_SESSION, {"reason": reason, "cause": int(cause)}, session_id, actor
    )


def revoke(
    change_id: str, session_id: bytes, block_ids: Iterable[bytes], reason: str = "", *, actor: str = ""
) -> Change:
    """Revoke blocks (32-byte ids) of a session's tokens, with all blocks below them."""
    return Change(
        change_id, ChangeKind.REVOKE, {"block_ids": list(block_ids), "reason": reason}, session_id, actor
    )


def add_key(
    change_id: str,
    public_key: bytes,
    *,
    owner: str = "",
    status: KeyStatus = KeyStatus.PREPARED,
    actor: str = "",
) -> Change:
    """Add an issuer key, PREPARED or ACTIVE."""
    body = {"public_key": public_key, "owner": owner, "status": int(status)}
    return Change(change_id, ChangeKind.ADD_KEY, body, actor=actor)


def set_key_status(change_id: str, key_id: bytes, status: KeyStatus, *, actor: str = "") -> Change:
    """Move an issuer key forward in its life."""
    return Change(
        change_id, ChangeKind.SET_KEY_STATUS, {"key_id": key_id, "status": int(status)}, actor=actor
    )


def add_credential(
    change_id: str,
    name: str,
    role: str,
    secret_hash: bytes,
    *,
    audiences: Iterable[str] = (),
    actor: str = "",
) -> Change:
    """Let a caller call every host of a cluster, by the BLAKE2b-256 of its secret."""
    body = {"name": name, "role": role, "audiences": list(audiences), "secret_hash": secret_hash}
    return Change(change_id, ChangeKind.ADD_CREDENTIAL, body, actor=actor)


def remove_credential(change_id: str, name: str, *, actor: str = "") -> Change:
    """Refuse all calls of a caller from now on."""
    return Change(change_id, ChangeKind.REMOVE_CREDENTIAL, {"name": name}, actor=actor)


def ban_sessions(
    change_id: str, selector: SessionSelector, for_ms: int, reason: str = "", *, actor: str = ""
) -> Change:
    """Refuse new sessions that a selector fits, for so many ms; 0 lifts its ban."""
    body = {"selector": selector.to_record(), "for_ms": for_ms, "reason": reason}
    return Change(change_id, ChangeKind.BAN_SESSIONS, body, actor=actor)


def purge_session(change_id: str, session_id: bytes, *, actor: str = "") -> Change:
    """Remove an ended session's row with its revocations."""
    return Change(change_id, ChangeKind.PURGE_SESSION, {}, session_id, actor)


def new_incarnation(
    change_id: str, incarnation: bytes, clock_floor_ms: int, reason: str = "", *, actor: str = ""
) -> Change:
    """Start a new incarnation (16 random bytes): ends every session and sets the clock floor, in ms."""
    body = {"incarnation": incarnation, "clock_floor_ms": clock_floor_ms, "reason": reason}
    return Change(change_id, ChangeKind.NEW_INCARNATION, body, actor=actor)


def request_approval(change_id: str, approval: ApprovalRecord, *, actor: str = "") -> Change:
    """Request an approval: a pending one with 16 random bytes as its id, without answers."""
    body = {"approval": approval.to_record()}
    return Change(change_id, ChangeKind.REQUEST_APPROVAL, body, approval.session_id, actor, approval.epoch)


def answer_approval(
    change_id: str,
    session_id: bytes,
    approval_id: bytes,
    *,
    statement: SignedApproval | None = None,
    deny: bool = False,
    reason: str = "",
    actor: str = "",
) -> Change:
    """Add a signed statement to an approval, or deny it with a reason: one of the two."""
    signed = None if statement is None else statement.to_record()
    body = {"approval_id": approval_id, "statement": signed, "deny": deny, "reason": reason}
    return Change(change_id, ChangeKind.ANSWER_APPROVAL, body, session_id, actor)


def expire_approval(change_id: str, session_id: bytes, approval_id: bytes, *, actor: str = "") -> Change:
    """Remove an approval that is past its expiry; the log's own."""
    body = {"approval_id": approval_id, "expire": True}
    return Change(change_id, ChangeKind.ANSWER_APPROVAL, body, session_id, actor)
