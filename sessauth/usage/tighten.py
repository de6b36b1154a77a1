"""Scopes inside one granted scope that admit all calls which it admitted.

Only scopes that the kernel proves to lie inside the granted scope are suggested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from .. import limits
from ..errors import ScopeError
from ..scopes import containment, implication
from ..scopes.argument_path import ValueSource
from ..scopes.condition import Condition
from ..scopes.constants import WorkBudget, WorkExceeded
from ..scopes.operand import Json
from ..scopes.operators import Accessor, Operator
from ..scopes.scope import Scope
from ..scopes.segment import Segment, SegmentKind
from .argument_reader import ELEMENT, names_of
from .argument_reader import Path as Names
from .generalize import Fit, conditions, is_listed, segment
from .kinds.languages import READ
from .open_arguments import ArgumentTree, free_paths, is_closed, mentioned
from .profile import CallGroup
from .value_summary import ValueSummary

# Scopes that one granted scope may become; beyond it call families are joined.
MAX_PARTS: Final = 16


@dataclass(slots=True)
class CallFamily:
    """Calls that share one suggested scope; ``family``: all calls whose resources begin alike."""

    actions: set[str] = field(default_factory=set)
    group: CallGroup = field(default_factory=CallGroup)
    family: CallGroup = field(default_factory=CallGroup)

    def add(self, action: str, group: CallGroup) -> None:
        """Add calls."""
        self.actions.add(action)
        self.group.merge(group)


Evidence = Sequence[tuple[str, str, CallGroup]]
"""Action, resource (``profile.ALL`` if resources are joined) and calls."""


def tighten(granted: Scope, evidence: Evidence, fit: Fit, most: int = MAX_PARTS) -> list[Scope]:
    """Return at most ``most`` scopes inside ``granted`` that admit all calls of ``evidence``.

    A scope with needs keeps them and is never split: its uses are counted by scope, so two of them would have
    twice as many.
    """
    if granted.has_unknown_kind:
        return [granted]
    for kinds in _candidates(granted, evidence, fit):
        parts = joined(_tight(granted, kind, fit) for kind in kinds)
        if len(parts) <= most:
            return _needed(parts)
    return [granted]


def is_inside(granted: Sequence[Scope], scopes: Sequence[Scope]) -> bool:
    """Return True if the kernel proves that ``granted`` permits every call that ``scopes`` permit."""
    parent, child = [s.to_record() for s in granted], [s.to_record() for s in scopes]
    # The suggestion replaces the grant, so both are judged by the same facts.
    return not scopes or containment.contains(parent, child, same_facts=True)[0] == 1


def _candidates(granted: Scope, evidence: Evidence, fit: Fit) -> Iterator[Iterable[CallFamily]]:
    """Yield groupings of the calls, from the finest to the coarsest."""
    if granted.needs is None:
        yield _kinds(evidence, fit)
        by_action: dict[object, CallFamily] = {}
        for action, _, group in evidence:
            by_action.setdefault(action, _single()).add(action, group)
        yield by_action.values()
    whole = _single()
    for action, _, group in evidence:
        whole.add(action, group)
    yield [whole]


def _single() -> CallFamily:
    group = CallGroup()
    return CallFamily(group=group, family=group)


def _kinds(evidence: Evidence, fit: Fit) -> Iterable[CallFamily]:
    families: dict[str, CallGroup] = {}
    kinds: dict[object, CallFamily] = {}
    for action, resource, group in evidence:
        # The first segment names the kind of a resource.
        first = resource.split("/")[0]
        family = families.setdefault(first, CallGroup())
        family.merge(group)
        alike = resource if fit is Fit.EXACT else (first, frozenset(_arguments(group)))
        kinds.setdefault((action, alike), CallFamily(family=family)).add(action, group)
    return kinds.values()


def joined(scopes: Iterable[Scope]) -> list[Scope]:
    """Join scopes that differ only in their actions, or in their last segment."""
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
    """Put the last segments back, in as few scopes as the format permits."""
    most = limits.MAX_SEGMENT_TEXTS
    parts = [texts[at : at + most] for at in range(0, len(texts), most)]
    lasts = [Segment.literal(part[0]) if len(part) == 1 else Segment.one_of(*part) for part in parts]
    return [replace(above, resource=(*above.resource[:-1], last)) for last in lasts] or [above]


def _needed(parts: list[Scope]) -> list[Scope]:
    """Leave out scopes that lie inside another."""
    needed: list[Scope] = []
    # One of two equal scopes stays: it is not compared with those that were left out.
    for index, part in enumerate(parts):
        if not any(is_inside([other], [part]) for other in (*needed, *parts[index + 1 :])):
            needed.append(part)
    return needed


def _actions(actions: set[str]) -> list[tuple[str, ...]]:
    """Return the actions in as few parts as the format permits."""
    if "*" in actions:
        return [("*",)]
    names, most = sorted(actions), limits.MAX_ACTIONS
    return [tuple(names[at : at + most]) for at in range(0, len(names), most)]


def _tight(granted: Scope, kind: CallFamily, fit: Fit) -> Scope:
    """Return the tightest scope for a call family that is well-formed and proven to lie inside."""
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
    conditioned = {names_of(c.path) for c in scope.conditions if c.path.is_argument}
    free, everything = free_paths(granted, ArgumentTree(kind.group, conditioned))
    if not (scope.conditions or free or everything):
        return scope.no_arguments()
    return replace(scope, free_paths=free, everything_free=everything)


def _with_free_as_granted(granted: Scope, kind: CallFamily, fit: Fit) -> Scope:
    """Return a scope with conditions on observed arguments; others are as open as before."""
    scope = _without_conditions(granted, kind, fit)
    more = _conditions(granted, kind, fit)
    wide = not is_closed(granted) and bool(more)
    # A granted condition that a new one on the same argument implies is left out.
    granted_conditions = [
        known
        for known in granted.conditions
        if not any(new.path == known.path and _implies(new, known) for new in more)
    ]
    return replace(
        scope, conditions=(*granted_conditions, *more), everything_free=wide or granted.everything_free
    )


def _without_conditions(granted: Scope, kind: CallFamily, fit: Fit) -> Scope:
    actions, *more = _actions(kind.actions)
    return replace(
        granted,
        actions=granted.actions if more else actions,
        resource=resource_of(granted.resource, kind, fit),
    )


def _conditions(granted: Scope, kind: CallFamily, fit: Fit) -> list[Condition]:
    group, changes = kind.group, kind.actions != {READ}
    room = limits.MAX_CONDITIONS - len(granted.conditions)
    new_conditions: list[Condition] = []
    for path, summary in _places(group, fit, room):
        new = [
            condition
            for condition in conditions(path, summary, group.calls, fit, changes=changes)
            if not any(_implies(known, condition) for known in granted.conditions)
        ]
        if len(new_conditions) + len(new) <= room:
            new_conditions += new
    return new_conditions


def _places(group: CallGroup, fit: Fit, room: int) -> list[tuple[tuple[str, ...], ValueSummary]]:
    """Return the paths that get conditions. The exact fit holds each value once: an object by its members.

    An object whose members can't be named, or are too many, is held as a whole, and so is an empty one.
    """
    paths = _arguments(group)
    if fit is not Fit.EXACT:
        return sorted(paths.items())
    deepest = 0 if group.cut else max(map(len, paths), default=0)
    for depth in range(deepest, 0, -1):
        places = [place for place in sorted(paths.items()) if _is_held(*place, group, depth)]
        if len(places) <= room:
            return places
    return sorted(item for item in paths.items() if len(item[0]) == 1)


def _arguments(group: CallGroup) -> dict[Names, ValueSummary]:
    """Return the paths that lead into no list: these fits hold lists as wholes."""
    return {path: summary for path, summary in group.paths.items() if ELEMENT not in path}


def _is_held(path: tuple[str, ...], summary: ValueSummary, group: CallGroup, depth: int) -> bool:
    """Return True for a value that is not held by its members, below objects that are."""
    above = (group.paths.get(path[:n]) for n in range(1, len(path)))
    return all(
        each is not None and _is_open(path[:n], each, group, depth) for n, each in enumerate(above, 1)
    ) and not _is_open(path, summary, group, depth)


def _is_open(path: tuple[str, ...], summary: ValueSummary, group: CallGroup, depth: int) -> bool:
    """Return True for an object that conditions on its members hold."""
    if set(summary.kinds) != {"object"} or summary.opaque or len(path) >= depth:
        return False
    if summary.values is not None and Json("{}") in summary.values:
        return False
    return any(other[:-1] == path for other in group.paths)


def _implies(known: Condition, condition: Condition) -> bool:
    try:
        return implication.implies(known.to_record(), condition.to_record(), True, WorkBudget())
    except WorkExceeded:
        return False


def resource_of(granted: tuple[Segment, ...], kind: CallFamily, fit: Fit) -> tuple[Segment, ...]:
    """Return segments inside the granted ones that match the resources of a call family."""
    open_end = granted[-1].kind == SegmentKind.REST
    fixed = granted[:-1] if open_end else granted
    group = kind.group
    parts: list[Segment] = []
    for index in range(group.shortest):
        inside = index < len(fixed)
        listed = is_listed(fit, kind.family.segments[index], first=index == 0)
        if not (listed or inside):
            return (*parts, Segment.rest())
        above = fixed[index] if inside else Segment.any()
        parts.append(segment(above, group.segments[index]) if listed else above)
    return (*parts, Segment.rest()) if group.longest > group.shortest else tuple(parts)


def work_of(scope: Scope, group: CallGroup) -> int:
    """Return the maximum work (docs/token-format.md, 9.8) of judging one of these calls by a scope."""
    work = group.size * max(1, mentioned(scope))
    text = group.weight // 16
    for condition in scope.conditions:
        values, compared = max(1, len(condition.values)), 1
        of_elements = condition.each or condition.path.source == ValueSource.ELEMENTS
        if of_elements or condition.operator == Operator.SUBSET_OF:
            compared = group.size
            work += 2 * group.size * values
        work += group.size // 2
        if any(isinstance(value, Json) for value in condition.values):
            work += 19 * compared + 7 * group.size + 4 * text
        else:
            work += 4 * compared
        if condition.operator in (Operator.GLOB, Operator.UNDER):
            work += (compared + 2 * text) * values
        if condition.operator == Operator.CIDR:
            work += 8 * compared * values
        if condition.accessor > Accessor.COUNT:
            work += 4 * compared + text
    return work
