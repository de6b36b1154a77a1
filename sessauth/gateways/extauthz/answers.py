"""Answers to Envoy: its additions to a request that passes, and the response to its client otherwise."""

from __future__ import annotations

import json
from typing import Final

from ...decisions.decision import DecisionBase, allows
from ...decisions.outward import Outward
from ..headers import PROOF, TOKEN
from ..mapped import Fault
from .v1.check_pb2 import CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, OkHttpResponse

SESSION: Final = "x-sessauth-session"
DECISION: Final = "x-sessauth-decision"
REFUSAL: Final = "x-sessauth-refusal"
# By these Envoy sends a request several times, which was checked and charged once. It obeys clients that it
# counts as internal.
REPEATING: Final = (
    *("x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries", "x-envoy-retriable-status-codes"),
    *("x-envoy-retriable-header-names", "x-envoy-hedge-on-per-try-timeout"),
)

# Envoy's number: replaces every line of the name.
_OVERWRITE: Final = 2
# google.rpc.Code PERMISSION_DENIED. Envoy looks only at whether it is 0.
_DENIED: Final = 7
_RETRY_SECONDS: Final = {Outward.APPROVAL: "5", Outward.UNAVAILABLE: "1"}
# In the place of ids, which always have these lengths.
_SESSION_PLACE: Final = b"s" * 32
_DECISION_PLACE: Final = b"d" * 32


def _line(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=_OVERWRITE)


def _split_template() -> tuple[bytes, bytes, bytes]:
    """Return the parts of an answer around the ids of session and decision."""
    template = CheckResponse(
        ok_response=OkHttpResponse(
            # Set in every answer: a forged line of the client would pass otherwise.
            headers=[_line(SESSION, _SESSION_PLACE.decode()), _line(DECISION, _DECISION_PLACE.decode())],
            headers_to_remove=["authorization", PROOF, TOKEN, REFUSAL, *REPEATING],
        )
    )
    template.status.SetInParent()
    before, rest = template.SerializeToString().split(_SESSION_PLACE)
    between, after = rest.split(_DECISION_PLACE)
    return before, between, after


_BEFORE, _BETWEEN, _AFTER = _split_template()


def allow(decision: DecisionBase) -> bytes:
    """Return the answer that lets a request pass. Raises ValueError for a denial."""
    if not allows(decision):
        raise ValueError("only an allow lets a request pass")
    return pass_with(decision.session_id, decision.decision_id)


def pass_with(session_id: bytes, decision_id: bytes) -> bytes:
    """Return the answer that lets a request pass with these ids, of 16 bytes each. Raises ValueError."""
    session, decided = session_id.hex().encode(), decision_id.hex().encode()
    if len(session) != len(_SESSION_PLACE) or len(decided) != len(_DECISION_PLACE):
        raise ValueError("an id has 16 bytes")
    return b"".join((_BEFORE, session, _BETWEEN, decided, _AFTER))


def deny(outcome: Outward, mcp: bool, request_id: bytes, decision_id: bytes = b"") -> bytes:
    """Return the answer for a denied call."""
    lines = [(DECISION, decision_id.hex())] if decision_id else []
    if outcome.challenge:
        lines.append(("www-authenticate", outcome.challenge))
    if outcome in _RETRY_SECONDS:
        lines.append(("retry-after", _RETRY_SECONDS[outcome]))
    return _denied(outcome.http, lines, outcome.jsonrpc, outcome.text, mcp, request_id)


def refuse(fault: Fault, mcp: bool, request_id: bytes) -> bytes:
    """Return the answer for a request that was not checked. Its name tells the client how to change it."""
    lines = [(REFUSAL, fault.name)]
    if fault is Fault.NO_TOKEN:
        # Without an error code: RFC 6750, section 3.1.
        lines.append(("www-authenticate", "Bearer"))
    return _denied(fault.http, lines, fault.jsonrpc, fault.text, mcp, request_id)


def _denied(
    status: int, lines: list[tuple[str, str]], code: int, text: str, mcp: bool, request_id: bytes
) -> bytes:
    if mcp:
        error = json.dumps({"code": code, "message": text})
        body = f'{{"jsonrpc":"2.0","id":{request_id.decode() or "null"},"error":{error}}}'
    else:
        body = json.dumps({"error": text})
    response = CheckResponse(
        denied_response=DeniedHttpResponse(
            headers=[_line(name, value) for name, value in [("content-type", "application/json"), *lines]],
            body=body,
        )
    )
    response.status.code = _DENIED
    response.denied_response.status.code = status
    return response.SerializeToString()
