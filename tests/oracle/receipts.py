"""Closure receipts, judged by docs/receipts.md: what each says, or why it proves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.oracle.crypto import digest, verify
from tests.oracle.wire import Malformed, decode

LABEL = b"sessauth/receipt/v1\x00"
CLOSED, PARTIAL, UNKNOWN = 1, 2, 3
ACKNOWLEDGED, OUTLIVED, WAITING, LEFT = 1, 2, 3, 4
STATES = {CLOSED: "CLOSED", PARTIAL: "PARTIAL", UNKNOWN: "UNKNOWN"}


def judge(data: bytes, keys: list[bytes], session_id: bytes, cluster_id: bytes, made_since_ms: int) -> str:
    """Return the state that a SignedReceipt proves of a session, or the fault."""
    try:
        signed: Mapping[str, Any] = decode("SignedReceipt", data)
    except Malformed:
        return "NOT_CANONICAL"
    payload = signed["payload"]
    known = {digest(key): key for key in keys}
    if signed["issuer_key_id"] not in known:
        return "UNKNOWN_KEY"
    if not verify(known[signed["issuer_key_id"]], LABEL + payload, signed["signature"]):
        return "BAD_SIGNATURE"
    try:
        receipt: Mapping[str, Any] = decode("Receipt", payload)
    except Malformed:
        return "NOT_CANONICAL"
    if receipt["version"] != 1 and not (receipt["version"] == 2 and receipt["hosts"]):
        return "UNSUPPORTED_VERSION"
    if _contradicts(receipt):
        return "INCONSISTENT"
    if receipt["cluster_id"] != cluster_id:
        return "OTHER_CLUSTER"
    if receipt["session_id"] != session_id:
        return "OTHER_SESSION"
    return "TOO_OLD" if receipt["made_at_ms"] < made_since_ms else STATES[receipt["state"]]


def _contradicts(receipt: Mapping[str, Any]) -> bool:
    if any(len(receipt[name]) != 16 for name in ("cluster_id", "incarnation", "session_id")):
        return True
    if receipt["cause"] not in range(1, 6) or receipt["state"] not in STATES:
        return True
    if not (receipt["epoch"] and receipt["revision"] and receipt["ended_at_ms"]):
        return True
    if receipt["made_at_ms"] < receipt["ended_at_ms"]:
        return True
    waiting, last = False, ""
    for verifier in receipt["verifiers"]:
        seen = verifier["revision"] >= receipt["revision"]
        if verifier["name"] <= last or verifier["state"] not in (ACKNOWLEDGED, OUTLIVED, WAITING, LEFT):
            return True
        if (verifier["state"] == ACKNOWLEDGED and not seen) or (verifier["state"] == WAITING and seen):
            return True
        waiting |= verifier["state"] == WAITING
        last = verifier["name"]
    last = ""
    if receipt["version"] == 1 and (receipt["hosts"] or receipt["record"]):
        return True
    if receipt["version"] == 2 and not receipt["record"]:
        return True
    for host in receipt["hosts"]:
        if host["name"] <= last or host["state"] not in (ACKNOWLEDGED, OUTLIVED, WAITING):
            return True
        if (host["state"] == ACKNOWLEDGED) != (host["record"] >= receipt["record"]):
            return True
        waiting |= host["state"] == WAITING
        last = host["name"]
    told = PARTIAL if waiting or receipt["open_permits"] else CLOSED
    return receipt["state"] not in (UNKNOWN, told)
