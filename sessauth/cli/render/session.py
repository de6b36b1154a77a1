"""A session as JSON, as lines, and as a row of a table."""

from __future__ import annotations

from typing import Any

from ...model.session import Session
from ...scopes.scope import Scope
from ...scopes.value import Number, Plain, value_of, value_to_text
from ..output import fields, moment, moment_and_distance, printable, span


def to_json(session: Session) -> dict[str, Any]:
    """Return a session as JSON values. Numbers with decimal places are texts, to stay exact."""
    return {
        "id": session.id.hex(),
        "status": session.status.name,
        "subject": session.subject,
        "purpose": session.purpose,
        "owner": session.owner,
        "parent_id": session.parent_id.hex(),
        "epoch": session.epoch,
        "ceilings": ceilings(session),
        "facts": {
            fact.name: {"value": _fact_json(fact.value), "visible": fact.visible} for fact in session.facts
        },
        "labels": dict(session.labels),
        "opened_at_ms": session.opened_at_ms,
        "expires_at_ms": session.expires_at_ms,
        "lease_ms": session.lease_ms,
        "lease_deadline_ms": session.lease_deadline_ms,
        "issuer_key_ids": [each.hex() for each in session.issuer_key_ids],
        "revoked_count": session.revoked_count,
        "open_permits": session.open_permits,
        "open_approvals": session.open_approvals,
        "ended_at_ms": session.ended_at_ms,
        "end_cause": session.end_cause.name if session.ended_at_ms else "",
        "reason": session.reason,
        "revision": session.revision,
    }


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
            ("reason", session.reason),
            ("subject", session.subject),
            ("purpose", session.purpose),
            ("owner", session.owner),
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


def _lease(session: Session, now_ms: int) -> str:
    if not session.lease_ms or session.ended_at_ms:
        return ""
    return f"{span(session.lease_ms)}, lapses {moment_and_distance(session.lease_deadline_ms, now_ms)}"
