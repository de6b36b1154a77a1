"""A report as JSON and as tables: granted against used, of one session or of all with a purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...usage import SessionUsage
from ...usage.generalize import Fit
from ...usage.report import UsageReport
from ..output import moment, table
from . import report as report_view
from .census import late_json, late_lines, missing_lines

if TYPE_CHECKING:
    from ...client import SessionReport

_NO_USAGE = (
    "what calls looked like is not known, so nothing can be suggested: the server has usage.enabled off"
)


def joined(found: Sequence[SessionReport], now_ms: int, purpose: str | None) -> UsageReport | None:
    """Return granted against used of those sessions whose usage is known; None if of none it is."""
    used = [(each.granted, _usage(each)) for each in found if each.observation.usage is not None]
    return report_view.report_of(used, now_ms, purpose) if used else None


def _usage(found: SessionReport) -> SessionUsage:
    # What was lost anywhere on the way may have been a call: the suggestion must not look complete.
    usage = SessionUsage()
    usage.merge(found.observation.usage or SessionUsage())
    usage.lost += found.observation.lost + found.incomplete
    return usage


def to_json(found: Sequence[SessionReport], report: UsageReport | None) -> dict[str, Any]:
    """Return a report as JSON values."""
    return {
        "sessions": [_session_json(each) for each in found],
        "usage": None if report is None else report.to_dict(),
    }


def _session_json(found: SessionReport) -> dict[str, Any]:
    observation = found.observation
    return {
        "id": found.session.id.hex(),
        "status": found.session.status.name,
        "subject": found.session.subject,
        "purpose": found.session.purpose,
        "owner": found.session.owner,
        "allowed": observation.allowed,
        "denied": observation.denied,
        "last_allow_ms": observation.last_allow_ms,
        "blocks": len(observation.blocks),
        "late": [late_json(late) for late in observation.late.values()],
        "verifiers": [
            {
                "name": each.name,
                "allowed": each.allowed,
                "denied": each.denied,
                "reported_at_ms": each.reported_at_ms,
            }
            for each in found.verifiers
        ],
        "missing": [each.name for each in found.missing],
    }


def to_lines(found: Sequence[SessionReport], report: UsageReport | None, fit: Fit) -> list[str]:
    """Return a report as lines for people."""
    if not found:
        return ["no session"]
    lines = table(
        ("SESSION", "STATUS", "ALLOWED", "DENIED", "LAST ALLOW", "BLOCKS", "TOLD BY"),
        [
            (
                each.session.id.hex(),
                each.session.status.name,
                each.observation.allowed,
                each.observation.denied,
                moment(each.observation.last_allow_ms) or "none",
                len(each.observation.blocks),
                ", ".join(verifier.name for verifier in each.verifiers),
            )
            for each in found
        ],
    )
    if report is None:
        lines += ["", _NO_USAGE]
    else:
        lines += ["", *report_view.to_lines(report, fit)]
    late = [line for each in found for line in late_lines(each.observation.late.values())]
    missing = sorted({why for each in found for why in each.missing})
    return [*lines, *([""] if late or missing else []), *late, *missing_lines(missing)]
