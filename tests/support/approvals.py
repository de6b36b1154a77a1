"""Approvals for tests: terms of one call, records that ask for it, statements by named keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sessauth.approvals.approver import ApproverKey
from sessauth.model.approval import (
    ApprovalCharge,
    ApprovalRecord,
    ApprovalStatement,
    ApprovalStatus,
    ApprovalTerms,
    SignedApproval,
    terms_of,
)
from sessauth.scopes.value import Number
from tests.oracle.crypto import digest
from tests.support.token_forger import id16, key
from tests.vectors.world import NOW

HOUR_MS = 3_600_000
ACTION, RESOURCE, ARGUMENTS = "deploy", "prod/api", b'{"version": "1.2"}'
KEYS = ("ann", "bob", "cas")
# What an approval that takes 4 EUR of 10 says of its scope.
SPENDING = {
    "scope_text": "deploy:prod/**",
    "charges": (ApprovalCharge("trip", "EUR", bytes(32), Number(4), Number(10)),),
}


def approver(name: str) -> ApproverKey:
    """The approver's key of a name."""
    return ApproverKey(key(f"approver {name}").seed)


def request_digest(action: str, resource: str, arguments: bytes) -> bytes:
    """The digest of section 8.1, written out a second time."""
    parts = (action.encode(), resource.encode(), arguments or b"{}")
    return digest(
        b"sessauth/request/v1\x00" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    )


def record(**changes: Any) -> ApprovalRecord:
    """An approval that waits: two of three keys must sign one deployment."""
    asked = ApprovalRecord(
        id=id16("approval"),
        session_id=id16("session"),
        block_id=digest(b"last block"),
        block=0,
        scope=1,
        epoch=3,
        request_digest=request_digest(ACTION, RESOURCE, ARGUMENTS),
        threshold=2,
        keys=tuple(approver(name).public_key for name in KEYS),
        action=ACTION,
        resource=RESOURCE,
        arguments=ARGUMENTS,
        labels=("planner", "worker"),
        gateway="gateway-1",
        requested_at_ms=NOW,
        expires_at_ms=NOW + 2 * HOUR_MS,
    )
    return replace(asked, **changes)


def terms(**changes: Any) -> ApprovalTerms:
    """The terms of that record."""
    return replace(terms_of(record()), **changes)


def statement(**changes: Any) -> ApprovalStatement:
    """Return an approver's statement on that record."""
    asked = record()
    stated = ApprovalStatement(
        asked.id,
        asked.session_id,
        asked.block_id,
        asked.block,
        asked.scope,
        asked.epoch,
        asked.request_digest,
        NOW + HOUR_MS,
    )
    return replace(stated, **changes)


def signed(name: str = "ann", **changes: Any) -> SignedApproval:
    """The statement, signed by a named key."""
    return approver(name).sign(statement(**changes))


def encoded_statements(*names: str, **changes: Any) -> list[bytes]:
    """Return statements as a request carries them."""
    return [signed(name, **changes).encode() for name in names]


def held(*names: str, status: ApprovalStatus = ApprovalStatus.PENDING, **changes: Any) -> ApprovalRecord:
    """The record with statements of named keys."""
    return record(status=status, statements=tuple(map(signed, names)), **changes)
