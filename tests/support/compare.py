"""Requests of the oracle, judged by the kernel, and its decisions in the oracle's terms."""

from __future__ import annotations

from typing import Any

from sessauth._fast._check import Checker
from tests.oracle.constants import Level, Reason, Stage
from tests.oracle.model import OracleDecision, OracleRequest


def judge_request(checker: Checker, token: Any, request: OracleRequest, **options: Any) -> Any:
    """Judge a request of the oracle by the kernel, without its proof."""
    return checker._check(
        *(token, request.action, request.resource, request.arguments),
        tool=request.tool,
        session=request.session,
        source=request.source,
        peer=request.peer,
        audience=request.audience,
        at_least_revision=request.at_least_revision,
        token_only=request.token_only,
        **options,
    )


def kernel_decision(checker: Checker, token: bytes, request: OracleRequest, now_ms: int) -> OracleDecision:
    """The kernel's outcome; raises ValueError for a reason, stage or level that the oracle does not know."""
    outcome = judge_request(checker, token, request, proof=request.proof, now_ms=now_ms)
    decision = OracleDecision(
        Reason(outcome.reason),
        Stage(outcome.stage),
        Level(outcome.level),
        outcome.index,
        outcome.scope,
        outcome.clause,
        outcome.argument,
        outcome.matched_index,
        outcome.matched_scope,
    )
    if outcome.allowed is not decision.allowed or bool(outcome) is not decision.allowed:
        raise ValueError(f"allowed is {outcome.allowed} with the reason {decision.reason.name}")
    return decision
