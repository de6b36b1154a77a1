"""A report as JSON and as tables: granted against used, of one session or of all with a purpose."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, UsageError
from ...model.session import Session
from ...scopes.needs import Approval
from ...usage import SessionUsage
from ...usage.generalize import Fit
from ...usage.grants import CEILING
from ...usage.kinds.observed import ENOUGH_SESSIONS
from ...usage.report import LayerUse, UsageReport
from ...usage.tables import VERDICT, sections
from ...usage.verdict import open_programs
from ..output import json_value, moment, printable, table
from .census import host_lines, late_lines, missing_lines
from .observed import observed_lines

if TYPE_CHECKING:
    from ...client import SessionReport

NO_USAGE = (
    "what calls looked like is not known, so nothing can be suggested: no call was recorded yet, or the "
    "server has usage.enabled off"
)
# Scopes are the point of a report, so they are cut late.
_MAX_CELL_CHARS = 160


def report_of(
    used: Sequence[tuple[Session, SessionUsage]],
    now_ms: int,
    purpose: str | None = None,
    fits: Sequence[Fit] = tuple(Fit),
) -> UsageReport:
    """Return the report of sessions and their usage.

    Raises:
        UsageError: if there is no session to report on.
    """
    if not used:
        raise UsageError("nothing to report: no session of that purpose is known here")
    return UsageReport.of(used, now_ms=now_ms, purpose=purpose, fits=fits)


def joined(
    reports: Sequence[SessionReport], now_ms: int, purpose: str | None, fits: Sequence[Fit] = tuple(Fit)
) -> UsageReport | None:
    """Return one report of the sessions whose usage is known; None if there is none.

    It has suggestions of ``fits``.
    """
    used = [(each.granted, usage) for each in reports if (usage := each.usage) is not None]
    return report_of(used, now_ms, purpose, fits) if used else None


def to_json(
    reports: Sequence[SessionReport],
    report: UsageReport | None,
    fit: Fit = Fit.KINDS,
    approval: Approval | None = None,
) -> dict[str, Any]:
    """Return the sessions and their joined report as JSON values."""
    document = {
        "sessions": [_session_json(each) for each in reports],
        "usage": None if report is None else report.to_dict(fit),
        "hosts": json_value(reports[0].hosts if reports else ()),
    }
    if report is not None and approval is not None:
        asking = {each.layer.id: each.suggestion(fit).with_approval(approval) for each in report.layers}
        document["by_approval"] = {layer: list(map(str, scopes)) for layer, scopes in asking.items()}
    return document


def suggested(
    report: UsageReport | None, fit: Fit, layer: str = "", approval: Approval | None = None
) -> list[str]:
    """Return the suggested scopes of the one ceiling, or of the layer whose id begins with ``layer``.

    Raises:
        UsageError: if there is none or more than one, or nothing is suggested.
    """
    if report is None:
        raise UsageError(f"--scopes-only: {NO_USAGE}")
    layers = _selected(report, layer)
    if len(layers) != 1:
        ids = ", ".join(f"{each.layer.id} ({each.sessions} sessions)" for each in report.layers)
        raise UsageError(f"--scopes-only: several lists of scopes were granted; give one as --layer: {ids}")
    suggestion = layers[0].suggestion(fit)
    if not suggestion.scopes:
        raise UsageError("--scopes-only: nothing is suggested: no call was allowed, or by too few sessions")
    return [str(scope) for scope in (suggestion.with_approval(approval) if approval else suggestion.scopes)]


def _selected(report: UsageReport, layer: str) -> Sequence[LayerUse]:
    return [each for each in report.layers if each.layer.id.startswith(layer)] if layer else report.ceilings


def cautions(
    reports: Sequence[SessionReport], report: UsageReport, layer: str = "", fit: Fit = Fit.KINDS
) -> list[str]:
    """Return the limits of the suggested scopes that they don't show: open programs, few sessions, gaps."""
    programs = [place for each in _selected(report, layer) for place in open_programs(each.suggestion(fit))]
    lines = [f"this ceiling runs any program: {place}" for place in programs]
    lines += list(missing_lines(sorted({why for each in reports for why in each.missing})))
    observed = sum(each.observation.observed for each in reports)
    if observed and any(each.layer.kind == CEILING for each in _selected(report, layer)):
        outside = f"observe mode alone allowed {observed} calls outside of the ceiling that this is made from"
        lines.append(f"{outside}; --layer minted suggests from them too")
    if report.usage.truncated:
        lines.append(f"not complete: {', '.join(report.usage.truncated)}")
    if len(report.sessions) < ENOUGH_SESSIONS:
        few = f"learnt from {len(report.sessions)} sessions; with fewer than {ENOUGH_SESSIONS}"
        lines.append(f"{few} what only one of them brought is suggested, too")
    return lines


def _session_json(report: SessionReport) -> dict[str, Any]:
    observation, session = report.observation, report.session
    return {
        "id": session.id.hex(),
        "status": session.status.name,
        "subject": session.subject,
        "purpose": session.purpose,
        "owner": session.owner,
        "allowed": observation.allowed,
        "denied": observation.denied,
        "observe": session.observe,
        "observed": observation.observed,
        "last_allow_ms": observation.last_allow_ms,
        "blocks": len(observation.blocks),
        "late": [json_value(late) for late in observation.late.values()],
        "verifiers": json_value(report.verifiers),
        "missing": json_value(report.missing),
    }


def to_lines(
    reports: Sequence[SessionReport],
    report: UsageReport | None,
    fit: Fit,
    approval: Approval | None = None,
) -> list[str]:
    """Return the sessions and their joined report as lines."""
    if not reports:
        return ["no session"]
    found = [NO_USAGE] if report is None else report_lines(report, fit, approval)
    # Before all else: that ceilings refuse nothing, then the verdict.
    head = found.index("") if found[0] == VERDICT else 0
    lines = [*observed_lines(reports, report), *found[:head], *([""] if head else [])]
    lines += table(
        ("SESSION", "STATUS", "ALLOWED", "DENIED", "LAST ALLOW", "BLOCKS", "REPORTED BY"),
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
            for each in reports
        ],
    )
    lines += [*([] if head else [""]), *found[head:]]
    late = [line for each in reports for line in late_lines(each.observation.late.values())]
    missing = sorted({why for each in reports for why in each.missing})
    hosts = host_lines(reports[0].hosts)
    return [*lines, *([""] if late or missing else []), *late, *missing_lines(missing), *hosts]


def report_lines(report: UsageReport, fit: Fit = Fit.KINDS, approval: Approval | None = None) -> list[str]:
    """Return a report as lines."""
    lines: list[str] = []
    for section in sections(report, fit, approval):
        lines += ["", section.title] if lines else [section.title]
        if section.rows:
            shown = table(section.headers, section.rows, max_cell_chars=_MAX_CELL_CHARS)
            lines += [f"  {line}" for line in shown]
        lines += [f"  {printable(line)}" for line in section.lines]
    return lines


def write_html(report: UsageReport, file: Path, fit: Fit = Fit.KINDS) -> None:
    """Write the page of a report, for its owner alone: it contains values of arguments.

    Raises:
        ConfigError: if the console's templates are not installed.
        UsageError: if the file can't be written.
    """
    try:
        from ...console.pages import report_page
    except ImportError as error:
        raise ConfigError(f"--html: {error.name} is not installed: pip install 'sessauth[console]'") from None
    page = report_page(report, fit)
    try:
        with open(file, "w", encoding="utf-8", opener=partial(os.open, mode=0o600)) as opened:
            opened.write(page)
    except OSError as error:
        raise UsageError(f"--html {file}: {error.strerror}") from None
