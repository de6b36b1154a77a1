"""Narrower scopes inside one granted scope.

The scopes of :func:`tighten` admit every observed call that the granted scope admitted. Only scopes that the
kernel proves to lie inside the granted scope are suggested.

Order of events:

1. Calls are grouped in families, and each family gets one scope.
2. :func:`segment` and :func:`conditions` find what holds for all observed values in one place.
3. :func:`free_paths` finds the arguments that stay open: those of the observed calls without a condition. A
   scope with conditions is a closed world (docs/token-format.md, 6.5): an argument that it doesn't mention
   denies. So it mentions every observed argument, and as few others as possible.
4. The kernel proves each scope, and scopes that differ in one part only are joined.

Two of the three fits are here; KINDS is in :mod:`sessauth.usage.kinds`. EXACT admits the observed values and
nothing else. LOOSE expects more of the same: a range is rounded outward, a text is held to its folder, host
or beginning, and values are listed only if they are *recurring*: few, and each observed twice on average. One
or two observations prove nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from .. import limits
from ..errors import ScopeError
from ..scopes import containment, implication
from ..scopes.implication import WorkBudget, WorkExceeded
from ..scopes.parts import NEGATED, Accessor, Operator, Path, Segment, SegmentKind, ValueSource
from ..scopes.scope import Condition, Scope
from ..scopes.value import NANOS, Exact, Json, Number, Operand, operands_of
from .argument_reader import ELEMENT, names_of, scope_path
from .argument_reader import Path as Names
from .profile import CallGroup
from .value_summary import READ, ValueSummary, is_language, ordered

_RECURRING_VALUES: Final = 24
_RECURRING_CALLS: Final = 2
_MIN_CALLS: Final = 3
# Characters that may end a common beginning: no word is cut in two.
_BREAKS: Final = "/:.-_ @#"


class Fit(StrEnum):
    """The distance of a suggestion from the observed calls.

    KINDS: each argument by the kind of its values, and by how many sessions brought them.
    """

    KINDS = "kinds"
    EXACT = "exact"
    LOOSE = "loose"


def is_recurring(summary: ValueSummary) -> bool:
    """Return True if its values are few and recur."""
    return _recurs(summary.values or (), summary.found)


def _recurs(values: Collection[Operand], calls: int) -> bool:
    least = max(_MIN_CALLS, _RECURRING_CALLS * len(values))
    return 0 < len(values) <= _RECURRING_VALUES and calls >= least


def is_listed(fit: Fit, among: ValueSummary, *, first: bool) -> bool:
    """Return True if a suggestion lists the texts of a segment, and expects no others.

    ``among`` are the texts of all calls whose resources begin alike: one call of a tool counts among
    recurring ones. ``first``: it is the first segment, which names the kind of the resource.
    """
    few = among.values is not None and len(among.values) <= _RECURRING_VALUES
    return fit is Fit.EXACT or is_recurring(among) or (first and few)


def segment(granted: Segment, summary: ValueSummary) -> Segment:
    """Return a segment inside ``granted`` that matches the observed texts, and few others."""
    if granted.kind == SegmentKind.LITERAL:
        return granted
    texts = sorted(value for value in summary.values or () if isinstance(value, str))
    if texts:
        return Segment.literal(texts[0]) if len(texts) == 1 else Segment.one_of(*texts)
    above = granted.texts[0] if granted.kind == SegmentKind.PREFIX else ""
    if summary.prefix and summary.prefix.startswith(above) and granted.kind != SegmentKind.ONE_OF:
        return Segment.prefix(summary.prefix)
    return granted


def conditions(
    path: tuple[str, ...], summary: ValueSummary, calls: int, fit: Fit, *, changes: bool
) -> list[Condition]:
    """Return conditions that hold for each of ``calls`` calls; none if there is no such condition.

    Calls without a value at ``path`` make them optional. ``changes``: the tool may change something, so that
    its programs are held by their values in each fit.
    """
    argument, optional = Path(path), summary.found < calls
    if summary.values and (fit is Fit.EXACT or (changes and is_language(path, [summary]))):
        return [_among(argument, summary.values, optional)]
    if set(summary.kinds) == {"list"}:
        return _list_conditions(argument, summary, optional, fit)
    if len(summary.kinds) != 1 or not {"text", "number", "truth"} >= set(summary.kinds):
        return []
    if summary.values and is_recurring(summary):
        return [_among(argument, summary.values, optional)]
    if fit is Fit.LOOSE and summary.found < _MIN_CALLS:
        return []
    if summary.low is not None and summary.high is not None:
        low, high = summary.low, summary.high
        if fit is Fit.LOOSE:
            low, high = outward(low, high)
        return [
            Condition(argument, Operator.GREATER_EQUAL, (low,), optional=optional),
            Condition(argument, Operator.LESS_EQUAL, (high,), optional=optional),
        ]
    return [] if summary.prefix is None else _text_conditions(argument, summary, optional, fit)


def _among(argument: Path, values: Collection[Operand], optional: bool) -> Condition:
    operator = Operator.EQUAL if len(values) == 1 else Operator.IN
    operands = operands_of(ordered(values), equality=True)
    return Condition(argument, operator, operands, optional=optional)


def _list_conditions(argument: Path, summary: ValueSummary, optional: bool, fit: Fit) -> list[Condition]:
    elements = summary.elements
    # A list of several types satisfies no condition on its elements.
    if not elements or len({Number if isinstance(each, Exact) else type(each) for each in elements}) > 1:
        return []
    if fit is Fit.LOOSE and not _recurs(elements, summary.found):
        return []
    return [Condition(argument, Operator.SUBSET_OF, tuple(ordered(elements)), optional=optional)]


def _text_conditions(argument: Path, summary: ValueSummary, optional: bool, fit: Fit) -> list[Condition]:
    prefix = summary.prefix or ""
    if summary.hosts:
        return [replace(_among(argument, frozenset(summary.hosts), optional), accessor=Accessor.HOST)]
    folder = _folder(prefix) if summary.clean else ""
    if folder:
        # Not starts_with: that would admit paths that climb out of the folder.
        return [Condition(argument, Operator.UNDER, (folder,), optional=optional)]
    begins = prefix if fit is Fit.EXACT else _whole_words(prefix)
    # A beginning of a URL may end inside the host name, and then doesn't restrict the host.
    if not begins or ("://" in begins and begins.count("/") < 3):
        return []
    return [Condition(argument, Operator.STARTS_WITH, (begins,), optional=optional)]


def _folder(prefix: str) -> str:
    """Return the innermost folder of all clean paths that begin with ``prefix``; "" for none."""
    folder, separator, _ = prefix.rpartition("/")
    return folder or separator


def _whole_words(prefix: str) -> str:
    return prefix[: max((prefix.rfind(char) for char in _BREAKS), default=-1) + 1]


def outward(low: Number | Exact, high: Number | Exact) -> tuple[Number | Exact, Number | Exact]:
    """Round a range to numbers of one digit: 1, 2 or 5 times a power of ten."""
    return _rounded(low, up=False), _rounded(high, up=True)


def _rounded(number: Number | Exact, *, up: bool) -> Number | Exact:
    if isinstance(number, Exact):
        return number
    total = number.units * NANOS + number.nanos
    magnitude = abs(total)
    if not magnitude:
        return number
    power = 10 ** (len(str(magnitude)) - 1)
    steps = [power * digit for digit in (1, 2, 5, 10)]
    away = up == (total > 0)
    size = (
        min(step for step in steps if step >= magnitude)
        if away
        else max(step for step in steps if step <= magnitude)
    )
    rounded = size if total > 0 else -size
    try:
        return Number(rounded // NANOS, rounded % NANOS)
    except ScopeError:
        return number


class ArgumentTree:
    """The argument paths of a call group, as a tree."""

    def __init__(self, group: CallGroup, conditioned: Collection[Names]) -> None:
        """Take the calls, and the paths that have conditions."""
        self._summaries = group.paths
        self._conditioned = conditioned
        self._whole_above = group.whole_above()
        self._children: dict[Names, list[Names]] = {}
        for path in sorted(group.paths):
            self._children.setdefault(path[:-1], []).append(path)
        self.known = not group.opaque and self._whole_above > 1

    def all(self) -> list[Names]:
        """Return paths that mention every observed argument; only if ``known``."""
        return self.members(())

    def members(self, place: Names) -> list[Names]:
        """Return paths that mention every member of the objects at a place."""
        return [path for child in self._children.get(place, ()) for path in self._cover(child)]

    def is_hidden(self, path: Names) -> bool:
        """Return True if the values below a path are not known completely."""
        return self._summaries[path].opaque

    def below(self, granted: Names) -> list[Names]:
        """Return paths at or below a granted one that mention every observed argument there."""
        if granted in self._summaries and ELEMENT not in granted:
            return list(self._cover(granted))
        if any(path == granted[: len(path)] for path in self._conditioned):
            return []
        # Observed objects on the way to it are entered only if a path below them is mentioned.
        on_the_way = any(granted[: len(path)] == path for path in self._summaries)
        return [granted] if on_the_way else []

    def _cover(self, path: Names) -> Iterator[Names]:
        if path in self._conditioned:
            return
        # An object has no elements: those are of lists that other calls had there.
        children = [child for child in self._children.get(path, ()) if child[-1] != ELEMENT]
        summary = self._summaries[path]
        whole = set(summary.kinds) == {"object"} and not summary.opaque and len(path) + 1 < self._whole_above
        if not whole or not children:
            yield path
            return
        for child in children:
            yield from self._cover(child)


def free_paths(granted: Scope, arguments: ArgumentTree) -> tuple[tuple[Path, ...], bool]:
    """Return ``free`` and ``free_all`` of the most closed scope that admits the observed calls."""
    if is_closed(granted):
        if not arguments.known:
            return granted.free_paths, False
        below = [path for free in granted.free_paths for path in arguments.below(names_of(free))]
        return tuple(map(scope_path, dict.fromkeys(below))), False
    if not arguments.known:
        return (), True
    return tuple(map(scope_path, arguments.all())), False


def opens(scope: Scope, path: Names) -> bool:
    """Return True if a scope permits any value at a path; a condition at, above or below it holds it."""
    presence = (Operator.PRESENT, Operator.ABSENT)
    held = [names_of(c.path) for c in scope.conditions if c.path.is_argument and c.operator not in presence]
    if any(path[: len(names)] == names[: len(path)] for names in held):
        return False
    free = [names_of(each) for each in scope.free_paths]
    free += [
        names_of(c.path) for c in scope.conditions if c.path.is_argument and c.operator == Operator.PRESENT
    ]
    return not is_closed(scope) or any(path[: len(names)] == names for names in free)


def is_closed(scope: Scope) -> bool:
    """Return True if an argument that a scope doesn't mention denies."""
    return bool(scope.conditions or scope.free_paths) and not scope.everything_free


def mentioned(scope: Scope) -> int:
    """Return the number of argument paths that a scope mentions."""
    return len(scope.free_paths) + sum(c.path.is_argument for c in scope.conditions)


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
    # The suggestion replaces the grant, so both are evaluated by the same facts.
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
    """Return the maximum work (docs/token-format.md, 9.8) of evaluating one of these calls by a scope."""
    work = group.size * max(1, mentioned(scope))
    text = group.weight // 16
    for condition in scope.conditions:
        values, compared = max(1, len(condition.values)), 1
        of_elements = condition.each or condition.any or condition.path.source == ValueSource.ELEMENTS
        if of_elements or condition.operator == Operator.SUBSET_OF:
            compared = group.size
            work += 2 * group.size * values
        work += group.size // 2
        if any(isinstance(value, Json) for value in condition.values):
            work += 19 * compared + 7 * group.size + 4 * text
        else:
            work += 4 * compared
        operator = NEGATED.get(condition.operator, condition.operator)
        if operator in (Operator.GLOB, Operator.UNDER):
            work += (compared + 2 * text) * values
        if operator == Operator.CIDR:
            work += 8 * compared * values
        if condition.accessor > Accessor.COUNT:
            work += 4 * compared + text
    return work
