"""A report as tables for a terminal: titles, headers and rows, without their layout; texts made safe."""

from __future__ import annotations

from dataclasses import dataclass

from ..scopes.value import quoted, shows
from .generalize import Fit
from .report import LayerUse, UsageReport

MAX_ROWS = 20


@dataclass(frozen=True, slots=True)
class Section:
    """A title with lines, or with rows below headers."""

    title: str
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()
    lines: tuple[str, ...] = ()


def sections(report: UsageReport, fit: Fit = Fit.LOOSE) -> list[Section]:
    """Return the report in reading order, without empty sections."""
    all_sections = [_summary(report), _time(report)]
    for layer in report.layers:
        all_sections += [_scopes(layer), _suggestion(layer, fit)]
    all_sections += [_resources(report), _denied(report), _wanted(report), _incomplete(report)]
    return [section for section in all_sections if section.rows or section.lines]


def _summary(report: UsageReport) -> Section:
    usage = report.usage
    denied = sum(span.calls for _, span in usage.denied)
    lines = [
        f"{len(report.sessions)} session(s)" + (f" for {report.purpose}" if report.purpose else ""),
        f"{usage.allowed.calls} calls allowed, {denied} denied",
    ]
    for name, layers in (("ceiling", report.ceilings), ("minted", report.minted)):
        granted, used = sum(len(each.scopes) for each in layers), sum(each.used for each in layers)
        if granted:
            lines.append(f"{used} of {granted} scopes used ({name})")
    return Section("granted against used", lines=tuple(lines))


def _time(report: UsageReport) -> Section:
    rows = [
        (
            each.session.id.hex(),
            each.session.status.name,
            span(each.granted_ms),
            span(each.lived_ms),
            span(each.needed_ms),
            share(each.used_ms, each.granted_ms),
        )
        for each in report.sessions[:MAX_ROWS]
    ]
    return Section("time", ("SESSION", "STATUS", "GRANTED", "LIVED", "NEEDED", "SHARE"), tuple(rows))


def _scopes(layer: LayerUse) -> Section:
    often = sorted(layer.scopes, key=lambda each: -each.span.calls)
    rows: list[tuple[object, ...]] = [(each.span.calls or "never", each.scope) for each in often]
    if layer.unknown:
        rows.append((layer.unknown, "(by a scope that is not known)"))
    title = f"granted, {layer.layer.kind}, {layer.sessions} session(s)"
    return Section(title, ("USED", "SCOPE"), tuple(rows))


def _suggestion(layer: LayerUse, fit: Fit) -> Section:
    suggestion = next(each for each in layer.suggestions if each.fit is fit)
    lines = [str(scope) for scope in suggestion.scopes]
    if suggestion.why:
        lines.append(f"(as granted where used: {suggestion.why})")
    return Section(f"enough, {layer.layer.kind}, {fit}", lines=tuple(lines))


def _resources(report: UsageReport) -> Section:
    rows = sorted(report.usage.calls, key=lambda row: -row[1].calls)[:MAX_ROWS]
    return Section("used", ("CALLS", "ACTION", "RESOURCE"), tuple((each.calls, *key) for key, each in rows))


def _denied(report: UsageReport) -> Section:
    return Section(
        "denied", ("CALLS", "REASON"), tuple((each.calls, reason) for (reason,), each in report.usage.denied)
    )


def _wanted(report: UsageReport) -> Section:
    rows = sorted(report.usage.denied_calls, key=lambda row: -row[1].calls)[:MAX_ROWS]
    return Section(
        "wanted and not granted",
        ("CALLS", "REASON", "ACTION", "RESOURCE"),
        tuple((each.calls, *key) for key, each in rows),
    )


def _incomplete(report: UsageReport) -> Section:
    return Section("not complete", lines=report.usage.truncated)


def safe_text(text: str, most: int = 0) -> str:
    """Return a text with invisible characters escaped, cut to ``most`` characters (0: whole)."""
    plain = text if shows(text) else quoted(text)
    return plain if not most or len(plain) <= most else plain[: most - 1] + "…"


def span(ms: int) -> str:
    """Return a length of time in the largest unit that fits, such as ``4.5 min``."""
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if ms >= size:
            return f"{ms / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{ms} ms"


def share(part: int, whole: int) -> str:
    """Return a part of a whole in percent, such as ``12 %``; "" if the whole is 0."""
    return f"{100 * part / whole:.0f} %" if whole else ""
