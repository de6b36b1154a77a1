"""A report of granted against used, as a table, as JSON and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import UsageError
from ...model.session import Session
from ...usage import SessionUsage
from ...usage.generalize import Fit
from ...usage.report import UsageReport
from ...usage.svg import picture
from ...usage.tables import sections
from ..output import printable, table

# A scope is what the reader came for, so it is cut late.
_MAX_CELL_CHARS = 160


def report_of(
    used: Sequence[tuple[Session, SessionUsage]], now_ms: int, purpose: str | None = None
) -> UsageReport:
    """Return the report of sessions and what each of them used.

    Raises:
        UsageError: if there is no session to report on.
    """
    if not used:
        raise UsageError("nothing to report: no session of that purpose is known here")
    return UsageReport.of(used, now_ms=now_ms, purpose=purpose)


def to_json(report: UsageReport) -> dict[str, object]:
    """Return a report as JSON values."""
    return report.to_dict()


def to_lines(report: UsageReport, fit: Fit = Fit.LOOSE) -> list[str]:
    """Return a report as lines for people."""
    lines: list[str] = []
    for section in sections(report, fit):
        lines += ["", section.title] if lines else [section.title]
        if section.rows:
            shown = table(section.headers, section.rows, max_cell_chars=_MAX_CELL_CHARS)
            lines += [f"  {line}" for line in shown]
        lines += [f"  {printable(line)}" for line in section.lines]
    return lines


def write_svg(report: UsageReport, file: Path) -> None:
    """Write the picture of a report.

    Raises:
        UsageError: if the file can't be written.
    """
    try:
        file.write_text(picture(report), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--svg {file}: {error.strerror}") from None
