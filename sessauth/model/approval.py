"""Signed approvals and the record of a requested approval, as bytes and as values.

Nothing is evaluated here: ``sessauth.model.approval_rules`` says which signed approvals count.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Self

from .._fast import _check as kernel
from .._fast.codec.record import Record
from ..crypto.armor import APPROVAL_PREFIX, checked_text, read_checked
from ..errors import InvalidApproval, MalformedToken
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

        Raises:
            InvalidApproval: saying whether it is no approval, truncated, damaged or against the format.
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
