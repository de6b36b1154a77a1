"""The costs of calls: claims on uses and budgets, ledgers, permits, and the changes that charge and refund.

Each class mirrors one message of ``record.proto``. Amounts are exact (:class:`sessauth.scopes.value.Number`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from .._fast.codec import base64url
from .._fast.codec.record import Record
from ..scopes.value import NANOS, Number
from .change import Change, ChangeKind

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
