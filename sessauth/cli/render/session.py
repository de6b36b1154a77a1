"""A session as JSON, as lines, and as a row of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ...model.session import Session, SessionTerms
from ...scopes.scope import Scope
from ...scopes.value import Number, Plain, value_of, value_to_text
from ..output import fields, json_fields, moment, moment_and_distance, printable, span

OBSERVE_MODE: Final = "its ceiling refuses nothing; what it would refuse is recorded"


def to_json(session: Session) -> dict[str, Any]:
    """Return a session as JSON values. Numbers with decimal places are texts, to stay exact."""
    facts = {fact.name: {"value": _fact_json(fact.value), "visible": fact.visible} for fact in session.facts}
    end_cause = session.end_cause.name if session.ended_at_ms else ""
    return json_fields(session, ceilings=ceilings(session), facts=facts, end_cause=end_cause)


def _fact_json(plain: Plain) -> str | bool | int:
    value = value_of(plain)
    if isinstance(value, Number):
        return str(value) if value.nanos else value.units
    return value


def ceilings(session: Session) -> list[list[str]]:
    """Return the layers of the ceiling in text form."""
    return [[str(Scope.from_record(scope)) for scope in layer] for layer in session.ceilings]


def to_lines(session: Session, now_ms: int) -> list[str]:
    """Return a session as lines."""
    lines = fields(
        [
            ("session", session.id.hex()),
            ("status", session.status.name),
            ("inherited from", session.inherited_from.hex()),
            ("observe mode", _observe_mode(session)),
            ("reason", session.reason),
            *_stated(session),
            ("parent", session.parent_id.hex()),
            ("epoch", session.epoch),
            ("opened", moment(session.opened_at_ms)),
            ("ended", moment(session.ended_at_ms)),
            ("cause", session.end_cause.name if session.ended_at_ms else ""),
            ("hard end", "" if session.ended_at_ms else moment_and_distance(session.expires_at_ms, now_ms)),
            ("lease", _lease(session, now_ms)),
            ("revoked", session.revoked_count or ""),
            ("open permits", session.open_permits or ""),
            ("open approvals", session.open_approvals or ""),
            ("labels", ", ".join(f"{name}={value}" for name, value in sorted(session.labels.items()))),
        ]
    )
    for number, layer in enumerate(ceilings(session)):
        lines.append(f"ceiling layer {number}")
        lines += [f"  {printable(scope)}" for scope in layer]
    if session.facts:
        lines.append("facts")
        lines += [
            f"  {printable(fact.name)} = {value_to_text(value_of(fact.value))}"
            + ("  (visible to holders)" if fact.visible else "")
            for fact in session.facts
        ]
    return lines


def _observe_mode(session: Session) -> str:
    if session.observe:
        return OBSERVE_MODE
    return f"until {moment(session.enforced_at_ms)}" if session.enforced_at_ms else ""


def _stated(session: Session) -> Iterator[tuple[str, str]]:
    """Yield the names of the session's terms that are texts or lists of them, each with its value."""
    for name in SessionTerms.__annotations__:
        value = getattr(session, name, None)
        if isinstance(value, tuple) and value and isinstance(value[0], str):
            yield name, ", ".join(value)
        elif isinstance(value, str):
            yield name, value


def _lease(session: Session, now_ms: int) -> str:
    if not session.lease_ms or session.ended_at_ms:
        return ""
    return f"{span(session.lease_ms)}, lapses {moment_and_distance(session.lease_deadline_ms, now_ms)}"
