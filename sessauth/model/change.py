"""Changes of the state, the log's own records, and the costs that changes charge.

A :class:`Change` is the only way to write state. One of the functions below builds it, the writer stamps it
with its clock, ``sessauth.state.rules.apply`` applies it, and the log orders it. Its id is the caller's
request id: a repeated id returns the first outcome, or the rejection ``CONFLICT`` if the content differs.

Records of the log beside sessions are its head, results of changes, and incarnations. Costs of calls are
claims on uses and budgets, ledgers, permits, and the changes that charge and refund; amounts are exact
(:class:`sessauth.scopes.value.Number`). Each class mirrors one message of ``log_record.proto`` or
``record.proto``.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum, IntEnum, StrEnum
from typing import Any, ClassVar, Final, Self, Unpack

from .._fast import _check as kernel
from .._fast.codec import base64url
from .._fast.codec.record import Record
from ..crypto.keys import KeyStatus
from ..errors import Rejected
from ..scopes.value import NANOS, Number
from .approval import ApprovalRecord, SignedApproval
from .session import EndCause, Fact, ScopeRecord, SessionSelector, SessionTerms, fact_records, label_records


@dataclass(frozen=True, slots=True)
class Head(Record):
    """A position in the log. ``revision`` moves with each applied change, ``seq`` with each logged one.

    A session whose row is older than ``incarnation_revision`` ended then.
    """

    format: int
    min_reader_format: int
    cluster_id: bytes
    incarnation: bytes
    revision: int = 0
    seq: int = 0
    clock_floor_ms: int = 0
    keys_generation: int = 0
    digest: bytes = b""
    incarnation_revision: int = 0


@dataclass(frozen=True, slots=True)
class ChangeResult(Record):
    """The result of a logged change. An empty ``rejection`` means applied.

    ``revision`` is the one at which it is visible, or for a rejection at which it was evaluated. ``epoch`` is
    the session's after a change of its life, 0 for other changes. ``purged_id`` is the session of a purge.
    """

    revision: int
    rejection: str = ""
    epoch: int = 0
    incarnation: bytes = b""
    purged_id: bytes = b""


@dataclass(frozen=True, slots=True)
class SessionTrace(Record):
    """The remainder of a purged session: its owner, and its ancestors, nearest first."""

    owner: str = ""
    ancestor_ids: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class IncarnationRecord(Record):
    """A new incarnation: when, and why, it ended each session that had not ended.

    ``previous_revision`` is the revision at which the one before it began, 0 if there was none.
    """

    at_ms: int
    reason: str = ""
    previous_revision: int = 0


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
    CUT_LOGINS = "cut_logins"


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
        return {
            "format": self.format,
            "id": self.id,
            "session_id": self.session_id,
            "actor": self.actor,
            "at_ms": self.at_ms,
            "expected_epoch": self.expected_epoch,
            self.kind.value: self.body,
        }

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
        content = self.to_record()
        content["at_ms"] = 0
        if self.kind is ChangeKind.OPEN_SESSION:
            content["session_id"] = b""
        elif self.kind is ChangeKind.CONSUME:
            content[self.kind.value] = {name: self.body.get(name) for name in _RETRIED}
            content["actor"], content["expected_epoch"] = "", 0
        encoded = kernel.encode_message("Change", content)
        return hashlib.blake2b(_DIGEST_LABEL + encoded, digest_size=32).digest()


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
    mint_digest: bytes = b"",
    **terms: Unpack[SessionTerms],
) -> Change:
    """Open a session with 16 random bytes as its id.

    Give ``ttl_ms`` (clamped to the parent's hard end) or ``expires_at_ms`` (rejected beyond it).
    ``mint_digest`` is that of the request for its first token, 32 bytes, or empty.
    """
    body = {
        **terms,
        "ceiling": {"scopes": list(ceiling)},
        "facts": fact_records(facts),
        "labels": label_records(labels or {}),
        "expires_at_ms": expires_at_ms,
        "mint_digest": mint_digest,
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


def cut_logins(
    change_id: str,
    issuer: str,
    moments: Mapping[str, int],
    keep_ms: int,
    reason: str = "",
    *,
    subject: str = "",
    sid: str = "",
    without_sid: bool = False,
    actor: str = "",
) -> Change:
    """Move moments of logins of an identity provider forward (:data:`sessauth.model.session.MOMENTS`).

    The logins are those of one user (``subject``; ``without_sid``: which have no ``sid``), one login
    (``sid``), or without both all of the issuer. ``keep_ms`` is how long the moments are kept: longer than a
    token counts.
    """
    body = {
        "issuer": issuer,
        "subject": subject,
        "sid": sid,
        "keep_ms": keep_ms,
        "reason": reason,
        "without_sid": without_sid,
        **moments,
    }
    return Change(change_id, ChangeKind.CUT_LOGINS, body, actor=actor)


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


# The log's own name space, which no request id of a caller can reach.
RETRY_PREFIX: Final = "sessauth/retry/"
ONCE_PREFIX: Final = "sessauth/once/"
ZERO: Final = Number(0)
_RETRY_LABEL = b"sessauth/retry/v1\x00"
_LEDGER_LABEL = b"sessauth/ledger/v1\x00"


class Settlement(IntEnum):
    """The ways to close a permit. COMMIT spends its reserve, the other two release it."""

    UNSPECIFIED = 0
    COMMIT = 1
    RELEASE = 2
    EXPIRE = 3


@dataclass(frozen=True, slots=True)
class UseClaim(Record):
    """One use of a scope (its block's id, 32 bytes, and its index there) that may be used ``limit`` times."""

    block_id: bytes
    scope: int
    limit: int


@dataclass(frozen=True, slots=True)
class BudgetClaim(Record):
    """``amount`` from a ledger of the session (32 bytes, :func:`ledger_id`) that may reach ``limit``."""

    ledger: bytes
    amount: Number
    limit: Number


@dataclass(frozen=True, slots=True)
class Permit(Record):
    """An open permit and its reserve. ``id`` is 16 bytes, both digests 32; times are ms since 1970."""

    message: ClassVar[str] = "PermitRecord"

    id: bytes
    session_id: bytes
    gateway: str
    epoch: int
    token_digest: bytes
    request_digest: bytes
    deadline_ms: int
    reserved: tuple[BudgetClaim, ...] = ()

    @property
    def handle(self) -> bytes:
        """The gateway's name for it: 32 bytes, session id and id."""
        return self.session_id + self.id


@dataclass(frozen=True, slots=True)
class Ledger(Record):
    """A budget of a session: the amounts spent, and reserved by open permits."""

    message: ClassVar[str] = "LedgerRecord"

    spent: Number = ZERO
    reserved: Number = ZERO


@dataclass(frozen=True, slots=True)
class SessionCounts(Record):
    """A session's numbers of open things and of ``counters``: uses, ledgers, used-up approvals.

    The approvals wait only while the session is at ``approvals_epoch``.
    """

    open_permits: int = 0
    open_approvals: int = 0
    approvals_epoch: int = 0
    counters: int = 0

    def waiting(self, epoch: int) -> int:
        """Return the number of approvals that wait for an answer in a session at ``epoch``."""
        return self.open_approvals if self.approvals_epoch == epoch else 0


def nanos(number: Number) -> int:
    """Return a number in units of 10^-9, an integer that can't overflow."""
    return number.units * NANOS + number.nanos


def remaining_of(limit: Number, ledger: Ledger) -> Number:
    """Return the part of ``limit`` that is neither spent nor reserved, at least 0."""
    return Number(*divmod(max(nanos(limit) - nanos(ledger.spent) - nanos(ledger.reserved), 0), NANOS))


def ledger_id(name: str, unit: str, block_id: bytes = b"") -> bytes:
    """Return the ledger of a budget (``docs/token-format.md``, section 9.10).

    ``block_id`` (32 bytes) is empty for a budget of a root block.
    """
    parts = b"".join(len(part).to_bytes(4, "big") + part for part in (name.encode(), unit.encode()))
    return hashlib.blake2b(_LEDGER_LABEL + parts + block_id, digest_size=32).digest()


def retry_change_id(gateway: str, retry_id: bytes) -> str:
    """Return the change id of every attempt that a gateway calls ``retry_id``."""
    name = gateway.encode()
    digest = hashlib.blake2b(
        _RETRY_LABEL + len(name).to_bytes(4, "big") + name + retry_id, digest_size=32
    ).digest()
    return RETRY_PREFIX + base64url.encode(digest)


def once_change_id() -> str:
    """Return a change id that never comes again, so that its outcome need not be kept."""
    return ONCE_PREFIX + secrets.token_hex(16)


def consume(
    change_id: str,
    session_id: bytes,
    *,
    gateway: str,
    token_digest: bytes,
    request_digest: bytes,
    expected_epoch: int,
    uses: Iterable[UseClaim] = (),
    budgets: Iterable[BudgetClaim] = (),
    approval_ids: Iterable[bytes] = (),
    permit_id: bytes = b"",
    permit_deadline_ms: int = 0,
) -> Change:
    """Charge the costs of a call, all of them or none, in a session that must be at ``expected_epoch``.

    ``change_id`` comes from :func:`retry_change_id` or :func:`once_change_id`. ``token_digest`` is the
    BLAKE2b-256 of the presented token, ``request_digest`` that of section 8.1. With a ``permit_id`` (16
    random bytes) amounts are reserved until ``permit_deadline_ms``, else they are spent.
    """
    body = {
        "gateway": gateway,
        "token_digest": token_digest,
        "request_digest": request_digest,
        "uses": [claim.to_record() for claim in uses],
        "budgets": [claim.to_record() for claim in budgets],
        "approval_ids": list(approval_ids),
        "permit": {"id": permit_id, "deadline_ms": permit_deadline_ms} if permit_id else None,
    }
    return Change(change_id, ChangeKind.CONSUME, body, session_id, gateway, expected_epoch)


def settle_permit(
    change_id: str,
    session_id: bytes,
    permit_id: bytes,
    settlement: Settlement,
    *,
    gateway: str = "",
    actor: str = "",
) -> Change:
    """Close an open permit (16-byte id): the gateway's own commits and releases, the log's own expires."""
    body = {"permit_id": permit_id, "gateway": gateway, "settlement": int(settlement)}
    return Change(change_id, ChangeKind.SETTLE_PERMIT, body, session_id, actor or gateway)
