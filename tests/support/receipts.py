"""Receipts for tests: one that says CLOSED, and what signs it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sessauth.crypto.keys import IssuerKey
from sessauth.model.receipt import Receipt, ReceiptState, VerifierState, VerifierStatus
from sessauth.model.session import EndCause

NOW = 1_800_000_000_000
SERVICE = IssuerKey(bytes(range(32)))
STRANGER = IssuerKey(bytes(range(1, 33)))
CLUSTER = b"c" * 16
SESSION = b"s" * 16

CONTROL = VerifierStatus("sessauth/control", VerifierState.ACKNOWLEDGED, 7, NOW + 1)
WAITING = VerifierStatus("gw-1", VerifierState.WAITING, 6, NOW + 10_000)
CLOSED = Receipt(
    cluster_id=CLUSTER,
    incarnation=b"i" * 16,
    session_id=SESSION,
    epoch=2,
    revision=7,
    ended_at_ms=NOW,
    cause=EndCause.ASKED,
    reason="done",
    made_at_ms=NOW + 5,
    state=ReceiptState.CLOSED,
    verifiers=(CONTROL,),
)
PARTIAL = replace(CLOSED, state=ReceiptState.PARTIAL, verifiers=(WAITING, CONTROL))
# A call was allowed after the end, later than hosts may.
LATE = replace(CLOSED, last_allow_ms=NOW + 5_001)


def receipt(**given: Any) -> Receipt:
    """Return the closed one with what is given in place of that."""
    return replace(CLOSED, **given)
