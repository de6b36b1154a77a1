"""Scopes inside one granted scope that admit all calls that were seen by it.

The kernel has the last word: what it does not prove to lie inside the granted scope is not suggested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from .. import limits
from .._fast.scopes import containment, implication
from ..errors import ScopeError
from ..scopes.argument_path import ValueSource
from ..scopes.condition import Condition
from ..scopes.operators import Accessor, Operator
from ..scopes.scope import Scope
from ..scopes.segment import Segment, SegmentKind
from .generalize import Fit, conditions, is_listed, segment
from .open_arguments import ArgumentTree, free_paths, is_closed, mentioned
from .profile import CallGroup

# Scopes that one granted scope may become; beyond it kinds of call are taken together.
MAX_PARTS: Final = 16


@dataclass(slots=True)
class CallFamily:
    """Calls that are held to one scope together; ``family``: all whose resources begin alike."""

    actions: set[str] = field(default_factory=set)
    bucket: CallGroup = field(default_factory=CallGroup)
    family: CallGroup = field(default_factory=CallGroup)

    def add(self, action: str, bucket: CallGroup) -> None:
        """Take in more calls."""
        self.actions.add(action)
        self.bucket.merge(bucket)


Evidence = Sequence[tuple[str, str, CallGroup]]
"""Action, resource (``profile.ALL`` where they are not told apart) and calls."""


def tighten(granted: Scope, evidence: Evidence, fit: Fit, most: int = MAX_PARTS) -> list[Scope]:
    """Return at most ``most`` scopes inside ``granted`` that admit all calls of ``evidence``.

    What the granted scope needs stays as it is, and such a scope is never split: its uses are counted by
    scope, so two of them would have twice as many.
    """
    if granted.has_unknown_kind:
        return [granted]
    for kinds in _ways(granted, evidence, fit):
        parts = _joined(_tight(granted, kind, fit) for kind in kinds)
        if len(parts) <= most:
            return _needed(parts)
    return [granted]


def is_inside(granted: Sequence[Scope], scopes: Sequence[Scope]) -> bool:
    """Whether the kernel proves that every call that ``scopes`` permit is permitted by ``granted``."""
    parent, child = [s.to_record() for s in granted], [s.to_record() for s in scopes]
    # Both are read where the same facts are: the suggestion is for the place of what was granted.
    return not scopes or containment.contains(parent, child, same_facts=True)[0] == 1


def _ways(granted: Scope, evidence: Evidence, fit: Fit) -> Iterator[Iterable[CallFamily]]:
    """Give ways of taking calls together, from the finest to the coarsest."""
    if granted.needs is None:
        yield _kinds(evidence, fit)
        by_action: dict[object, CallFamily] = {}
        for action, _, bucket in evidence:
            by_action.setdefault(action, _alone()).add(action, bucket)
        yield by_action.values()
    whole = _alone()
    for action, _, bucket in evidence:
        whole.add(action, bucket)
    yield [whole]


def _alone() -> CallFamily:
    bucket = CallGroup()
    return CallFamily(bucket=bucket, family=bucket)


def _kinds(evidence: Evidence, fit: Fit) -> Iterable[CallFamily]:
    families: dict[str, CallGroup] = {}
    kinds: dict[object, CallFamily] = {}
    for action, resource, bucket in evidence:
        # The first segment names the kind of thing that a resource is.
        first = resource.split("/")[0]
        family = families.setdefault(first, CallGroup())
        family.merge(bucket)
        alike = resource if fit is Fit.EXACT else (first, frozenset(bucket.paths))
        kinds.setdefault((action, alike), CallFamily(family=family)).add(action, bucket)
    return kinds.values()


def _joined(scopes: Iterable[Scope]) -> list[Scope]:
    """Take scopes together that differ in nothing but their actions, or their last segment."""
    resources: dict[Scope, set[str]] = {}
    for scope in scopes:
        last = scope.resource[-1]
        texts = last.texts if last.kind in (SegmentKind.LITERAL, SegmentKind.ONE_OF) else ()
        above = replace(scope, resource=(*scope.resource[:-1], Segment.any())) if texts else scope
        resources.setdefault(above, set()).update(texts)
    actions: dict[Scope, set[str]] = {}
    for above, names in resources.items():
        for scope in _with_last(above, sorted(names)):
            actions.setdefault(replace(scope, actions=("*",)), set()).update(scope.actions)
    return [replace(scope, actions=part) for scope, names in actions.items() for part in _actions(names)]


def _with_last(above: Scope, texts: list[str]) -> list[Scope]:
    """Put the last segments back, in as many scopes as the format wants."""
    most = limits.MAX_SEGMENT_TEXTS
    parts = [texts[at : at + most] for at in range(0, len(texts), most)]
    lasts = [Segment.literal(part[0]) if len(part) == 1 else Segment.one_of(*part) for part in parts]
    return [replace(above, resource=(*above.resource[:-1], last)) for last in lasts] or [above]


def _needed(parts: list[Scope]) -> list[Scope]:
    """Leave out what lies inside another."""
    kept: list[Scope] = []
    # Of two that say the same one stays, since what was left out is not asked again.
    for index, part in enumerate(parts):
        if not any(is_inside([other], [part]) for other in (*kept, *parts[index + 1 :])):
            kept.append(part)
    return kept


def _actions(actions: set[str]) -> list[tuple[str, ...]]:
    """Return the actions in as many parts as the format wants."""
    if "*" in actions:
        return [("*",)]
    names, most = sorted(actions), limits.MAX_ACTIONS
    return [tuple(names[at : at + most]) for at in range(0, len(names), most)]


def _tight(granted: Scope, kind: CallFamily, fit: Fit) -> Scope:
    """Return the tightest scope for a kind of call that is well-formed and proven to lie inside."""
    for make in (_closest, _with_free_as_granted, _without_conditions):
        try:
            scope = make(granted, kind, fit)
        except ScopeError:
            continue
        if is_inside([granted], [scope]):
            return scope
    return granted


def _closest(granted: Scope, kind: CallFamily, fit: Fit) -> Scope:
    scope = _with_free_as_granted(granted, kind, fit)
    if fit is Fit.LOOSE:
        return scope
    said = {c.path.segments for c in scope.conditions if c.path.source == ValueSource.ARGS}
    free, everything = free_paths(granted, ArgumentTree(kind.bucket, said))
    return replace(scope, free_paths=free, everything_free=everything)


def _with_free_as_granted(granted: Scope, kind: CallFamily, fit: Fit) -> Scope:
    """Conditions on what was seen; arguments that nobody spoke of are as open as they were."""
    scope = _without_conditions(granted, kind, fit)
    more = _conditions(granted, kind.bucket, fit)
    wide = not is_closed(granted) and bool(more)
    # What a new condition on the same argument says already need not be read twice.
    kept = [
        known
        for known in granted.conditions
        if not any(new.path == known.path and _implies(new, known) for new in more)
    ]
    return replace(scope, conditions=(*kept, *more), everything_free=wide or granted.everything_free)


def _without_conditions(granted: Scope, kind: CallFamily, fit: Fit) -> Scope:
    actions, *more = _actions(kind.actions)
    return replace(
        granted,
        actions=granted.actions if more else actions,
        resource=_resource(granted.resource, kind, fit),
    )


def _conditions(granted: Scope, bucket: CallGroup, fit: Fit) -> list[Condition]:
    room = limits.MAX_CONDITIONS - len(granted.conditions)
    found: list[Condition] = []
    for path, slot in sorted(bucket.paths.items()):
        new = [
            condition
            for condition in conditions(path, slot, bucket.calls, fit)
            if not any(_implies(known, condition) for known in granted.conditions)
        ]
        if len(found) + len(new) <= room:
            found += new
    return found


def _implies(known: Condition, condition: Condition) -> bool:
    try:
        return implication.implies(known.to_record(), condition.to_record(), True, implication.WorkBudget())
    except implication.WorkExceeded:
        return False


def _resource(granted: tuple[Segment, ...], kind: CallFamily, fit: Fit) -> tuple[Segment, ...]:
    open_end = granted[-1].kind == SegmentKind.REST
    fixed = granted[:-1] if open_end else granted
    bucket = kind.bucket
    parts: list[Segment] = []
    for index in range(bucket.shortest):
        inside = index < len(fixed)
        listed = is_listed(fit, kind.family.segments[index], first=index == 0)
        if not (listed or inside):
            return (*parts, Segment.rest())
        above = fixed[index] if inside else Segment.any()
        parts.append(segment(above, bucket.segments[index]) if listed else above)
    return (*parts, Segment.rest()) if bucket.longest > bucket.shortest else tuple(parts)


def work_of(scope: Scope, bucket: CallGroup) -> int:
    """Return the most work (docs/token-format.md, 9.8) that judging one of these calls by a scope can be."""
    work = bucket.size * max(1, mentioned(scope))
    for condition in scope.conditions:
        values = max(1, len(condition.values))
        if condition.each or condition.operator == Operator.SUBSET_OF:
            work += bucket.size * values
        if condition.operator == Operator.GLOB or condition.accessor > Accessor.COUNT:
            work += bucket.weight // 16 * values
    return work
