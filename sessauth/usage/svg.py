"""A report as a picture (SVG): bars of the used part of each grant, and beside them what is suggested.

Calls that observe mode alone allowed have a colour and rows of their own: no scope of the ceiling is theirs.

It shows scopes, resources and times. Of a suggestion it shows how many arguments are held, and no value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Final

from ..scopes.operators import Operator
from ..scopes.scope import Scope
from .generalize import Fit
from .grants import is_for
from .report import LayerUse, UsageReport
from .suggest import SuggestionPart
from .tables import safe_text, share, span

WIDTH: Final = 1280
_LEFT: Final = 24
_BAR: Final = 260
_ROW: Final = 24
_MAX_SCOPES: Final = 40
_MAX_ROWS: Final = 12
_LABEL_CHARS: Final = 84
# The columns of a layer, side by side: granted, used, suggested.
_USED_X: Final = 470
_USED_BAR: Final = 150
_SUGGESTED_X: Final = 700
_GRANTED_CHARS: Final = 58
_SUGGESTED_CHARS: Final = 74
_MAX_SUGGESTED: Final = 12

# Colours with enough contrast on a light and on a dark background.
_STYLE: Final = """
svg{--ground:#ffffff;--ink:#1f2328;--quiet:#656d76;--track:#d8dee4;--used:#1a7f7a;--denied:#b35900;--observed:#8250df}
@media (prefers-color-scheme:dark){
svg{--ground:#0d1117;--ink:#e6edf3;--quiet:#9198a1;--track:#30363d;--used:#3fb8b0;--denied:#e0883a;--observed:#b392f0}}
text{font:13px ui-sans-serif,system-ui,sans-serif;fill:var(--ink)}
.head{font-size:15px;font-weight:600}.quiet{fill:var(--quiet)}.mono{font-family:ui-monospace,monospace;font-size:12px}
.ground{fill:var(--ground)}.track{fill:var(--track)}.used{fill:var(--used)}.denied{fill:var(--denied)}
.observed{fill:var(--observed)}.mark{fill:var(--observed);font-weight:600}
.never{fill:none;stroke:var(--quiet);stroke-dasharray:3 3}
"""


class _Sheet:
    """Collects elements from top to bottom."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = 20

    def text(self, words: str, *, x: int = _LEFT, css: str = "", below: int = 0, most: int = 0) -> None:
        whole, cut = safe_text(words), safe_text(words, most)
        title = f"<title>{escape(whole)}</title>" if cut != whole else ""
        self.parts.append(f'<text x="{x}" y="{self.y + below}" class="{css}">{escape(cut)}{title}</text>')

    def bar(self, x: float, width: float, css: str) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{self.y}" width="{max(width, 1.5):.1f}" height="12" rx="2" class="{css}"/>'
        )

    def head(self, words: str, beside: str = "") -> None:
        self.y += 30
        self.text(words, css="head")
        self.text(beside, x=_LEFT + _BAR + 90, css="quiet")
        self.y += 10

    def row(self, part: float, label: str, number: str, css: str, observed: float = 0.0) -> None:
        """Add a bar with a number and a label behind it; an empty bar is dashed.

        ``observed`` is the share of ``part`` that observe mode alone allowed.
        """
        self.y += 6
        self.bar(_LEFT, _BAR, "track" if part else "never")
        if part:
            self.bar(_LEFT, _BAR * part, css)
        if observed:
            self.bar(_LEFT + _BAR * part * (1 - observed), _BAR * part * observed, "observed")
        self.text(number, x=_LEFT + _BAR + 12, css="quiet", below=11)
        self.text(label, x=_LEFT + _BAR + 90, css="mono", below=11, most=_LABEL_CHARS)
        self.y += _ROW - 6

    def more(self, count: int) -> None:
        if count > 0:
            self.text(f"… and {count} more", x=_LEFT + _BAR + 90, css="quiet", below=12)
            self.y += _ROW

    def svg(self, title: str) -> str:
        height = self.y + 24
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
            f' height="{height}" role="img"><title>{escape(title)}</title><style>{_STYLE}</style>'
            f'<rect class="ground" width="{WIDTH}" height="{height}"/>{"".join(self.parts)}</svg>\n'
        )


def picture(report: UsageReport, fit: Fit = Fit.KINDS) -> str:
    """Return an SVG document, for light and dark backgrounds. Every text in it is escaped."""
    sheet = _Sheet()
    usage = report.usage
    denied = sum(each.calls for _, each in usage.denied)
    title = "granted against used" + (f": {safe_text(report.purpose)}" if report.purpose else "")
    sheet.text(title, css="head", below=12, most=100)
    sheet.y += 22
    summary = f"{len(report.sessions)} session(s), {usage.allowed.calls} calls allowed, {denied} denied"
    sheet.text(summary, css="quiet", below=12)
    sheet.y += 12
    _mode(sheet, report)
    _times(sheet, report)
    for layer in report.layers:
        _layer(sheet, layer, fit)
    _outside(sheet, report, fit)
    observed = _observed_calls(report)
    calls = sorted(usage.calls, key=lambda row: -row[1].calls)
    used = [(f"{a} {r}", each.calls, min(1, observed[a, r] / each.calls)) for (a, r), each in calls]
    _counts(sheet, "used", used, "used")
    reasons = sorted(usage.denied, key=lambda row: -row[1].calls)
    _counts(sheet, "denied", [(word, each.calls, 0.0) for (word,), each in reasons], "denied")
    if usage.truncated:
        sheet.head("not complete", ", ".join(usage.truncated))
    return sheet.svg(title)


def _observed_calls(report: UsageReport) -> Counter[tuple[str, str]]:
    """Return how many calls of each action and resource observe mode alone allowed."""
    calls: Counter[tuple[str, str]] = Counter()
    for (_, action, resource, _), each in report.usage.observed:
        calls[action, resource] += each.calls
    return calls


def _mode(sheet: _Sheet, report: UsageReport) -> None:
    """Add a line on observe mode; none without it."""
    observing = sum(each.session.observe for each in report.sessions)
    calls = _observed_calls(report).total()
    if observing or calls:
        mode = f"observe mode: {observing} of {len(report.sessions)} session(s)"
        sheet.text(f"{mode}; it alone allowed {calls} calls", css="mark", below=20)
        sheet.y += 20


def _outside(sheet: _Sheet, report: UsageReport, fit: Fit) -> None:
    """Add a row for each kind of call outside of the ceiling, with what is suggested for minted scopes."""
    rows = sorted(report.usage.observed, key=lambda row: -row[1].calls)
    if not rows:
        return
    minted = [scope for layer in report.minted for scope in layer.suggestion(fit).scopes]
    sheet.head("outside of the ceiling", "allowed by observe mode alone")
    _columns(sheet, fit, "not granted")
    most = rows[0][1].calls
    for (_, action, resource, argument), each in rows[:_MAX_ROWS]:
        label = f"{action}:{resource}" + (f"  argument {argument}" if argument else "")
        sheet.text(label, css="mono", below=11, most=_GRANTED_CHARS)
        sheet.bar(_USED_X, _USED_BAR, "track")
        sheet.bar(_USED_X, _USED_BAR * each.calls / most, "observed")
        sheet.text(str(each.calls), x=_USED_X + _USED_BAR + 10, css="quiet", below=11)
        suggested = [_held(scope) for scope in minted if is_for(scope, action, resource)]
        words = f"minted: {suggested[0]}" if suggested else "not suggested"
        sheet.text(words, x=_SUGGESTED_X, css="mono", below=11, most=_SUGGESTED_CHARS)
        sheet.y += _ROW
    sheet.more(len(rows) - _MAX_ROWS)


def _columns(sheet: _Sheet, fit: Fit, first: str = "granted") -> None:
    sheet.text(first, css="quiet", below=12)
    sheet.text("used", x=_USED_X, css="quiet", below=12)
    sheet.text(f"suggested ({fit})", x=_SUGGESTED_X, css="quiet", below=12)
    sheet.y += _ROW - 4


def _times(sheet: _Sheet, report: UsageReport) -> None:
    """Add a line for each session: the granted time, and the part with calls."""
    longest = max((each.granted_ms for each in report.sessions), default=0)
    if not longest:
        return
    sheet.head("time", "granted (pale), from the first call to the last (strong)")
    for each in report.sessions[:_MAX_ROWS]:
        sheet.y += 6
        scale = _BAR / longest
        sheet.bar(_LEFT, each.granted_ms * scale, "track")
        if each.span.calls:
            start = max(0, each.span.first_ms - each.session.opened_at_ms)
            end = each.used_ms
            sheet.bar(_LEFT + min(start, end) * scale, max(0, end - start) * scale, "used")
        sheet.text(share(each.used_ms, each.granted_ms), x=296, css="quiet", below=11)
        label = f"needed {span(each.needed_ms)} of {span(each.granted_ms)}  {each.session.id.hex()}"
        sheet.text(label, x=_LEFT + _BAR + 90, css="mono", below=11)
        sheet.y += _ROW - 6
    sheet.more(len(report.sessions) - _MAX_ROWS)


def _layer(sheet: _Sheet, layer: LayerUse, fit: Fit) -> None:
    """Add a row for each granted scope: its text, its calls, and what is suggested for it."""
    granted, suggestion = len(layer.scopes), layer.suggestion(fit)
    summary = f"{layer.used} of {granted} scopes used, {share(granted - layer.used, granted)} never"
    sheet.head(f"granted ({layer.layer.kind})", summary)
    _columns(sheet, fit)
    most = max((each.span.calls for each in layer.scopes), default=0)
    for each, part in list(zip(layer.scopes, suggestion.parts, strict=True))[:_MAX_SCOPES]:
        calls = each.span.calls
        sheet.text(str(each.scope), css="mono", below=11, most=_GRANTED_CHARS)
        sheet.bar(_USED_X, _USED_BAR, "track" if calls else "never")
        if calls:
            sheet.bar(_USED_X, _USED_BAR * calls / most, "used")
        sheet.text(str(calls) if calls else "never", x=_USED_X + _USED_BAR + 10, css="quiet", below=11)
        for words in _suggested(part):
            sheet.text(words, x=_SUGGESTED_X, css="mono", below=11, most=_SUGGESTED_CHARS)
            sheet.y += _ROW - 6
        sheet.y += 6
    sheet.more(granted - _MAX_SCOPES)


def _suggested(part: SuggestionPart) -> list[str]:
    if part.outcome != "tightened":
        return [part.outcome]
    words = [_held(scope) for scope in part.scopes[:_MAX_SUGGESTED]]
    more = len(part.scopes) - _MAX_SUGGESTED
    return words if more <= 0 else [*words, f"… and {more} more"]


def _held(scope: Scope) -> str:
    """Return what a scope is for, and how many arguments it holds and leaves open."""
    place = f"{','.join(scope.actions)}:{'/'.join(map(str, scope.resource))}"
    held = {c.path for c in scope.conditions if c.operator != Operator.PRESENT}
    present = {c.path for c in scope.conditions if c.operator == Operator.PRESENT}
    if scope.everything_free:
        return f"{place}  {len(held)} held, all others open"
    return f"{place}  {len(held)} held, {len(scope.free_paths) + len(present)} open"


def _counts(sheet: _Sheet, head: str, rows: Sequence[tuple[str, int, float]], css: str) -> None:
    """Add a row for each label: its calls, and the share of them that observe mode alone allowed."""
    if not rows:
        return
    sheet.head(head)
    most = rows[0][1]
    for label, calls, observed in rows[:_MAX_ROWS]:
        sheet.row(calls / most, label, str(calls), css, observed)
    sheet.more(len(rows) - _MAX_ROWS)
