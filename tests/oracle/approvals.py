"""Judges signed approvals of a call (section 9.10)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tests.oracle.crypto import acceptable_key, verify
from tests.oracle.wire import Malformed, decode

LABEL = b"sessauth/approval/v1\x00"
_MAX_TIME_MS = 2**53 - 1


class Verdict(Enum):
    """The verdict on a need for approval."""

    ALLOWED = "ALLOWED"
    APPROVAL_REQUIRED = "APPROVAL_REQUIRED"
    APPROVAL_DENIED = "APPROVAL_DENIED"
    BAD_APPROVAL = "BAD_APPROVAL"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The call, the place of its deciding scope, and what that scope asks for."""

    session_id: bytes
    block_id: bytes
    block: int
    scope: int
    epoch: int
    request_digest: bytes
    threshold: int
    keys: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Held:
    """The state's approval of exactly this call: an id, an end, a denial or not, signed approvals."""

    id: bytes
    expires_at_ms: int
    denied: bool = False
    statements: Sequence[bytes] = ()


def judge(
    given: Sequence[bytes], held: Held | None, used: Collection[bytes], wanted: Wanted, now_ms: int
) -> tuple[Verdict, bytes]:
    """Judge presented approvals, the state's approval and the used ids.

    Returns the verdict and, for an allow, the id that it uses up.
    """
    force = held if held is not None and now_ms < held.expires_at_ms and held.id not in used else None
    if len(given) > wanted.threshold:
        return Verdict.BAD_APPROVAL, b""
    signers = [signer for signer, ends in _stored(force) if ends > now_ms]
    approval_id = force.id if force else b""
    for data in given:
        try:
            signer, stated = _counting(data, wanted, now_ms)
        except Malformed:
            return Verdict.BAD_APPROVAL, b""
        approval_id = approval_id or stated
        if signer in signers or stated != approval_id or stated in used:
            return Verdict.BAD_APPROVAL, b""
        signers.append(signer)
    if force and force.denied:
        return Verdict.APPROVAL_DENIED, b""
    if len(signers) < wanted.threshold:
        return Verdict.APPROVAL_REQUIRED, b""
    return Verdict.ALLOWED, approval_id


def _stored(held: Held | None) -> list[tuple[bytes, int]]:
    """Key and end of each statement that the state holds; it was judged before it was stored."""
    found = []
    for data in held.statements if held else ():
        signed: dict[str, Any] = decode("SignedApproval", data)
        stated: dict[str, Any] = decode("ApprovalStatement", signed["statement"])
        found.append((signed["public_key"], stated["expires_at_ms"]))
    return found


def _counting(data: bytes, wanted: Wanted, now_ms: int) -> tuple[bytes, bytes]:
    """The key and the approval's id of a signed approval that counts. Raises Malformed for any other."""
    signed: dict[str, Any] = decode("SignedApproval", data)
    stated: dict[str, Any] = decode("ApprovalStatement", signed["statement"])
    counts = (
        len(stated["id"]) == 16
        and stated["session_id"] == wanted.session_id
        and stated["block_id"] == wanted.block_id
        and (stated["block"], stated["scope"]) == (wanted.block, wanted.scope)
        and stated["epoch"] == wanted.epoch
        and stated["request_digest"] == wanted.request_digest
        and now_ms < stated["expires_at_ms"] <= _MAX_TIME_MS
        and signed["public_key"] in wanted.keys
        and acceptable_key(signed["public_key"])
        and verify(signed["public_key"], LABEL + signed["statement"], signed["signature"])
    )
    if not counts:
        raise Malformed("a signed approval that does not count")
    return signed["public_key"], stated["id"]
