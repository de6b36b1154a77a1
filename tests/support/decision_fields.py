"""The content of a decision, read from an object or a message, and the oracle's expectation of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.oracle.constants import Level, Reason, Stage
from tests.oracle.model import Chain, OracleDecision, OracleRequest, OracleSession, OracleView


@dataclass(frozen=True, slots=True)
class DecisionContent:
    """An outcome and its other fields. ``checked_at_ms`` is -1 if the form does not carry it."""

    outcome: OracleDecision
    session_id: bytes
    block_ids: tuple[bytes, ...]
    epoch: int
    revision: int
    expires_at_ms: int
    checked_at_ms: int = -1


def by_object(decision: Any) -> DecisionContent:
    """Read a decision object; raises ValueError if its parts contradict each other."""
    outcome = OracleDecision(
        Reason(decision.reason),
        Stage(decision.stage),
        Level(decision.level),
        decision.index,
        decision.scope,
        decision.clause,
        decision.argument,
        decision.matched_index,
        decision.matched_scope,
    )
    if decision.fault is not None:
        raise ValueError(f"a fault: {decision.fault!r}")
    if decision.allowed is not outcome.allowed or bool(decision) is not outcome.allowed:
        raise ValueError(f"allowed is {decision.allowed} with the reason {outcome.reason.name}")
    return DecisionContent(
        outcome,
        decision.session_id,
        decision.block_ids,
        decision.epoch,
        decision.revision,
        decision.expires_at_ms,
        decision.checked_at_ms,
    )


def by_message(message: Any) -> DecisionContent:
    """Read a ``sessauth.v1.Decision``; raises ValueError if its parts contradict each other."""
    failed, matched = message.failed, message.matched
    outcome = OracleDecision(Reason(message.reason), Stage(message.stage))
    if message.HasField("failed"):
        outcome = OracleDecision(
            outcome.reason,
            outcome.stage,
            Level(failed.level),
            failed.index,
            failed.scope,
            failed.clause,
            failed.argument,
        )
    if message.HasField("matched"):
        outcome = replace(outcome, matched_index=matched.index, matched_scope=matched.scope)
    allowed = outcome.allowed
    # An allow of a token alone has no match, which the outcome shows. One that a ceiling in observe mode
    # would have refused has both positions.
    observed = allowed and outcome.level is Level.CEILING
    if (message.allowed, message.HasField("failed")) != (allowed, observed or not allowed) or (
        message.HasField("matched") and not allowed
    ):
        raise ValueError(f"allowed is {message.allowed} with the reason {outcome.reason.name}")
    return DecisionContent(
        outcome,
        message.session_id,
        tuple(message.block_ids),
        message.epoch,
        message.revision,
        message.expires_at_ms,
    )


def expected(
    outcome: OracleDecision, chain: Chain | None, view: OracleView, epochs: Mapping[bytes, int], now_ms: int
) -> DecisionContent:
    """Return the content expected for an oracle's outcome; ``chain`` is None for bytes that are no token."""
    if chain is None:
        return DecisionContent(outcome, b"", (), 0, 0, 0, 0)
    stands = outcome.allowed or outcome.stage > Stage.SIGNATURE
    return DecisionContent(
        outcome,
        chain.session_id if stands else b"",
        chain.block_ids if stands else (),
        epochs[chain.session_id] if stands else 0,
        view.revision,
        _end(chain, view) if outcome.allowed else 0,
        now_ms,
    )


def _end(chain: Chain, view: OracleView) -> int:
    """The earliest moment at which a yes can stop being true by time alone."""
    ends = [block.expires_at_ms for block in chain.blocks if block.expires_at_ms]
    session: OracleSession | None = view.sessions[chain.session_id]
    while session is not None:
        ends.append(session.expires_at_ms)
        if session.lease_deadline_ms is not None:
            ends.append(session.lease_deadline_ms)
        session = view.sessions.get(session.parent_id)
    return min(ends)


def without_time(content: DecisionContent) -> DecisionContent:
    """Return the content without the time, which the wire form does not carry."""
    return replace(content, checked_at_ms=-1)


def call_of(token: Any, request: OracleRequest) -> tuple[Any, ...]:
    """The tuple that ``check_batch`` takes for a request."""
    return (
        token,
        request.action,
        request.resource,
        request.arguments,
        request.tool,
        request.session,
        request.source,
        request.peer,
    )
