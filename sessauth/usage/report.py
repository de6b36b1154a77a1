"""Granted against used: of one session, or of all sessions of one purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..model.session import Session
from ..scopes.scope import Scope
from ..scopes.value import value_of
from .argument_reader import scope_path
from .counters import TimeSpan, TopKTable
from .generalize import Fit
from .grants import CEILING, MINTED, GrantLayer, ceilings
from .kinds.observed import Observed, used_layers
from .kinds.once import BroughtOnce, brought_once
from .kinds.price import SessionPrice, judged, price_of
from .profile import ALL, CallGroup
from .session_usage import SessionUsage
from .suggest import Suggestion, evidence_of, suggest
from .value_summary import KINDS, values_to_json
from .verdict import verdict

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
    ``once``: what only one session brought. ``observed``: the sessions that used it.
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
        """Return what it would have denied of sessions, each judged by what the others suggest.

        Of one session there is nothing to learn from; of more than 24, evenly chosen ones are judged.
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
        """Return the report of sessions and what each of them used.

        Args:
            used: the sessions, with their current ceilings.
            now_ms: the time of the report, in ms since 1970.
            purpose: of all sessions; the first one's if None.
            fits: of the suggestions, which take most of the time.
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


def _rows(table: TopKTable[Any], *names: str) -> list[dict[str, object]]:
    """Return the rows of a table, with the names of their keys' parts."""
    return [{**dict(zip(names, key, strict=True)), **span.to_dict()} for key, span in table]


def _ceiling(session: Session) -> Iterable[GrantLayer]:
    return ceilings([[Scope.from_record(scope) for scope in layer] for layer in session.ceilings])


def merged(observed: Iterable[Observed]) -> SessionUsage:
    """Return the usage of all sessions together."""
    whole = SessionUsage()
    for each in observed:
        whole.merge(each.usage)
    return whole


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
