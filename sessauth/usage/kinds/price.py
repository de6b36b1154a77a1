"""The price of a suggestion: what it would have denied of the sessions that it was made from.

Each session is judged by what the others suggest. A report holds no calls, only their values by argument: so
the price is counted by values, each at least one call, and the kernel judges each value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..._fast import _codec as codec
from ...scopes.call_arguments import encode
from ...scopes.condition import Condition
from ...scopes.operand import Exact, Json
from ...scopes.operators import Operator
from ...scopes.scope import Scope
from ...scopes.segment import Segment
from ...scopes.value import Number
from ..argument_reader import ELEMENT, Path, names_of
from ..grants import CEILING, GrantLayer, reads_more_than_arguments
from ..profile import ALL, CallGroup
from ..value_summary import ValueSummary
from .observed import Observed

# Sessions that are judged; of more, evenly chosen ones.
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
    """Return the numbers of the sessions that are judged, evenly chosen."""
    step = max(1, -(-len(sessions) // MAX_JUDGED))
    return list(range(0, len(sessions), step))


def price_of(layer: GrantLayer, session: Observed, scopes: Sequence[Scope]) -> SessionPrice:
    """Return what ``scopes`` would have denied of a session's calls by ``layer``."""
    calls = denied = 0
    for (positions, action), buckets in session.usage.profiles[layer.kind].groups.items():
        if any(layer_id == layer.id for layer_id, _ in positions):
            for resource, group in buckets.items():
                calls += group.calls
                denied += _denied(scopes, action, resource, group)
    return SessionPrice(session.name, calls, denied)


def _denied(scopes: Sequence[Scope], action: str, resource: str, group: CallGroup) -> int:
    fitting = [scope for scope in scopes if is_for(scope, action, resource)]
    return min((refused(scope, group) for scope in fitting), default=group.calls)


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
