"""Calls that observe mode alone allowed, as lines at the top of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...usage.report import UsageReport
from ..output import table

if TYPE_CHECKING:
    from ...client import SessionReport

MAX_ROWS = 20
_HEADERS = ("CALLS", "LAYER", "ACTION", "RESOURCE", "ARGUMENT")


def observed_lines(reports: Sequence[SessionReport], report: UsageReport | None) -> list[str]:
    """Return lines on observe mode and on the calls that ceilings would have refused; none without them."""
    observing = sum(each.session.observe for each in reports)
    calls = sum(each.observation.observed for each in reports)
    if not observing and not calls:
        return []
    lines = [
        f"OBSERVE MODE: {observing} of {len(reports)} session(s), whose ceilings refuse nothing; they would "
        f"have refused {calls} of {sum(each.observation.allowed for each in reports)} allowed calls"
    ]
    rows = [] if report is None else sorted(report.usage.observed, key=lambda row: -row[1].calls)
    if rows:
        cells = [(span.calls, *key) for key, span in rows[:MAX_ROWS]]
        lines += [f"  {line}" for line in table(_HEADERS, cells, max_cell_chars=80)]
        more = len(rows) - MAX_ROWS
        lines += [f"  … and {more} more"] if more > 0 else []
        lines.append("  minted scopes are suggested from these calls too; a ceiling is not,")
        lines.append("  since they lie outside it")
    return [*lines, ""]
