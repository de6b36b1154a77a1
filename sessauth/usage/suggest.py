"""From what was granted and what was used: fewer and narrower scopes that would have done.

A suggestion for a layer promises two things. It lies inside what was granted, as the kernel proves. And each
allowed call that was observed is allowed by it too: in the same place, by the same facts, at the same price.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from .. import limits
from ..scopes.scope import Scope
from .generalize import Fit
from .grants import GrantLayer
from .profile import NOTHING, CallGroup
from .session_usage import SessionUsage
from .tighten import MAX_PARTS, Evidence, is_inside, tighten, work_of

# A token has at most 8 KiB in all, and a suggestion that nobody reads is none.
MAX_BYTES: Final = 4096
# Of what a check may cost; the rest is for the other layers and blocks that a call is judged by.
_MAX_WORK: Final = limits.MAX_WORK // 4


@dataclass(frozen=True, slots=True)
class SuggestionPart:
    """What became of one granted scope: ``tightened``, ``kept`` as it is, or ``dropped`` as never used."""

    index: int
    granted: Scope
    scopes: tuple[Scope, ...]

    @property
    def outcome(self) -> str:
        """The word."""
        if not self.scopes:
            return "dropped"
        return "kept" if self.scopes == (self.granted,) else "tightened"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Scopes for the place of one granted layer; ``why`` says what could not be tightened, and why."""

    layer: str
    fit: Fit
    parts: tuple[SuggestionPart, ...]
    why: str = ""

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """All of them, in order; none if nothing was used."""
        return tuple(dict.fromkeys(scope for part in self.parts for scope in part.scopes))

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON, scopes as text."""
        return {
            "fit": self.fit.value,
            "scopes": [str(scope) for scope in self.scopes],
            "parts": [
                {
                    "granted": str(part.granted),
                    "outcome": part.outcome,
                    "scopes": [str(scope) for scope in part.scopes],
                }
                for part in self.parts
            ],
            "why": self.why,
        }


def suggest(
    layer: GrantLayer, usage: SessionUsage, fit: Fit = Fit.LOOSE, *, max_bytes: int = MAX_BYTES
) -> Suggestion:
    """Return scopes for the place of ``layer`` that admit every allowed call that was observed.

    Args:
        layer: what was granted.
        usage: what was used; of one session or merged from many.
        fit: how close to what was seen (:class:`~sessauth.usage.generalize.Fit`). LOOSE is the default: the
            next session of a purpose reads other files than the last.
        max_bytes: of all scopes together, encoded; beyond it they are coarser.
    """
    if usage.profiles[layer.kind].level == NOTHING:
        return _as_granted(layer, fit, "too many kinds of call to tell apart")
    if usage.uses[layer.id, -1].calls:
        return _as_granted(layer, fit, "for some calls the scope that admitted them is not known")
    evidence = [evidence_of(layer, index, usage) for index in range(len(layer.scopes))]
    for most in (MAX_PARTS, 4, 1):
        parts = tuple(
            SuggestionPart(index, scope, tuple(tighten(scope, seen, fit, most)) if seen else ())
            for index, (scope, seen) in enumerate(zip(layer.scopes, evidence, strict=True))
        )
        suggestion = Suggestion(layer.id, fit, parts)
        why = _wrong(suggestion, evidence, max_bytes)
        if not why:
            return suggestion
    used = tuple(
        SuggestionPart(index, scope, (scope,) if seen else ())
        for index, (scope, seen) in enumerate(zip(layer.scopes, evidence, strict=True))
    )
    return Suggestion(layer.id, fit, used, why)


def _as_granted(layer: GrantLayer, fit: Fit, why: str) -> Suggestion:
    parts = tuple(SuggestionPart(index, scope, (scope,)) for index, scope in enumerate(layer.scopes))
    return Suggestion(layer.id, fit, parts, why)


def evidence_of(layer: GrantLayer, index: int, usage: SessionUsage) -> Evidence:
    """Return the calls that a scope may have admitted, in order of action and resource."""
    return [
        (action, resource, bucket)
        for (positions, action), buckets in sorted(
            usage.profiles[layer.kind].groups.items(), key=itemgetter(0)
        )
        if (layer.id, index) in positions
        for resource, bucket in sorted(buckets.items(), key=itemgetter(0))
    ]


def _wrong(suggestion: Suggestion, evidence: list[Evidence], max_bytes: int) -> str:
    scopes = suggestion.scopes
    if len(scopes) > limits.MAX_SCOPES or sum(len(scope.encode()) for scope in scopes) > max_bytes:
        return "the suggestion would be too long"
    largest = _largest(bucket for seen in evidence for _, _, bucket in seen)
    if sum(work_of(scope, largest) for scope in scopes) > _MAX_WORK:
        return "arguments are so large that judging them by more conditions could be too much work"
    proven = all(is_inside([part.granted], part.scopes) for part in suggestion.parts)
    return "" if proven else "the suggestion is not proven to lie inside the grant"


def _largest(buckets: Iterator[CallGroup]) -> CallGroup:
    largest = CallGroup()
    for bucket in buckets:
        largest.size, largest.weight = max(largest.size, bucket.size), max(largest.weight, bucket.weight)
    return largest
