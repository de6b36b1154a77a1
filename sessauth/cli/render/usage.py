"""The use of sessions, as JSON and as lines for people.

- A report compares granted with used, for one session or for all with a purpose, as a table or an HTML page.
- A census is a tree of every block of a session's tokens that any verifier observed.
- Calls that only observe mode allowed are lines at the top of a report.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, UsageError
from ...limits import MAX_BLOCKS
from ...model.session import Session
from ...scopes.parts import Approval
from ...usage import SessionUsage
from ...usage.kinds.observed import ENOUGH_SESSIONS
from ...usage.profile import CEILING
from ...usage.report import VERDICT, LayerUse, UsageReport, sections
from ...usage.session_usage import UseAfterEnd
from ...usage.suggest import open_programs
from ...usage.tighten import Fit
from ..output import attributes, json_fields, json_value, moment, printable, table

if TYPE_CHECKING:
    from ...client import BlockCensus, Census, HostUsage, Missing, SessionReport

_MISSING = {
    "LOST": "some of it was lost, or found no room",
    "BEFORE": "the session is older than what this server knows of it",
    "HOST": "a host of the cluster has not reported all of it",
    "USAGE": "what its calls looked like was not asked for from its start on (setting usage.enabled)",
}


def census_json(session_id: bytes, census: Census) -> dict[str, Any]:
    """Return a census as JSON values."""
    blocks = [_block_json(block) for block in census.blocks]
    return {"session_id": session_id.hex(), **json_fields(census, blocks=blocks)}


def _block_json(block: BlockCensus) -> dict[str, Any]:
    says = None if block.info is None else block.info.to_dict()
    document = json_fields(block.observation, revoked=block.revoked, says=says)
    del document["payload"]
    return document


def census_lines(census: Census) -> list[str]:
    """Return a census as lines: a tree below each block without a parent or with an unreported one."""
    lines: list[str] = []
    known = {block.observation.block_id for block in census.blocks}
    left = dict.fromkeys(known)
    tops = [block for block in census.blocks if block.observation.parent_id not in known]
    for block in (*tops, *census.blocks):
        lines += _tree(census, block, 0, left)
    if not lines:
        lines.append("no block was seen")
    return [*lines, *late_lines(census.late), *missing_lines(census.missing), *host_lines(census.hosts)]


def _tree(census: Census, block: BlockCensus, depth: int, left: dict[bytes, None]) -> list[str]:
    """Return the lines of a block and its children; each block in ``left`` is shown once and removed."""
    observation = block.observation
    if observation.block_id not in left:
        return []
    del left[observation.block_id]
    name = "root block" if observation.index == 0 else f"block {observation.index}"
    if block.info is not None and block.info.label:
        name += f" {printable(block.info.label)!r}"
    branch = "   " * (depth - 1) + "└─ " if depth else ""
    lines = [f"{branch}{name}, {observation.block_id.hex()}" + (" REVOKED" if block.revoked else "")]
    stem = "   " * depth + "   "
    span = _span(observation.first_ms, observation.last_ms)
    lines.append(f"{stem}{observation.calls} calls, {observation.allowed} allowed, {span}")
    if depth < MAX_BLOCKS:
        for child in census.children(observation.block_id):
            lines += _tree(census, child, depth + 1, left)
    return lines


def late_lines(late: Iterable[UseAfterEnd]) -> list[str]:
    """Return uses after the end as lines."""
    lines = []
    for each in late:
        by = "only claimed: nobody looked at the signatures"
        if not each.claimed:
            by = f"with block {each.block_ids[-1].hex()}"
        lines.append(f"USED AFTER THE END {each.count} times, {_span(each.first_ms, each.last_ms)}, {by}")
    return lines


def missing_lines(missing: Iterable[Missing]) -> list[str]:
    """Return the reasons why blocks may be missing, as lines."""
    return [
        f"incomplete: {_MISSING.get(each.name, 'the server says that something is missing')}"
        for each in missing
    ]


def host_lines(hosts: Iterable[HostUsage]) -> list[str]:
    """Return the hosts of a cluster whose use is in a report, as lines."""
    rows = [
        [each.name, moment(each.since_ms), moment(each.reported_at_ms) or "never", _standing(each)]
        for each in hosts
    ]
    return ["", *table(("HOST", "SINCE", "REPORTED", ""), rows)] if rows else []


def _standing(host: HostUsage) -> str:
    words = [] if host.current else ["INCOMPLETE"]
    if host.waiting:
        words.append(f"{host.waiting} sessions to come")
    if host.removed_at_ms:
        words.append(f"removed {moment(host.removed_at_ms)}")
    return ", ".join(words)


def _span(first_ms: int, last_ms: int) -> str:
    first, last = moment(first_ms), moment(last_ms)
    return first if first == last else f"{first} to {last}"


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

    Raises UsageError if there is no session to report on.
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

    Raises UsageError if there is none or more than one, or nothing is suggested.
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
        **attributes(session, "id", "status", "subject", "purpose", "owner"),
        **attributes(observation, "allowed", "denied"),
        "observe": session.observe,
        **attributes(observation, "observed", "last_allow_ms"),
        "blocks": len(observation.blocks),
        "late": [json_value(late) for late in observation.late.values()],
        **attributes(report, "verifiers", "missing"),
    }


def to_lines(
    reports: Sequence[SessionReport], report: UsageReport | None, fit: Fit, approval: Approval | None = None
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

    Raises ConfigError if the console's templates are not installed, UsageError if the file can't be written.
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
