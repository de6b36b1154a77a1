"""Granted against used: of one session, or of all sessions of one purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..model.session import Session
from ..scopes.argument_path import Path
from ..scopes.scope import Scope
from .counters import TimeSpan
from .generalize import Fit
from .grants import CEILING, MINTED, GrantLayer, ceilings
from .profile import ALL, CallGroup
from .session_usage import SessionUsage
from .suggest import Suggestion, evidence_of, suggest
from .value_summary import KINDS, values_to_json

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class ScopeUse:
    """One granted scope: how often it may have admitted a call, and what those calls were."""

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
    """One granted list of scopes, and what would have been enough.

    ``sessions``: how many had it; ``unknown``: calls that it admitted by a scope that is not known.
    """

    layer: GrantLayer
    sessions: int
    unknown: int
    scopes: tuple[ScopeUse, ...]
    suggestions: tuple[Suggestion, ...]

    @property
    def used(self) -> int:
        """How many of its scopes were used."""
        return sum(scope.span.calls > 0 for scope in self.scopes)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "id": self.layer.id,
            "kind": self.layer.kind,
            "sessions": self.sessions,
            "scopes_granted": len(self.scopes),
            "scopes_used": self.used,
            "scopes_never_used": [str(each.scope) for each in self.scopes if not each.span.calls],
            "calls_by_unknown_scope": self.unknown,
            "scopes": [each.to_dict() for each in self.scopes],
            "suggestions": {each.fit.value: each.to_dict() for each in self.suggestions},
        }


@dataclass(frozen=True, slots=True)
class TimeUse:
    """How much of a session's time was needed. All in ms; moments since 1970, 0 where there was none."""

    session: Session
    span: TimeSpan
    now_ms: int

    @property
    def granted_ms(self) -> int:
        """How long it might have lived."""
        return max(0, self.session.expires_at_ms - self.session.opened_at_ms)

    @property
    def lived_ms(self) -> int:
        """How long it did live, until now."""
        until = self.session.ended_at_ms or min(self.now_ms, self.session.expires_at_ms)
        return max(0, until - self.session.opened_at_ms)

    @property
    def needed_ms(self) -> int:
        """From its opening to the last allowed call."""
        return max(0, self.span.last_ms - self.session.opened_at_ms) if self.span.calls else 0

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
            "share": round(min(1.0, self.needed_ms / self.granted_ms), 4) if self.granted_ms else 0.0,
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
        cls, used: Sequence[tuple[Session, SessionUsage]], *, now_ms: int, purpose: str | None = None
    ) -> UsageReport:
        """Return the report of sessions and what each of them used.

        Args:
            used: the sessions, with their ceilings as they are now.
            now_ms: when, in ms since 1970.
            purpose: what they have in common; the first one's if None.
        """
        whole = SessionUsage()
        for _, usage in used:
            whole.merge(usage)
        granted: dict[str, GrantLayer] = {}
        sessions: Counter[str] = Counter()
        for session, usage in used:
            of_it = {layer.id: layer for layer in _ceiling(session)} | usage.minted
            granted |= of_it
            sessions.update(of_it.keys())
        layers = sorted(granted.values(), key=lambda layer: layer.kind)
        return cls(
            purpose=used[0][0].purpose if purpose is None and used else purpose or "",
            sessions=tuple(TimeUse(session, usage.allowed, now_ms) for session, usage in used),
            usage=whole,
            layers=tuple(_layer_use(layer, whole, sessions[layer.id]) for layer in layers),
            made_at_ms=now_ms,
        )

    @property
    def ceilings(self) -> tuple[LayerUse, ...]:
        """The layers of ceilings."""
        return tuple(each for each in self.layers if each.layer.kind == CEILING)

    @property
    def minted(self) -> tuple[LayerUse, ...]:
        """What tokens were minted with, of those that were used at least once."""
        return tuple(each for each in self.layers if each.layer.kind == MINTED)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON, in a stable order."""
        usage = self.usage
        return {
            "format": FORMAT,
            "made_at_ms": self.made_at_ms,
            "purpose": self.purpose,
            "sessions": [each.to_dict() for each in self.sessions],
            "allowed": usage.allowed.to_dict(),
            "denied": [{"reason": reason, **span.to_dict()} for (reason,), span in usage.denied],
            "denied_calls": [
                {"reason": reason, "action": action, "resource": resource, **span.to_dict()}
                for (reason, action, resource), span in usage.denied_calls
            ],
            "resources": [
                {"action": action, "resource": resource, **span.to_dict()}
                for (action, resource), span in usage.calls
            ],
            "tokens_used": len(usage.tokens.rows),
            "layers": [each.to_dict() for each in self.layers],
            "incomplete": list(usage.truncated),
        }


def _ceiling(session: Session) -> Iterable[GrantLayer]:
    return ceilings([[Scope.from_record(scope) for scope in layer] for layer in session.ceilings])


def _layer_use(layer: GrantLayer, usage: SessionUsage, sessions: int) -> LayerUse:
    return LayerUse(
        layer=layer,
        sessions=sessions,
        unknown=usage.uses[layer.id, -1].calls,
        scopes=tuple(
            ScopeUse(scope, usage.uses[layer.id, index], evidence_of(layer, index, usage))
            for index, scope in enumerate(layer.scopes)
        ),
        suggestions=tuple(suggest(layer, usage, fit) for fit in (Fit.LOOSE, Fit.EXACT)),
    )


def _kind(action: str, resource: str, bucket: CallGroup) -> dict[str, object]:
    """Return what calls of one kind had; a resource that is not told apart is None."""
    return {
        "action": action,
        "resource": None if resource == ALL else resource,
        "calls": bucket.calls,
        "arguments": [
            {
                "path": str(Path(names)),
                "present": slot.found,
                "absent": bucket.calls - slot.found,
                "types": {kind: slot.kinds[kind] for kind in KINDS if kind in slot.kinds},
                "values": values_to_json(slot.values),
                "least": None if slot.low is None else str(slot.low),
                "most": None if slot.high is None else str(slot.high),
                "begins": slot.prefix,
                "hosts": sorted(slot.hosts or ()),
                "elements": values_to_json(slot.elements),
                "longest_list": slot.longest,
            }
            for names, slot in sorted(bucket.paths.items())
        ],
        "more_arguments": bucket.cut or bucket.opaque,
    }
