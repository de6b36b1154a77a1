"""Reports of granted against used authority: of one session, or of all sessions of one purpose.

:class:`UsageReport` compares each granted layer with its use and has suggestions for it. :func:`sections`
returns a report as tables for a terminal: titles, headers and rows without a layout, with texts made safe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..model.notebook import html_table
from ..model.session import Session
from ..scopes.parts import Approval
from ..scopes.scope import Scope
from ..scopes.value import value_of
from .argument_reader import scope_path
from .kinds.observed import Observed, SessionPrice, judged, price_of, used_layers
from .kinds.scopes import BroughtOnce, brought_once
from .profile import ALL, CEILING, MINTED, CallGroup, GrantLayer, ceilings
from .session_usage import SessionUsage, TimeSpan, TopKTable
from .suggest import Suggestion, evidence_of, merged, suggest, verdict
from .tighten import Fit
from .value_summary import KINDS, values_to_json

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class ScopeUse:
    """One granted scope: the times and the calls that it may have admitted."""

    scope: Scope
    span: TimeSpan
    calls: Sequence[tuple[str, str, CallGroup]]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "scope": str(self.scope),
            "used": self.span.calls > 0,
            **self.span.to_dict(),
            "actions_granted": list(self.scope.actions),
            "actions_used": sorted({action for action, _, _ in self.calls}),
            "resources_granted": str(self.scope).partition(":")[2].partition(" ")[0],
            "kinds": [_kind(*call) for call in self.calls],
        }


@dataclass(frozen=True, slots=True)
class LayerUse:
    """One granted list of scopes, and suggestions for it.

    ``sessions``: the number of sessions with it; ``unknown``: calls that it admitted by an unknown scope.
    ``once``: values of one session only. ``observed``: the sessions that used it.
    """

    layer: GrantLayer
    sessions: int
    unknown: int
    scopes: tuple[ScopeUse, ...]
    suggestions: tuple[Suggestion, ...]
    once: tuple[BroughtOnce, ...] = ()
    observed: tuple[Observed, ...] = ()

    def suggestion(self, fit: Fit) -> Suggestion:
        """Return the suggestion of a fit."""
        return next(each for each in self.suggestions if each.fit is fit)

    def prices(self, fit: Fit) -> tuple[SessionPrice, ...]:
        """Return the calls of each session that a suggestion made from the other sessions would have denied.

        It is empty for one session alone. Of more than 24 sessions, an even selection is compared.
        """
        prices = []
        for number in judged(self.observed) if len(self.observed) > 1 else ():
            others = [*self.observed[:number], *self.observed[number + 1 :]]
            learnt = suggest(self.layer, merged(others), fit, sessions=others)
            prices.append(price_of(self.layer, self.observed[number], learnt.scopes))
        return tuple(prices)

    @property
    def used(self) -> int:
        """The number of its scopes that were used."""
        return sum(scope.span.calls > 0 for scope in self.scopes)

    def to_dict(self, fit: Fit = Fit.KINDS) -> dict[str, object]:
        """Return plain values for JSON; verdict and price are of ``fit``. No suggestions, no verdict."""
        prices = self.prices(fit)
        return {
            **({"verdict": verdict(self.suggestion(fit), prices)} if self.suggestions else {}),
            "id": self.layer.id,
            "kind": self.layer.kind,
            "sessions": self.sessions,
            "scopes_granted": len(self.scopes),
            "scopes_used": self.used,
            "scopes_never_used": [str(each.scope) for each in self.scopes if not each.span.calls],
            "calls_by_unknown_scope": self.unknown,
            "scopes": [each.to_dict() for each in self.scopes],
            "suggestions": {each.fit.value: each.to_dict() for each in self.suggestions},
            "price": {"fit": fit.value, "sessions": [each.to_dict() for each in prices]},
            "brought_once": [each.to_dict() for each in self.once],
        }


@dataclass(frozen=True, slots=True)
class TimeUse:
    """The used part of a session's time. All in ms; moments since 1970, 0 if there was none."""

    session: Session
    span: TimeSpan
    now_ms: int

    @property
    def granted_ms(self) -> int:
        """The granted time, from opening to expiry."""
        return max(0, self.session.expires_at_ms - self.session.opened_at_ms)

    @property
    def lived_ms(self) -> int:
        """The time that it lived, until now."""
        until = self.session.ended_at_ms or min(self.now_ms, self.session.expires_at_ms)
        return max(0, until - self.session.opened_at_ms)

    @property
    def needed_ms(self) -> int:
        """The time from its opening to the last allowed call."""
        return max(0, self.span.last_ms - self.session.opened_at_ms) if self.span.calls else 0

    @property
    def used_ms(self) -> int:
        """The needed part of the granted time."""
        return min(self.needed_ms, self.granted_ms)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON; ``share`` is needed of granted, 0.0 to 1.0."""
        return {
            "id": self.session.id.hex(),
            "status": self.session.status.name,
            "opened_at_ms": self.session.opened_at_ms,
            "expires_at_ms": self.session.expires_at_ms,
            "ended_at_ms": self.session.ended_at_ms,
            "lease_ms": self.session.lease_ms,
            **self.span.to_dict(),
            "granted_ms": self.granted_ms,
            "lived_ms": self.lived_ms,
            "needed_ms": self.needed_ms,
            "share": round(self.used_ms / self.granted_ms, 4) if self.granted_ms else 0.0,
        }


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Granted against used. ``usage`` is of all its sessions together."""

    purpose: str
    sessions: tuple[TimeUse, ...]
    usage: SessionUsage
    layers: tuple[LayerUse, ...]
    made_at_ms: int

    @classmethod
    def of(
        cls,
        used: Sequence[tuple[Session, SessionUsage]],
        *,
        now_ms: int,
        purpose: str | None = None,
        fits: Sequence[Fit] = tuple(Fit),
    ) -> UsageReport:
        """Return the report of sessions, with their current ceilings, and what each of them used.

        ``purpose`` is that of all sessions; the first one's if None. Suggestions of ``fits`` take most of the
        time. ``now_ms`` is the time of the report, since 1970.
        """
        observed = [_observed(session, usage) for session, usage in used]
        whole = merged(observed)
        granted: dict[str, GrantLayer] = {}
        sessions: Counter[str] = Counter()
        for session, usage in used:
            of_session = {layer.id: layer for layer in _ceiling(session)} | usage.minted
            granted |= of_session
            sessions.update(of_session.keys())
        layers = sorted(granted.values(), key=lambda layer: layer.kind)
        return cls(
            purpose=used[0][0].purpose if purpose is None and used else purpose or "",
            sessions=tuple(TimeUse(session, usage.allowed, now_ms) for session, usage in used),
            usage=whole,
            layers=tuple(_layer_use(layer, whole, sessions[layer.id], observed, fits) for layer in layers),
            made_at_ms=now_ms,
        )

    @property
    def ceilings(self) -> tuple[LayerUse, ...]:
        """The layers of ceilings."""
        return tuple(layer for layer in self.layers if layer.layer.kind == CEILING)

    @property
    def minted(self) -> tuple[LayerUse, ...]:
        """The layers that tokens were minted with, of tokens that were used."""
        return tuple(layer for layer in self.layers if layer.layer.kind == MINTED)

    def to_dict(self, fit: Fit = Fit.KINDS) -> dict[str, object]:
        """Return plain values for JSON, in a stable order; prices are of ``fit``."""
        usage = self.usage
        return {
            "format": FORMAT,
            "made_at_ms": self.made_at_ms,
            "purpose": self.purpose,
            "sessions": [each.to_dict() for each in self.sessions],
            "allowed": usage.allowed.to_dict(),
            "denied": _rows(usage.denied, "reason"),
            "denied_calls": _rows(usage.denied_calls, "reason", "action", "resource"),
            "observed": _rows(usage.observed, "layer", "action", "resource", "argument"),
            "resources": _rows(usage.calls, "action", "resource"),
            "tokens_used": len(usage.tokens.rows),
            "layers": [each.to_dict(fit) for each in self.layers],
            "incomplete": list(usage.truncated),
        }

    def _repr_html_(self) -> str:
        """Return its sections as tables for a notebook."""
        return "".join(
            html_table(each.title, [*each.rows, *([line] for line in each.lines)], each.headers)
            for each in sections(self)
        )


def _rows(table: TopKTable[Any], *names: str) -> list[dict[str, object]]:
    """Return the rows of a table, with the names of their keys' parts."""
    return [{**dict(zip(names, key, strict=True)), **span.to_dict()} for key, span in table]


def _ceiling(session: Session) -> Iterable[GrantLayer]:
    return ceilings([[Scope.from_record(scope) for scope in layer] for layer in session.ceilings])


def _observed(session: Session, usage: SessionUsage) -> Observed:
    facts = {fact.name: value_of(fact.value) for fact in session.facts}
    return Observed(usage, facts, session.id.hex())


def _layer_use(
    layer: GrantLayer, usage: SessionUsage, sessions: int, observed: Sequence[Observed], fits: Sequence[Fit]
) -> LayerUse:
    users = tuple(each for each in observed if layer.id in used_layers(each.usage))
    return LayerUse(
        layer=layer,
        sessions=sessions,
        unknown=usage.uses[layer.id, -1].calls,
        scopes=tuple(
            ScopeUse(scope, usage.uses[layer.id, index], evidence_of(layer, index, usage))
            for index, scope in enumerate(layer.scopes)
        ),
        suggestions=tuple(suggest(layer, usage, fit, sessions=users) for fit in fits),
        once=brought_once(layer, users),
        observed=users,
    )


def _kind(action: str, resource: str, group: CallGroup) -> dict[str, object]:
    """Return the arguments of one call group; the resource is None if resources are joined."""
    return {
        "action": action,
        "resource": None if resource == ALL else resource,
        "calls": group.calls,
        "arguments": [
            {
                "path": str(scope_path(names)),
                "present": summary.found,
                "absent": group.places(names) - summary.found,
                "types": {kind: summary.kinds[kind] for kind in KINDS if kind in summary.kinds},
                "values": None if summary.values is None else values_to_json(summary.values),
                "least": None if summary.low is None else str(summary.low),
                "most": None if summary.high is None else str(summary.high),
                "begins": summary.prefix,
                "hosts": sorted(summary.hosts or ()),
                "elements": None if summary.elements is None else values_to_json(summary.elements),
                "longest_list": summary.longest,
            }
            for names, summary in sorted(group.paths.items())
        ],
        "more_arguments": group.cut or group.opaque,
    }


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

    ``approval`` are the people who are asked about new calls. None: new calls are denied.
    """
    prices = [layer.prices(fit) for layer in report.layers]
    all_sections = [_verdicts(report, fit, approval, prices), _summary(report), _time(report)]
    for layer, of_layer in zip(report.layers, prices, strict=True):
        all_sections += [_scopes(layer), _suggestion(layer, fit, approval)]
        all_sections.append(_price(layer, fit, approval, of_layer))
        all_sections += [_once(layer), _left_out(layer, fit), _not_held(layer, fit)]
    all_sections += [_resources(report), _denied(report), _wanted(report)]
    all_sections.append(Section("not complete", lines=report.usage.truncated))
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
        granted = sum(not use.scope.exception for each in layers for use in each.scopes)
        used = sum(each.used for each in layers)
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
    rows: list[tuple[object, ...]] = [
        (each.span.calls or ("" if each.scope.exception else "never"), each.scope) for each in often
    ]
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
    """Return the price of the suggestion: for each session, by a suggestion made from the others."""
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
    """Return the values of one session only: read them before you use a suggestion."""
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
    return Section("used", ("CALLS", "ACTION", "RESOURCE"), _frequent(report.usage.calls))


def _frequent(table: TopKTable[Any]) -> tuple[tuple[object, ...], ...]:
    rows = sorted(table, key=lambda row: -row[1].calls)[:MAX_ROWS]
    return tuple((each.calls, *key) for key, each in rows)


def _denied(report: UsageReport) -> Section:
    return Section(
        "denied", ("CALLS", "REASON"), tuple((each.calls, reason) for (reason,), each in report.usage.denied)
    )


def _wanted(report: UsageReport) -> Section:
    headers = ("CALLS", "REASON", "ACTION", "RESOURCE")
    return Section("wanted and not granted", headers, _frequent(report.usage.denied_calls))


def span(ms: int) -> str:
    """Return a length of time in the largest unit that fits, such as ``4.5 min``."""
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if ms >= size:
            return f"{ms / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{ms} ms"


def share(part: int, whole: int) -> str:
    """Return a part of a whole in percent, such as ``12 %``; "" if the whole is 0."""
    return f"{100 * part / whole:.0f} %" if whole else ""
