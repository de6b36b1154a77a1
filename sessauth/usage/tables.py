"""A report as tables for a terminal: titles, headers and rows, without their layout; texts made safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..scopes.needs import Approval
from ..scopes.value import quoted, shows
from .generalize import Fit
from .kinds.price import SessionPrice
from .report import LayerUse, UsageReport
from .verdict import verdict

MAX_ROWS = 20
VERDICT = "verdict"


@dataclass(frozen=True, slots=True)
class Section:
    """A title with lines, or with rows below headers."""

    title: str
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()
    lines: tuple[str, ...] = ()


def sections(report: UsageReport, fit: Fit = Fit.KINDS, approval: Approval | None = None) -> list[Section]:
    """Return the report in reading order, without empty sections.

    Args:
        report: of one session, or of several.
        fit: of the suggestions.
        approval: who is asked about what is new. None: it is denied.
    """
    prices = [layer.prices(fit) for layer in report.layers]
    all_sections = [_verdicts(report, fit, approval, prices), _summary(report), _time(report)]
    for layer, of_layer in zip(report.layers, prices, strict=True):
        all_sections += [_scopes(layer), _suggestion(layer, fit, approval)]
        all_sections.append(_price(layer, fit, approval, of_layer))
        all_sections += [_once(layer), _left_out(layer, fit), _not_held(layer, fit)]
    all_sections += [_resources(report), _denied(report), _wanted(report), _incomplete(report)]
    return [section for section in all_sections if section.rows or section.lines]


def _verdicts(
    report: UsageReport, fit: Fit, approval: Approval | None, prices: Sequence[Sequence[SessionPrice]]
) -> Section:
    lines = [
        f"{layer.layer.kind}, {fit}: {verdict(layer.suggestion(fit), each, by_approval=approval is not None)}"
        for layer, each in zip(report.layers, prices, strict=True)
    ]
    return Section(VERDICT, lines=tuple(lines))


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


def _suggestion(layer: LayerUse, fit: Fit, approval: Approval | None) -> Section:
    suggestion = layer.suggestion(fit)
    scopes = suggestion.scopes if approval is None else suggestion.with_approval(approval)
    lines = [str(scope) for scope in scopes]
    if suggestion.why:
        lines.append(f"(as granted where used: {suggestion.why})")
    title = f"suggested, {layer.layer.kind}, {fit}"
    return Section(title + (", new calls by approval: for tokens" if approval else ""), lines=tuple(lines))


def _price(layer: LayerUse, fit: Fit, approval: Approval | None, prices: Sequence[SessionPrice]) -> Section:
    """Return what the suggestion would have cost the sessions, each judged by the others."""
    if not prices:
        return Section("")
    word = "asked about" if approval else "denied"
    calls, denied = sum(each.calls for each in prices), sum(each.denied for each in prices)
    hit = [each for each in prices if each.denied]
    line = f"about {denied} of {calls} calls {word}, in {len(hit)} of {len(prices)} sessions"
    if approval:
        line += f": {denied / len(prices):.2f} questions a session"
    rows = tuple((each.name, each.calls, each.denied) for each in hit[:MAX_ROWS])
    title = f"price, {layer.layer.kind}, {fit}: each session judged by what the others suggest"
    return Section(title, ("SESSION", "CALLS", word.upper()) if rows else (), rows, (line,))


def _once(layer: LayerUse) -> Section:
    """Return what only one session brought: read it before a suggestion is used."""
    rows = tuple((each.session, each.call, each.argument, each.value) for each in layer.once)
    title = f"brought by one session only, {layer.layer.kind}"
    if len(rows) > MAX_ROWS:
        title += f", {MAX_ROWS} of {len(rows)}"
    return Section(title, ("SESSION", "CALL", "ARGUMENT", "VALUE"), rows[:MAX_ROWS])


def _left_out(layer: LayerUse, fit: Fit) -> Section:
    lines = tuple(dict.fromkeys(layer.suggestion(fit).once))
    return Section(f"left out, {layer.layer.kind}, {fit}: too few sessions brought it", lines=_cut(lines))


def _not_held(layer: LayerUse, fit: Fit) -> Section:
    lines = tuple(dict.fromkeys(layer.suggestion(fit).notes))
    return Section(f"not tightened, {layer.layer.kind}, {fit}", lines=_cut(lines))


def _cut(lines: tuple[str, ...]) -> tuple[str, ...]:
    more = len(lines) - MAX_ROWS
    return lines if more <= 0 else (*lines[:MAX_ROWS], f"… and {more} more")


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
