"""Signed approvals and the record of an approval that was asked for, as bytes and as values.

Nothing is judged here: whether a signed approval counts, ``sessauth.model.approval_rules`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum
from typing import Any, Self

from .._fast.codec import protobuf
from ..crypto.armor import APPROVAL_PREFIX, checked_text, read_checked
from ..errors import InvalidApproval, MalformedToken

LABEL = b"sessauth/approval/v1\x00"


class ApprovalFault(StrEnum):
    """Why a signed approval does not count; stable."""

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
class ApprovalStatement:
    """What an approver signs: that one request may happen, once.

    ``id`` and ``session_id`` are 16 bytes, ``block_id`` (of the chain's last block) and
    ``request_digest`` 32. ``block`` and ``scope`` say where the scope stands that needs the approval.
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
            record: dict[str, Any] = protobuf.decode("ApprovalStatement", data)
        except protobuf.WireError as error:
            raise InvalidApproval(
                f"the statement is not canonical: {error}", ApprovalFault.NOT_CANONICAL
            ) from None
        return cls(**record)

    def encode(self) -> bytes:
        """Return the canonical bytes; raises ``protobuf.WireError`` for a value out of range."""
        return protobuf.encode("ApprovalStatement", _plain(self))


@dataclass(frozen=True, slots=True)
class SignedApproval:
    """An encoded statement with the Ed25519 public key (32 bytes) and signature (64) over it."""

    public_key: bytes
    signature: bytes
    statement: bytes

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read the dict of message SignedApproval."""
        return cls(record["public_key"], record["signature"], record["statement"])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded SignedApproval; raises InvalidApproval if it is not canonical."""
        try:
            return cls.from_record(protobuf.decode("SignedApproval", data))
        except protobuf.WireError as error:
            raise InvalidApproval(f"it is not canonical: {error}", ApprovalFault.NOT_CANONICAL) from None

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the text form.

        Raises:
            InvalidApproval: saying whether it is no approval, truncated, damaged or against the format.
        """
        if not text.startswith(APPROVAL_PREFIX):
            raise InvalidApproval(
                f"not an approval: its text begins with {APPROVAL_PREFIX}", ApprovalFault.NOT_CANONICAL
            )
        try:
            return cls.decode(read_checked(APPROVAL_PREFIX, text, "approval"))
        except MalformedToken as error:
            raise InvalidApproval(str(error), ApprovalFault.NOT_CANONICAL) from None

    def to_record(self) -> dict[str, object]:
        """Return the dict of message SignedApproval."""
        return _plain(self)

    def encode(self) -> bytes:
        """Return the canonical bytes of message SignedApproval."""
        return protobuf.encode("SignedApproval", _plain(self))

    @property
    def text(self) -> str:
        """The text form, to hand on. It is worth one call, to whoever can make that call."""
        return checked_text(APPROVAL_PREFIX, self.encode())

    def signed_bytes(self) -> bytes:
        """Return what the signature covers."""
        return LABEL + self.statement


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """An approval that was asked for: what a person reads, and what was answered. Times are ms since 1970.

    ``threshold`` of ``keys`` must sign. ``labels`` are those of the chain's blocks, outermost first;
    ``gateway`` is the principal that asked.
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

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read the dict of message ApprovalRecord; raises ValueError for an unknown status."""
        value = dict(record)
        value["keys"] = tuple(value["keys"])
        value["labels"] = tuple(value["labels"])
        value["status"] = ApprovalStatus(value["status"])
        value["statements"] = tuple(map(SignedApproval.from_record, value["statements"]))
        return cls(**value)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded ApprovalRecord; raises ``protobuf.WireError`` or ValueError if it can't be read."""
        return cls.from_record(protobuf.decode("ApprovalRecord", data))

    def to_record(self) -> dict[str, object]:
        """Return the dict of message ApprovalRecord."""
        record = _plain(self)
        record["keys"] = list(self.keys)
        record["labels"] = list(self.labels)
        record["status"] = int(self.status)
        record["statements"] = [each.to_record() for each in self.statements]
        return record

    def encode(self) -> bytes:
        """Return the canonical bytes of message ApprovalRecord."""
        return protobuf.encode("ApprovalRecord", self.to_record())

    def standing(self, now_ms: int) -> tuple[SignedApproval, ...]:
        """Return the statements that have not expired; what is stored was verified."""
        return tuple(
            signed
            for signed in self.statements
            if ApprovalStatement.decode(signed.statement).expires_at_ms > now_ms
        )

    def waits(self, now_ms: int) -> bool:
        """Whether more keys may sign: it is not over, denied or used up, and too few statements stand."""
        open_still = self.status in (ApprovalStatus.PENDING, ApprovalStatus.GRANTED)
        return open_still and now_ms < self.expires_at_ms and len(self.standing(now_ms)) < self.threshold


def _plain(value: ApprovalStatement | SignedApproval | ApprovalRecord) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in fields(value)}
