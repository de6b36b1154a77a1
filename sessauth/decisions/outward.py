"""The outward form of a decision: the part that an agent may learn, in each protocol's own words.

    outward(decision)            # Outward.UNAUTHENTICATED
    outward(decision).http       # 401

An agent learns that a call was not made, and whether a token, a person or time can change that. It never
learns the reason: unknown, ended and suspended sessions look alike. The reason and the id of the decision are
for the operator.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from ..reasons import Reason, Stage
from .decision import DecisionFields


class Outward(Enum):
    """The answers that an agent is given.

    Attributes:
        http: the HTTP status.
        error: the error code of a Bearer challenge (RFC 6750, section 3.1); empty where none is sent.
        grpc: the name of the gRPC status.
        jsonrpc: the code of a JSON-RPC error. It lies outside the range that JSON-RPC 2.0, section 5.1,
            reserves, where later versions of MCP give codes a meaning that clients act on.
        text: one sentence without facts about the session or its permissions.
    """

    http: int
    error: str
    grpc: str
    jsonrpc: int
    text: str

    ALLOWED = (200, "", "OK", 0, "allowed")
    UNAUTHENTICATED = (401, "invalid_token", "UNAUTHENTICATED", -31001, "not allowed: no valid token")
    DENIED = (403, "insufficient_scope", "PERMISSION_DENIED", -31002, "not allowed")
    APPROVAL = (403, "", "FAILED_PRECONDITION", -31003, "not done: it waits for a person's approval")
    UNAVAILABLE = (
        503,
        "",
        "UNAVAILABLE",
        -31004,
        "not done: no answer about the permission; try again later",
    )

    def __init__(self, http: int, error: str, grpc: str, jsonrpc: int, text: str) -> None:
        """Name the columns."""
        self.http = http
        self.error = error
        self.grpc = grpc
        self.jsonrpc = jsonrpc
        self.text = text

    @property
    def challenge(self) -> str:
        """The value of ``WWW-Authenticate``; empty where none is sent."""
        return f'Bearer error="{self.error}"' if self.error else ""


# The verifier or its host is at fault, at any stage. The token may be good.
_UNAVAILABLE: Final = frozenset(
    {
        *(Reason.UNSPECIFIED, Reason.INTERNAL_ERROR, Reason.AUDIT_UNAVAILABLE, Reason.STALE_STATE),
        *(Reason.STATE_BRAKED, Reason.CLOCK_SUSPECT, Reason.PROOF_UNAVAILABLE, Reason.NEEDS_SERVER),
    }
)
# RFC 6750 counts a revoked token among the invalid ones.
_TOKEN_STAGES: Final = frozenset(
    {Stage.DECODE, Stage.SESSION, Stage.ISSUER, Stage.SIGNATURE, Stage.TIME, Stage.REVOCATION}
)


def outward(decision: DecisionFields | None) -> Outward:
    """Return the outward form of ``decision``; UNAVAILABLE for None, a decision that was never made."""
    if decision is None or decision.reason in _UNAVAILABLE:
        return Outward.UNAVAILABLE
    if decision:
        return Outward.ALLOWED
    if decision.reason is Reason.APPROVAL_REQUIRED:
        return Outward.APPROVAL
    if decision.reason is Reason.MALFORMED_REQUEST:
        # Found at any stage, with a good token or a bad one.
        return Outward.DENIED
    return Outward.UNAUTHENTICATED if decision.stage in _TOKEN_STAGES else Outward.DENIED
