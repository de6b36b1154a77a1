"""Scopes by kinds inside one granted scope, from the calls of several sessions.

:func:`scopes_of_tool` makes the scopes for one tool, :func:`combined` those of all tools.
:class:`KindSuggester` tries one :class:`RoomPlan` after another until the scopes fit: each plan holds more
tools less closely, the rarest first.

:func:`brought_once` lists the values that only one session brought: mistakes, rare cases, or an attacker's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import islice, product
from typing import Final

from ... import limits
from ...errors import ScopeError
from ...scopes.parts import Operator, Path, Segment, SegmentKind, ValueSource
from ...scopes.scope import Condition, Scope
from ...scopes.value import Operand, Value, operand_to_text
from ..argument_reader import ELEMENT, host_of, names_of, scope_path
from ..argument_reader import Path as Names
from ..profile import NOTHING, GrantLayer
from ..tighten import ArgumentTree, CallFamily, Fit, is_closed, is_inside, opens, resource_of
from ..value_summary import PROGRAM, ValueSummary, is_language
from .holds import MAX_NAMES, Place, Rules, Way, hold, names_hosts
from .observed import Observed, ToolEvidence, refused, tools

# Scopes that the calls of one tool may become, where an argument has values of several types.
MAX_WAYS: Final = 4
# Combinations of kinds of values that are compared with the calls.
MAX_COMBINATIONS: Final = 64
# The name of no argument: a condition on it closes a scope that has nothing else to say of arguments.
_NO_ARGUMENT: Final = Condition(Path(("_",)), Operator.ABSENT)
_CLOSED_WORLD: Final = Condition(Path(("open_world",), ValueSource.TOOL), Operator.EQUAL, (False,))


@dataclass(slots=True)
class KindScopes:
    """Scopes for one granted scope; ``notes``: unheld arguments and why; ``once``: the values of one session.

    Both are in words of a report: the call, the argument, the value.
    """

    scopes: list[Scope] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    once: list[str] = field(default_factory=list)


def scopes_of_tool(
    granted: Scope, tool: ToolEvidence, sessions: Sequence[Observed], rules: Rules
) -> KindScopes:
    """Return scopes inside ``granted`` for the calls of one tool in the next session.

    A call that only one session made is not among them if ``rules`` ask for more.
    """
    result = KindScopes()
    reading = tool.reads and tool.tool
    if tool.sessions < rules.least and not reading:
        result.once.append(tool.label)
        return result
    make = _reading if reading else _bare if rules.bare else _changing
    try:
        found = [
            scope if is_inside([granted], [scope]) else _unheld(granted, tool, result)
            for scope in make(granted, tool, [session.facts for session in sessions], rules, result)
        ]
    except ScopeError:
        found = [_unheld(granted, tool, result)]
    result.scopes = _without_programs(found, tool, result)
    return result


def combined(granted: Scope, evidence: Sequence[ToolEvidence], results: Sequence[KindScopes]) -> KindScopes:
    """Return the scopes of all tools of a granted scope, and for reading tools that were not used."""
    scopes = [scope for each in results for scope in each.scopes]
    # Programs come first: an agent that may run any program needs nothing else.
    notes = sorted((note for each in results for note in each.notes), key=lambda note: PROGRAM not in note)
    return KindScopes(
        list(dict.fromkeys((*scopes, *_unused_readers(granted, evidence)))),
        list(dict.fromkeys(notes)),
        list(dict.fromkeys(words for each in results for words in each.once)),
    )


def _without_programs(scopes: Sequence[Scope], tool: ToolEvidence, result: KindScopes) -> list[Scope]:
    """Return the scopes under which no program is run that no session ran; the others are named."""
    kept = []
    programs = programs_of(tool)
    for scope in scopes:
        if opened := [path for path in programs if opens(scope, path)]:
            result.once += [f"{_words(tool, path)}: {PROGRAM}, which would be open" for path in opened]
        else:
            kept.append(scope)
    return kept


def programs_of(tool: ToolEvidence) -> list[Names]:
    """Return the arguments of a tool that are run; none of one that reads."""
    if tool.reads:
        return []
    return [path for path in sorted(tool.whole.paths) if is_language(path, tool.at(path).values())]


def _as_granted(granted: Scope, tool: ToolEvidence) -> Scope:
    """Return the granted scope for one tool only, or as it is if even that is not proven."""
    scope = replace(granted, actions=(tool.action,), resource=_resource(granted, tool))
    return scope if is_inside([granted], [scope]) else granted


def _unheld(granted: Scope, tool: ToolEvidence, result: KindScopes) -> Scope:
    """Return the granted scope for one tool only, with a note; as it is if no scope can name the tool."""
    result.notes.append(f"{tool.label}: no condition can hold it")
    try:
        return _as_granted(granted, tool)
    except ScopeError:
        return granted


def _resource(granted: Scope, tool: ToolEvidence) -> tuple[Segment, ...]:
    family = CallFamily({tool.action}, tool.whole, tool.whole)
    return resource_of(granted.resource, family, Fit.EXACT if tool.tool else Fit.LOOSE)


def _reading(
    granted: Scope, tool: ToolEvidence, facts: Sequence[Mapping[str, Value]], rules: Rules, result: KindScopes
) -> Iterator[Scope]:
    """Yield a scope for a tool that reads: any arguments, but only the hosts that were used."""
    # A host that one session alone reached is held, too: by hosts of others, or the tool is not free.
    tree = ArgumentTree(tool.shared(rules.least, rare=True), ())
    paths = list(_down_to_hosts(tree, tree.all(), tool)) if tree.known else []
    sending = [path for path in paths if names_hosts(tool.at(path).values())]
    conditions: list[Condition] = []
    for path in sending:
        held = hold(Place(tool, path, tree, facts, rules))
        result.once += [_words(tool, *once) for once in held.once]
        hosts = [way for way in held.ways if any(_reads_host(condition) for condition in way.conditions)]
        if hosts:
            conditions += hosts[0].conditions
        elif len(tool.at(path)) >= rules.least or tool.sessions < rules.least:
            # No host was used by enough sessions: the tool can't be free, since it sends something out.
            result.once.append(tool.label)
            return
    scope = _as_granted(granted, tool)
    if not sending:
        yield scope
        return
    free = [scope_path(path) for path in paths if path not in sending]
    whole = tuple(dict.fromkeys((*granted.conditions, *conditions)))[: limits.MAX_CONDITIONS]
    if not free and not whole:
        whole = (_NO_ARGUMENT,)
    yield replace(scope, conditions=whole, free_paths=tuple(free), everything_free=False)


def _down_to_hosts(tree: ArgumentTree, paths: Sequence[Names], tool: ToolEvidence) -> Iterator[Names]:
    """Yield paths; a list of objects that name hosts gives those of its members."""
    for path in paths:
        place = (*path, ELEMENT)
        below = [each for each in tool.whole.paths if each[: len(place)] == place]
        members = tree.members(place) if any(names_hosts(tool.at(each).values()) for each in below) else []
        if members:
            yield from _down_to_hosts(tree, members, tool)
        else:
            yield path


def _reads_host(condition: Condition) -> bool:
    site = condition.operator == Operator.STARTS_WITH and all(
        str(value).endswith("/") for value in condition.values
    )
    return bool(condition.accessor) or site


def _bare(
    granted: Scope, tool: ToolEvidence, facts: Sequence[Mapping[str, Value]], rules: Rules, result: KindScopes
) -> Iterator[Scope]:
    """Yield a scope for a tool with any arguments that the grant permits."""
    result.notes.append(f"{tool.label}: no room for its arguments; they are as open as granted")
    yield _as_granted(granted, tool)


def _changing(
    granted: Scope, tool: ToolEvidence, facts: Sequence[Mapping[str, Value]], rules: Rules, result: KindScopes
) -> Iterator[Scope]:
    """Yield scopes for a tool that changes something: each argument by the kind of its values."""
    tree = ArgumentTree(tool.shared(rules.least), ())
    if not tree.known:
        result.notes.append(f"{tool.label}: arguments whose names no condition can hold")
        yield _as_granted(granted, tool)
        return
    holds = [hold(Place(tool, path, tree, facts, rules)) for path in tree.all()]
    result.once += [_words(tool, *once) for held in holds for once in held.once]
    opened = {names_of(path) for held in holds for way in held.ways for path in way.free}
    rare = [path for path in tool.rare(rules.least) if not any(path[:n] in opened for n in range(len(path)))]
    result.once += [_words(tool, path) for path in rare]
    result.once += [f"{tool.label} without {scope_path(path)}" for path in tool.rarely_missing(rules.least)]
    result.once += [_words(tool, path, kind) for path, kind in tool.rare_types(rules.least)]
    for path in tool.unnamed(rules.least):
        place = f"{tool.label} {scope_path(path)}" if path else tool.label
        result.once.append(f"{place}: a name that no condition can hold")
    result.notes += [f"{tool.label} {path}: {note}" for held in holds for path, note in held.notes]
    if any(tool.always(held.names, rules.least) and not held.ways for held in holds):
        # No value of an argument that every call has is free: neither is the call.
        return
    holds = [held for held in holds if held.ways]
    resource = _resource(granted, tool)
    combinations = product(*(held.ways for held in holds))
    scopes = [
        _scope(granted, tool, resource, reduce(Way.then, ways, Way()), result)
        for ways in islice(combinations, MAX_COMBINATIONS)
    ]
    # Values of one argument that sessions share may occur with no shared value of another.
    groups = tool.by_session.values()
    used = [scope for scope in scopes if any(refused(scope, group) < group.calls for group in groups)]
    if not used:
        result.once.append(f"{tool.label}: no call has all that sessions share")
    if len(used) > MAX_WAYS:
        result.notes.append(
            f"{tool.label}: only {MAX_WAYS} of {len(used)} combinations of kinds are suggested"
        )
    yield from used[:MAX_WAYS]


def _scope(
    granted: Scope, tool: ToolEvidence, resource: tuple[Segment, ...], way: Way, result: KindScopes
) -> Scope:
    # The grant may hold an argument as its kind would.
    conditions = list(dict.fromkeys((*granted.conditions, *way.conditions)))
    # Arguments that were always given are required, as far as there is space.
    room = max(0, limits.MAX_CONDITIONS - len(conditions) - 1)
    required = way.required[:room]
    conditions += [Condition(path, Operator.PRESENT) for path in required]
    free = [path for path in way.free if path not in required]
    if len(conditions) > limits.MAX_CONDITIONS:
        dropped = conditions[limits.MAX_CONDITIONS :]
        conditions = conditions[: limits.MAX_CONDITIONS]
        opened = list(dict.fromkeys(each.path for each in dropped if each.path not in free))
        why = f"more than {limits.MAX_CONDITIONS} conditions; it is left open"
        result.notes += [f"{tool.label} {path}: {why}" for path in opened]
        free += opened
    if not free and not conditions:
        conditions = [_NO_ARGUMENT]
    return replace(
        _as_granted(granted, tool),
        resource=resource,
        actions=(tool.action,),
        conditions=tuple(conditions),
        free_paths=tuple(dict.fromkeys(free)),
        everything_free=False,
    )


def _unused_readers(granted: Scope, evidence: Sequence[ToolEvidence]) -> Iterator[Scope]:
    """Yield scopes for reading tools that were not used, of servers that were: only in a closed world."""
    fixed = [segment.kind for segment in granted.resource[:2]] == [SegmentKind.LITERAL] * 2
    for server in sorted({tool.resource.split("/")[1] for tool in evidence if tool.tool}):
        resource = granted.resource if fixed else (*map(Segment.literal, ("mcp", server)), Segment.rest())
        try:
            scope = replace(
                granted,
                actions=("read",),
                resource=resource,
                conditions=(*granted.conditions, _CLOSED_WORLD),
                everything_free=granted.everything_free or not is_closed(granted),
            )
        except ScopeError:
            continue
        if is_inside([granted], [scope]):
            yield scope


def _words(tool: ToolEvidence, path: Names, value: Operand | None = None) -> str:
    return f"{tool.label} {scope_path(path)}" + ("" if value is None else f" = {value}")


MAX_ROWS: Final = 64
# Sessions of a tool from which on its arguments are compared: between two, everything differs.
_MIN_SESSIONS: Final = 3
# The words for values and calls that a record does not hold apart.
CROWDED_CALLS: Final = "too many kinds of call to tell apart"
CROWDED_VALUES: Final = "too many values to tell apart"


@dataclass(frozen=True, slots=True)
class BroughtOnce:
    """A call of a tool, or a value of one of its arguments, that only one session made or gave.

    ``value``: as scope text, or ``absent`` where all other sessions always gave the argument.
    """

    session: str
    call: str
    argument: str = ""
    value: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {"session": self.session, "call": self.call, "argument": self.argument, "value": self.value}


def brought_once(layer: GrantLayer, sessions: Sequence[Observed]) -> tuple[BroughtOnce, ...]:
    """Return the values that only one session brought to calls that change something: 64 rows at most.

    Free writing, dates and arguments that differ in every session are left out.
    """
    if len(sessions) < 2:
        return ()
    rows: dict[BroughtOnce, None] = {}
    crowded = [each for each in sessions if each.usage.profiles[layer.kind].level == NOTHING]
    if len(crowded) == 1:
        rows[BroughtOnce(crowded[0].name, CROWDED_CALLS)] = None
    for index in range(len(layer.scopes)):
        for tool in tools(layer, index, sessions):
            if not (tool.reads and tool.sessions == 1):
                rows |= dict.fromkeys(_of_tool(tool, sessions))
    return tuple(rows)[:MAX_ROWS]


def _of_tool(tool: ToolEvidence, sessions: Sequence[Observed]) -> Iterator[BroughtOnce]:
    if tool.sessions == 1:
        yield BroughtOnce(sessions[next(iter(tool.by_session))].name, tool.label)
        return
    if tool.sessions < _MIN_SESSIONS:
        return
    facts, rules = [session.facts for session in sessions], Rules(least=2)
    tree = ArgumentTree(tool.shared(1), ())
    for path in sorted(path for path in tool.whole.paths if ELEMENT not in path):
        if not tool.reads and len(lacking := tool.lacking(path)) == 1:
            yield BroughtOnce(sessions[lacking[0]].name, tool.label, str(scope_path(path)), "absent")
        below = [each for each in tool.whole.paths if each[: len(path)] == path]
        if not tool.reads or any(names_hosts(tool.at(each).values()) for each in below):
            held = hold(Place(tool, path, tree, facts, rules))
            if any(way.conditions for way in held.ways):
                yield from _crowded(tool, below, sessions)
            for names, value in dict.fromkeys(held.once):
                at = tool.at(names)
                number = next((n for n, each in at.items() if value is None or _brought(each, value)), None)
                if number is not None:
                    text = "" if value is None else operand_to_text(value)
                    yield BroughtOnce(sessions[number].name, tool.label, str(scope_path(names)), text)


def _crowded(
    tool: ToolEvidence, paths: Sequence[Names], sessions: Sequence[Observed]
) -> Iterator[BroughtOnce]:
    """Yield rows for texts of which one session alone gave too many to name."""
    for path in paths:
        crowded = [n for n, each in tool.at(path).items() if each.values is None and "text" in each.kinds]
        if len(crowded) == 1:
            argument = str(scope_path(path))
            yield BroughtOnce(sessions[crowded[0]].name, tool.label, argument, CROWDED_VALUES)


def _brought(summary: ValueSummary, value: Operand) -> bool:
    """Return True if a session gave a value, or a path, a URL or a type that ``value`` is the head of."""
    if not isinstance(value, str):
        return value in (*(summary.values or ()), summary.low, summary.high)
    texts = [text for text in (*(summary.values or ()), *(summary.elements or ())) if isinstance(text, str)]
    heads = (value, f"{value}/", f"{value.removesuffix('/')}/")
    return (
        value in summary.kinds
        or value in (summary.hosts or ())
        or any(text == value or text.startswith(heads[1:]) or host_of(text) == value for text in texts)
    )


_PARTS: Final = 8


@dataclass(frozen=True, slots=True)
class RoomPlan:
    """Numbers of tools, the rarest first: ``unlisted`` ones list no values, of ``bare`` ones none is held.

    ``names``: values of one argument that are listed for the other tools.
    """

    names: int = MAX_NAMES
    unlisted: int = 0
    bare: int = 0


def room_plans(tools: int) -> Iterator[RoomPlan]:
    """Yield plans for so many tools, from the closest to the widest."""
    for part in (1, 2, 4):
        yield RoomPlan(MAX_NAMES // part)
    counts = dict.fromkeys(-(-tools * part // _PARTS) for part in range(1, _PARTS + 1))
    for count in counts:
        yield RoomPlan(MAX_NAMES // 4, unlisted=count)
    for count in counts:
        yield RoomPlan(MAX_NAMES // 4, unlisted=tools, bare=count)


@dataclass(slots=True)
class KindSuggester:
    """Makes scopes of the same tools by several plans, and each tool's scopes by the same rules once."""

    granted: Sequence[Scope]
    tools: Sequence[Sequence[ToolEvidence]]
    sessions: Sequence[Observed]
    rules: Rules
    _made: dict[tuple[int, int, Rules], KindScopes] = field(default_factory=dict)

    def make(self, plan: RoomPlan) -> list[KindScopes]:
        """Return the scopes for each granted scope."""
        # The rarest first.
        places = [(at, n) for at, tools in enumerate(self.tools) for n in range(len(tools))]
        places.sort(key=lambda place: self._use(*place))
        close = replace(self.rules, names=plan.names)
        rules = dict.fromkeys(places, close)
        rules |= dict.fromkeys(places[: plan.unlisted], replace(close, names=0))
        rules |= dict.fromkeys(places[: plan.bare], replace(close, names=0, bare=True))
        return [
            combined(
                scope, self.tools[at], [self._of(at, n, rules[at, n]) for n in range(len(self.tools[at]))]
            )
            for at, scope in enumerate(self.granted)
        ]

    def _use(self, at: int, n: int) -> tuple[int, int]:
        tool = self.tools[at][n]
        return tool.sessions, tool.whole.calls

    def _of(self, at: int, n: int, rules: Rules) -> KindScopes:
        if (at, n, rules) not in self._made:
            made = scopes_of_tool(self.granted[at], self.tools[at][n], self.sessions, rules)
            self._made[at, n, rules] = made
        return self._made[at, n, rules]
