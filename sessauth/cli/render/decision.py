"""A decision as JSON and as lines for people."""

from __future__ import annotations

from ...decisions.decision import DecisionBase
from ..output import fields, moment, printable


def to_json(decision: DecisionBase, explanation: str) -> dict[str, object]:
    """Return a decision as JSON values."""
    return {**decision.to_dict(), "explanation": explanation}


def to_lines(decision: DecisionBase, explanation: str) -> list[str]:
    """Return a decision as lines: the answer, the explanation, and its fields."""
    allowed = "ALLOWED by observe mode alone" if decision.observed else "ALLOWED"
    word = allowed if decision else f"DENIED at stage {decision.stage.name.lower()}"
    detail = explanation.removeprefix("ALLOWED").strip()
    stated = decision.to_dict()
    return [
        word,
        *([f"  {printable(detail)}"] if detail else []),
        *fields(
            [
                ("session", decision.session_id.hex()),
                ("epoch", decision.epoch or ""),
                ("revision", decision.revision or ""),
                ("holds until", moment(decision.expires_at_ms) if decision else ""),
                ("permit", stated.get("permit", "")),
                ("commit until", moment(int(str(stated.get("permit_expires_at_ms", 0))))),
                ("decision", decision.decision_id.hex()),
            ]
        ),
    ]
