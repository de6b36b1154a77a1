"""Signed approvals, the record of a requested approval, and the rules by which signed approvals count.

:func:`check_statement` checks one signed approval strictly. :func:`judge_approvals` decides if all of them
together approve a call (``docs/token-format.md``, section 9.10). Both are pure, without clock and I/O, so
that every follower of the log agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Self

from .. import limits
from .._fast import _check as kernel
from .._fast.codec.record import Record
from ..crypto.armor import APPROVAL_PREFIX, checked_text, read_checked
from ..errors import InvalidApproval, MalformedToken
from ..reasons import Reason
from ..scopes.value import Number

LABEL = b"sessauth/approval/v1\x00"


class ApprovalFault(StrEnum):
    """The reasons for which a signed approval does not count; stable."""

    NOT_CANONICAL = "NOT_CANONICAL"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    WEAK_KEY = "WEAK_KEY"
    DUPLICATE_KEY = "DUPLICATE_KEY"
    OTHER_ID = "OTHER_ID"
    OTHER_SESSION = "OTHER_SESSION"
    OTHER_BLOCK = "OTHER_BLOCK"
    OTHER_SCOPE = "OTHER_SCOPE"
    OTHER_EPOCH = "OTHER_EPOCH"
    OTHER_REQUEST = "OTHER_REQUEST"
    EXPIRED = "EXPIRED"
    USED_UP = "USED_UP"
    TOO_MANY = "TOO_MANY"
    NOT_WAITING = "NOT_WAITING"
    BAD_SIGNATURE = "BAD_SIGNATURE"


class ApprovalStatus(IntEnum):
    """PENDING until enough have signed or one denied; USED by the one call that it allowed."""

    UNSPECIFIED = 0
    PENDING = 1
    GRANTED = 2
    DENIED = 3
    USED = 4


@dataclass(frozen=True, slots=True)
class ApprovalStatement(Record):
    """The statement that an approver signs: one request may happen, once.

    ``id`` and ``session_id`` are 16 bytes, ``block_id`` (of the chain's last block) and
    ``request_digest`` 32. ``block`` and ``scope`` are the place of the scope that needs the approval.
    ``expires_at_ms`` is in ms since 1970.
    """

    id: bytes
    session_id: bytes
    block_id: bytes
    block: int
    scope: int
    epoch: int
    request_digest: bytes
    expires_at_ms: int

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded ApprovalStatement; raises InvalidApproval if it is not canonical."""
        try:
            return cls.from_record(kernel.decode_message("ApprovalStatement", data))
        except kernel.WireError as error:
            raise InvalidApproval(
                f"the statement is not canonical: {error}", ApprovalFault.NOT_CANONICAL
            ) from None


@dataclass(frozen=True, slots=True)
class SignedApproval(Record):
    """An encoded statement with the Ed25519 public key (32 bytes) and signature (64) over it."""

    public_key: bytes
    signature: bytes
    statement: bytes

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded SignedApproval; raises InvalidApproval if it is not canonical."""
        try:
            return cls.from_record(kernel.decode_message("SignedApproval", data))
        except kernel.WireError as error:
            raise InvalidApproval(f"it is not canonical: {error}", ApprovalFault.NOT_CANONICAL) from None

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the text form.

        Raises InvalidApproval, saying whether it is no approval, truncated, damaged or against the format.
        """
        try:
            return cls.decode(read_checked(APPROVAL_PREFIX, text, "approval"))
        except MalformedToken as error:
            raise InvalidApproval(str(error), ApprovalFault.NOT_CANONICAL) from None

    @property
    def text(self) -> str:
        """The text form, to pass on. It is worth one call, to any holder who can make that call."""
        return checked_text(APPROVAL_PREFIX, self.encode())

    def signed_bytes(self) -> bytes:
        """Return the bytes that the signature covers."""
        return LABEL + self.statement


@dataclass(frozen=True, slots=True)
class ApprovalCharge(Record):
    """A budget of ``limit`` that a call would take ``amount`` from; ``ledger`` is its id (32 bytes)."""

    name: str
    unit: str
    ledger: bytes
    amount: Number
    limit: Number


@dataclass(frozen=True, slots=True)
class ApprovalRecord(Record):
    """A requested approval: the call that a person reads, and the answers. Times are ms since 1970.

    ``threshold`` of ``keys`` must sign. ``labels`` are those of the chain's blocks, outermost first;
    ``gateway`` is the principal that requested it. ``scope_text`` is the scope's text, and ``charges`` are
    the call's to budgets; a server of before, and a cluster that writes an earlier format, states neither.
    """

    id: bytes
    session_id: bytes
    block_id: bytes
    block: int
    scope: int
    epoch: int
    request_digest: bytes
    threshold: int
    keys: tuple[bytes, ...]
    action: str
    resource: str
    arguments: bytes = b""
    labels: tuple[str, ...] = ()
    gateway: str = ""
    requested_at_ms: int = 0
    expires_at_ms: int = 0
    status: ApprovalStatus = ApprovalStatus.PENDING
    statements: tuple[SignedApproval, ...] = ()
    denied_by: str = ""
    reason: str = ""
    revision: int = 0
    scope_text: str = ""
    charges: tuple[ApprovalCharge, ...] = ()

    def standing(self, now_ms: int) -> tuple[SignedApproval, ...]:
        """Return the statements that have not expired; each was verified before it was stored."""
        return tuple(
            signed
            for signed in self.statements
            if ApprovalStatement.decode(signed.statement).expires_at_ms > now_ms
        )

    def waits(self, now_ms: int) -> bool:
        """Return True if more keys may sign: not over, denied or used up, with too few statements so far."""
        open_still = self.status in (ApprovalStatus.PENDING, ApprovalStatus.GRANTED)
        return open_still and now_ms < self.expires_at_ms and len(self.standing(now_ms)) < self.threshold


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """The statements that count for one call, and the keys that may sign them.

    ``block_id`` is that of the chain's last block; ``block`` and ``scope`` are the place of the deciding
    scope, ``threshold`` and ``keys`` are that scope's; ``epoch`` is the session's now. ``request_digest``
    is that of section 8.1.
    """

    session_id: bytes
    block_id: bytes
    block: int
    scope: int
    epoch: int
    request_digest: bytes
    threshold: int
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ApprovalOutcome:
    """The result for a call. Only ALLOWED is a yes, and it uses ``approval_id`` up.

    ``reason`` is ALLOWED, APPROVAL_REQUIRED (too few), APPROVAL_DENIED or BAD_APPROVAL. For BAD_APPROVAL
    ``fault`` is the reason and ``place`` the index of the presented approval at fault. ``approval_id`` is 16
    bytes; empty where no approval was requested and none presented.
    """

    reason: Reason
    approval_id: bytes = b""
    counted: int = 0
    fault: str = ""
    place: int = -1

    def __bool__(self) -> bool:
        """Return True if enough keys signed."""
        return self.reason is Reason.ALLOWED


def terms_of(record: ApprovalRecord) -> ApprovalTerms:
    """Return the terms that an approval was requested by."""
    return ApprovalTerms(*(getattr(record, name) for name in ApprovalTerms.__slots__))


def check_statement(
    signed: SignedApproval, terms: ApprovalTerms, now_ms: int, *, approval_id: bytes = b""
) -> ApprovalStatement:
    """Return the statement of ``signed``, if it counts for ``terms`` at ``now_ms``, without leeway.

    Cheap checks come first and the signature last; at most one signature is verified. ``approval_id`` is the
    approval that it must be of; empty: of any. Raises InvalidApproval with an :class:`ApprovalFault` as its
    ``fault``, if it does not count.
    """
    statement = ApprovalStatement.decode(signed.statement)
    if len(statement.id) != 16 or len(signed.signature) != 64 or statement.expires_at_ms > limits.MAX_TIME_MS:
        raise InvalidApproval(
            "id, signature or expiry has a wrong size: sign the data as shown", ApprovalFault.NOT_CANONICAL
        )
    if signed.public_key not in terms.keys:
        raise InvalidApproval("the scope does not name the key that signed", ApprovalFault.UNKNOWN_KEY)
    if not kernel.acceptable_key(signed.public_key):
        raise InvalidApproval(
            "the key is of small order or not canonical: name another", ApprovalFault.WEAK_KEY
        )
    if approval_id and statement.id != approval_id:
        raise InvalidApproval("it belongs to another approval than the requested one", ApprovalFault.OTHER_ID)
    for name, fault in _EQUAL:
        if getattr(statement, name) != getattr(terms, name):
            raise InvalidApproval(f"its {name} is not that of this call: ask for the approval again", fault)
    if statement.expires_at_ms <= now_ms:
        raise InvalidApproval("it has expired: ask for the approval again", ApprovalFault.EXPIRED)
    if not kernel.verify(signed.public_key, signed.signed_bytes(), signed.signature):
        raise InvalidApproval("its signature is wrong", ApprovalFault.BAD_SIGNATURE)
    return statement


_EQUAL = (
    ("session_id", ApprovalFault.OTHER_SESSION),
    ("block_id", ApprovalFault.OTHER_BLOCK),
    ("block", ApprovalFault.OTHER_SCOPE),
    ("scope", ApprovalFault.OTHER_SCOPE),
    ("epoch", ApprovalFault.OTHER_EPOCH),
    ("request_digest", ApprovalFault.OTHER_REQUEST),
)


def judge_approvals(
    presented: Sequence[bytes],
    stored: Sequence[ApprovalRecord],
    terms: ApprovalTerms,
    now_ms: int,
    *,
    is_used: Callable[[bytes], bool],
) -> ApprovalOutcome:
    """Evaluate whether the approvals that came with a call and those in the state approve it.

    ``presented`` are the encoded SignedApprovals that came with it; each must count. ``stored`` are those of
    the session in the state. Those of other terms, expired or used up are ignored, so that a caller may pass
    all of them. Their signatures were verified before they were stored. ``is_used`` returns True if the
    session used up the approval of an id (16 bytes).
    """
    record = _in_force(stored, terms, now_ms, is_used)
    keys = {signed.public_key for signed in record.standing(now_ms)} if record else set()
    approval_id = record.id if record else b""
    if len(presented) > terms.threshold:
        return ApprovalOutcome(
            Reason.BAD_APPROVAL, approval_id, fault=ApprovalFault.TOO_MANY, place=terms.threshold
        )
    for place, data in enumerate(presented):
        try:
            signed, statement = _counted(data, keys, terms, now_ms, approval_id)
            if not approval_id and is_used(statement.id):
                raise InvalidApproval("it was used up by another call", ApprovalFault.USED_UP)
        except InvalidApproval as error:
            return ApprovalOutcome(Reason.BAD_APPROVAL, approval_id, fault=error.fault, place=place)
        approval_id = statement.id
        keys.add(signed.public_key)
    if record is not None and record.status is ApprovalStatus.DENIED:
        return ApprovalOutcome(Reason.APPROVAL_DENIED, approval_id, len(keys))
    if terms.threshold < 1 or len(keys) < terms.threshold:
        return ApprovalOutcome(Reason.APPROVAL_REQUIRED, approval_id, len(keys))
    return ApprovalOutcome(Reason.ALLOWED, approval_id, len(keys))


def _in_force(
    stored: Sequence[ApprovalRecord], terms: ApprovalTerms, now_ms: int, is_used: Callable[[bytes], bool]
) -> ApprovalRecord | None:
    """Return the request for this call that still counts; a denied one before any other."""
    fitting = [
        record
        for record in stored
        if terms_of(record) == terms
        and record.expires_at_ms > now_ms
        and record.status in (ApprovalStatus.PENDING, ApprovalStatus.GRANTED, ApprovalStatus.DENIED)
        and not is_used(record.id)
    ]
    denied = [record for record in fitting if record.status is ApprovalStatus.DENIED]
    return next(iter(denied or fitting), None)


def _counted(
    data: bytes, keys: set[bytes], terms: ApprovalTerms, now_ms: int, approval_id: bytes
) -> tuple[SignedApproval, ApprovalStatement]:
    """Return a presented approval and its statement; raises InvalidApproval if it does not count."""
    signed = SignedApproval.decode(data)
    if signed.public_key in keys:
        raise InvalidApproval("its key has signed already", ApprovalFault.DUPLICATE_KEY)
    return signed, check_statement(signed, terms, now_ms, approval_id=approval_id)
