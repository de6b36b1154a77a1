"""Observed calls by tool and session, and the price of a suggestion.

A value counts by the number of sessions that brought it, so :class:`ToolEvidence` does not add sessions up.

The price of a suggestion is the number of calls that it would have denied. Each session is compared with the
suggestion made from all others. A report has no calls, only their values by argument, so the price counts
values, each as at least one call. The kernel decides for each value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, TypeVar

from ..._fast import _codec as codec
from ...scopes.call_arguments import encode
from ...scopes.implication import negated
from ...scopes.parts import Operator, Segment
from ...scopes.scope import Condition, Scope
from ...scopes.value import Exact, Json, Number, Value
from ..argument_reader import ELEMENT, Path, names_of
from ..profile import ALL, CEILING, CallGroup, GrantLayer, reads_more_than_arguments
from ..session_usage import SessionUsage
from ..value_summary import READ, ValueSummary

# From this number of sessions on, a value that only one of them brought is not free: it is asked for.
ENOUGH_SESSIONS: Final = 5
_TOOL_SEGMENTS: Final = 3
T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Observed:
    """One session: its usage, its facts by name, and the name that a report gives it."""

    usage: SessionUsage
    facts: Mapping[str, Value] = field(default_factory=dict)
    name: str = ""


@dataclass(slots=True)
class ToolEvidence:
    """Calls of one tool, or of one action on one kind of resource, by session.

    ``tool``: the resource is a tool of an MCP server, ``mcp/SERVER/TOOL``.
    """

    action: str
    resource: str
    tool: bool
    by_session: dict[int, CallGroup] = field(default_factory=dict)
    whole: CallGroup = field(default_factory=CallGroup)

    @property
    def reads(self) -> bool:
        """True if the pinned catalogue, or the caller, names the action ``read``."""
        return self.action == READ

    @property
    def sessions(self) -> int:
        """The number of sessions that called it."""
        return len(self.by_session)

    @property
    def label(self) -> str:
        """The words for it in a report."""
        return f"{self.action}:{self.resource or '**'}"

    def at(self, path: Path) -> dict[int, ValueSummary]:
        """Return the values at a path, by session."""
        return {n: group.paths[path] for n, group in self.by_session.items() if path in group.paths}

    def lacking(self, path: Path) -> list[int]:
        """Return the sessions that made a call without a value there."""
        return [n for n, group in self.by_session.items() if not group.always(path)]

    def always(self, path: Path, least: int) -> bool:
        """Return True if fewer sessions than ``least`` made a call without a value there.

        So one session alone of many does not make an argument optional.
        """
        return len(self.lacking(path)) < least

    def rare(self, least: int) -> list[Path]:
        """Return the outermost paths that fewer sessions brought."""
        paths = sorted({path for group in self.by_session.values() for path in group.paths})
        rare = {path for path in paths if len(self.at(path)) < least}
        return [path for path in paths if path in rare and path[:-1] not in rare]

    def rarely_missing(self, least: int) -> list[Path]:
        """Return the outermost paths without a value in calls of fewer sessions only."""
        paths = sorted({path for group in self.by_session.values() for path in group.paths})
        missing = {path for path in paths if 0 < len(self.lacking(path)) < least}
        return [path for path in paths if path in missing and path[:-1] not in missing]

    def rare_types(self, least: int) -> list[tuple[Path, str]]:
        """Return types that fewer sessions gave at a path, of the paths that more of them had."""
        paths = sorted({path for group in self.by_session.values() for path in group.paths})
        return [
            (path, kind)
            for path in paths
            if len(self.at(path)) >= least
            for kind, sessions in support(summary.kinds for summary in self.at(path).values()).items()
            if sessions < least
        ]

    def unnamed(self, least: int) -> list[Path]:
        """Return the objects in which fewer sessions gave a name that no path can hold.

        The outermost one is ().
        """
        groups = self.by_session.values()
        counts = Counter(path for group in groups for path, summary in group.paths.items() if summary.opaque)
        counts[()] = sum(group.opaque for group in groups)
        return sorted(path for path, sessions in counts.items() if 0 < sessions < least)

    def shared(self, least: int, *, rare: bool = False) -> CallGroup:
        """Return the paths and the types of values that so many sessions brought; ``rare``: other paths too.

        ``opaque`` there: for so many sessions, the values below are not known completely. So one session
        alone neither adds a path nor hides the values below one.
        """
        groups = self.by_session.values()
        unknown = sum(group.opaque or group.whole_above() == 1 for group in groups)
        shared = CallGroup(opaque=unknown >= least)
        for path in sorted({path for group in groups for path in group.paths}):
            having = [group for group in groups if path in group.paths]
            kinds = support(group.paths[path].kinds for group in having)
            often = {kind: sessions for kind, sessions in kinds.items() if sessions >= least}
            often = often or (kinds if rare else {})
            if often:
                hidden = sum(not group.is_whole_below(path) for group in having)
                shared.paths[path] = ValueSummary(kinds=often, opaque=hidden >= least)
        return shared


def is_tool(resource: str) -> bool:
    """Return True if a resource is a tool of an MCP server, and no method of the protocol."""
    parts = resource.split("/")
    return len(parts) == _TOOL_SEGMENTS and parts[0] == "mcp" and not parts[2].startswith("@")


def tools(layer: GrantLayer, index: int, sessions: Sequence[Observed]) -> list[ToolEvidence]:
    """Return the calls that a granted scope may have admitted, by tool and session, in order."""
    found: dict[tuple[str, str], ToolEvidence] = {}
    for number, session in enumerate(sessions):
        for (positions, action), buckets in session.usage.profiles[layer.kind].groups.items():
            if (layer.id, index) not in positions:
                continue
            for resource, group in buckets.items():
                tool = is_tool(resource)
                # The first segment names the kind of a resource that is no tool.
                name = resource if tool or resource == ALL else resource.split("/")[0]
                evidence = found.setdefault((action, name), ToolEvidence(action, name, tool))
                evidence.by_session.setdefault(number, CallGroup()).merge(group)
                evidence.whole.merge(group)
    return [evidence for _, evidence in sorted(found.items(), key=itemgetter(0))]


def used_layers(usage: SessionUsage) -> set[str]:
    """Return the ids of the layers that admitted a call of a session."""
    return {layer for (layer, _), _ in usage.uses}


def least_sessions(sessions: int) -> int:
    """Return the number of sessions that must have brought a value for it to be suggested as free."""
    return 2 if sessions >= ENOUGH_SESSIONS else 1


def support(values: Iterable[Iterable[T]]) -> dict[T, int]:
    """Return how many sessions brought each value."""
    counts: dict[T, int] = {}
    for of_session in values:
        for value in set(of_session):
            counts[value] = counts.get(value, 0) + 1
    return counts


# Sessions that are compared; of more, an even selection.
MAX_JUDGED: Final = 24
# A text in the place of those that a report does not know.
_UNKNOWN: Final = "a text that the report has no value of"


@dataclass(frozen=True, slots=True)
class SessionPrice:
    """Calls of one session by one layer, and about how many the other sessions' suggestion denies."""

    name: str
    calls: int
    denied: int

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {"session": self.name, "calls": self.calls, "denied": self.denied}


def judged(sessions: Sequence[Observed]) -> list[int]:
    """Return the numbers of the sessions to compare, evenly chosen."""
    step = max(1, -(-len(sessions) // MAX_JUDGED))
    return list(range(0, len(sessions), step))


def price_of(layer: GrantLayer, session: Observed, scopes: Sequence[Scope]) -> SessionPrice:
    """Return the price of ``scopes``: the calls by ``layer`` of a session that they would have denied."""
    calls = denied = 0
    for (positions, action), buckets in session.usage.profiles[layer.kind].groups.items():
        if any(layer_id == layer.id for layer_id, _ in positions):
            for resource, group in buckets.items():
                calls += group.calls
                denied += _denied(scopes, action, resource, group)
    return SessionPrice(session.name, calls, denied)


def _denied(scopes: Sequence[Scope], action: str, resource: str, group: CallGroup) -> int:
    fitting = [scope for scope in scopes if is_for(scope, action, resource)]
    alone = all(scope.exception for scope in scopes)
    permitting = [refused(scope, group) for scope in fitting if not scope.exception]
    excepted = [_excepted(scope, group) for scope in fitting if scope.exception]
    return max(min(permitting, default=0 if alone and scopes else group.calls), *excepted, 0)


def _excepted(exception: Scope, group: CallGroup) -> int:
    """Return about how many calls of a group fall under an exception: by the condition that fewest meet."""
    most = group.calls
    for condition in exception.conditions:
        opposite = Condition.from_record(negated(condition.to_record()))
        scope = Scope(("*",), (Segment.rest(),), (opposite,), everything_free=True)
        most = min(most, refused(scope, group))
    return most


def is_for(scope: Scope, action: str, resource: str) -> bool:
    """Return True if a scope may be meant for calls: by action and resource."""
    if resource == ALL:
        return action in scope.actions or "*" in scope.actions
    bare = Scope(scope.actions, scope.resource, everything_free=True)
    return GrantLayer(CEILING, [bare]).matching_positions(action, resource)[0][1] >= 0


def refused(scope: Scope, group: CallGroup) -> int:
    """Return about how many calls of a group a scope refuses: by the argument that it refuses most of."""
    conditions = [c for c in scope.conditions if not reads_more_than_arguments(c)]
    closed = bool(scope.conditions or scope.free_paths) and not scope.everything_free
    held = [(names_of(condition.path), condition) for condition in conditions]
    named = [
        *map(names_of, scope.free_paths),
        *(names_of(condition.path) for condition in scope.conditions if condition.path.is_argument),
    ]
    most = 0
    for path, summary in group.paths.items():
        if closed and not any(_is_related(path, other) for other in named):
            most = max(most, summary.found)
            continue
        if closed:
            most = max(most, _not_mentioned(path, summary, named))
        of_path = tuple(condition for names, condition in held if names == path)
        if of_path:
            most = max(most, _refused_values(of_path, path, summary))
    for names, condition in held:
        if not condition.optional and condition.operator != Operator.ABSENT:
            most = max(most, _missing(group, names))
    return min(most, group.calls)


def _missing(group: CallGroup, path: Path) -> int:
    """Return about how many calls have no value at a path, or a list on the way to it that is empty."""
    lists = [path[:at] for at, name in enumerate(path) if name == ELEMENT]
    empty = any(
        not group.paths[each].clean for each in ((*path, ELEMENT) for path in lists) if each in group.paths
    )
    missing = [group.places(each) - group.paths.get(each, ValueSummary()).found for each in (*lists, path)]
    return max(*missing, int(empty))


def _not_mentioned(path: Path, summary: ValueSummary, named: Sequence[Path]) -> int:
    """Return the number of values at a path that are refused, since a scope names members below it only."""
    if any(path[: len(other)] == other for other in named):
        return 0
    inside = [other[len(path)] for other in named if other[: len(path)] == path]
    entered = {"list" if name == ELEMENT else "object" for name in inside}
    return sum(count for kind, count in summary.kinds.items() if kind not in entered)


def _is_related(path: Path, other: Path) -> bool:
    length = min(len(path), len(other))
    return path[:length] == other[:length]


def _refused_values(conditions: tuple[Condition, ...], path: Path, summary: ValueSummary) -> int:
    scope = Scope(("*",), (Segment.rest(),), conditions, everything_free=True).encode()
    values = list(_values(summary))
    refused = 0
    for value in values:
        below = value
        for name in reversed(path[1:]):
            below = [below] if name == ELEMENT else {name: below}
        refused += not codec.matches(scope, b"a", b"a", encode({path[0]: below}))[0]
    listed = {operand for condition in conditions for operand in condition.values}
    if any(value in listed for value in filter(_is_digest, summary.values or ())):
        # A value of which only the digest is known is compared with digests alone.
        return refused
    return summary.found if values and refused == len(values) else refused


def _values(summary: ValueSummary) -> Iterator[object]:
    """Yield a value for each that is known, as JSON, and one for each kind of which none is known."""
    known = summary.values or ()
    plain = [_plain(value) for value in known if not _is_digest(value)]
    types = {type(value) for value in plain}
    yield from plain
    if "text" in summary.kinds and (summary.values is None or any(map(_is_digest, known))):
        yield (summary.prefix or "") + _UNKNOWN
    if "list" in summary.kinds and list not in types:
        yield [_plain(value) for value in summary.elements or ()] if summary.elements is not None else [{}]
    if "null" in summary.kinds and None not in plain:
        yield None
    if "object" in summary.kinds and dict not in types:
        yield {}


def _is_digest(value: object) -> bool:
    return isinstance(value, Json) and not value.form


def _plain(value: object) -> object:
    if isinstance(value, Exact):
        return value.to_decimal()
    if isinstance(value, Json):
        return value.to_json()
    if isinstance(value, Number):
        return float(value.to_decimal()) if value.nanos else value.units
    return value
