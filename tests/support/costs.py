"""Costs of calls in tests: consumptions, approvals that are asked for, and statements signed by seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sessauth._fast import _check as kernel
from sessauth.model.approval import ApprovalRecord, ApprovalStatement, SignedApproval
from sessauth.model.change import BudgetClaim, Change, UseClaim, consume, ledger_id, once_change_id
from sessauth.scopes.value import Number
from tests.support.changes import HOUR, NOW

GATEWAY = "gateway-a"
BLOCK = b"b" * 32
TOKEN = b"t" * 32
REQUEST = b"r" * 32
LEDGER = ledger_id("money", "EUR")
SEEDS = tuple(bytes([number]) * 32 for number in range(1, 5))
KEYS = tuple(map(kernel.public_key, SEEDS))


def spending(session_id: bytes, change_id: str = "", **given: Any) -> Change:
    """Return a consumption at epoch 1 by GATEWAY for one call, with what is given in place of that."""
    given = {
        "gateway": GATEWAY, "token_digest": TOKEN, "request_digest": REQUEST, "expected_epoch": 1, **given,
    }  # fmt: skip
    return consume(change_id or once_change_id(), session_id, **given)


def use(limit: int, scope: int = 0, block_id: bytes = BLOCK) -> UseClaim:
    """Return a claim on one use."""
    return UseClaim(block_id, scope, limit)


def charge(amount: int, limit: int, ledger: bytes = LEDGER) -> BudgetClaim:
    """Return a claim on a budget, in whole units."""
    return BudgetClaim(ledger, Number(amount), Number(limit))


def pending_record(session_id: bytes, approval_id: bytes, **given: Any) -> ApprovalRecord:
    """Return an approval to ask for at epoch 1: two of three keys, with what is given in place of that."""
    given = {
        "block_id": BLOCK, "block": 0, "scope": 0, "epoch": 1, "request_digest": REQUEST, "threshold": 2,
        "keys": KEYS[:3], "action": "deploy", "resource": "prod/web", "arguments": b'{"version":7}',
        "labels": ("planner",), "gateway": GATEWAY, **given,
    }  # fmt: skip
    return ApprovalRecord(approval_id, session_id, **given)


def signing(record: ApprovalRecord, signer: int = 0, **stated: Any) -> SignedApproval:
    """Return a statement for an approval by one of SEEDS, valid for an hour, with what is stated."""
    statement = ApprovalStatement(
        record.id, record.session_id, record.block_id, record.block, record.scope, record.epoch,
        record.request_digest, NOW + HOUR,
    )  # fmt: skip
    unsigned = SignedApproval(KEYS[signer], bytes(64), replace(statement, **stated).encode())
    return replace(unsigned, signature=kernel.sign(SEEDS[signer], unsigned.signed_bytes()))
