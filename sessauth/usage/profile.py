"""Profiles of allowed calls: by the scopes that may have admitted them, by action and by resource.

A :class:`Profile` has a :class:`CallGroup` for each resource of an action. An action with more resources than
the limit has one group for all of them. With more groups than the limit, every action is reduced to one
group; with more actions than the limit, the profile is dropped. Each step depends on amounts and not on their
order, and none is undone, so profiles merge in any order.

A :class:`GrantLayer` is a list of granted scopes, and finds those that may have admitted a call. The kernel
does the matching. A decision record has neither the session's facts at its time nor the tool's properties, so
conditions on them are left out: a scope counts as used if the rest of it matches. An unused scope may count
as used, but a used one never counts as unused.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Annotated, Final

from .. import limits
from .._fast import _check as kernel
from .._fast import _codec as codec
from ..errors import ScopeError, UsageError
from ..scopes.scope import Condition, Scope
from . import records
from . import records as bounds
from .argument_reader import ELEMENT, ParsedArguments, Path
from .records import Count, Form, PlainFields, Truth
from .value_summary import ValueSummary

Position = tuple[str, int]
"""A scope: the id of its layer, and its index there; -1 if the scope that decided is not known."""

Positions = tuple[Position, ...]

BY_RESOURCE: Final = 0
BY_ACTION: Final = 1
NOTHING: Final = 2

# The name of the one bucket of an action whose resources are joined; no resource is empty.
ALL: Final = ""


def outermost(path: Path) -> tuple[bool, int, Path]:
    """Return the sort key of a path: outer paths first, so that the deepest are dropped.

    Paths into elements of lists come last: they take no space from others.
    """
    return ELEMENT in path, len(path), path


def _segments(data: object) -> list[ValueSummary]:
    return [ValueSummary.from_dict(part) for part in records.items(data, limits.MAX_SEGMENTS)]


def _paths_to_json(paths: dict[Path, ValueSummary]) -> list[object]:
    return [[list(path), paths[path].to_dict()] for path in sorted(paths, key=outermost)]


def _paths(data: object) -> dict[Path, ValueSummary]:
    paths = {}
    for row in records.items(data, bounds.MAX_PATHS):
        path, summary = records.items(row, 2, exactly=True)
        names = records.items(path, limits.MAX_PATH_SEGMENTS)
        key = tuple(records.text(name, limits.MAX_STRING_BYTES) for name in names)
        if not key or key[0] == ELEMENT:
            raise UsageError("a usage record: a path begins with the name of an argument")
        paths[key] = ValueSummary.from_dict(summary)
    return paths


_SEGMENTS: Final = Form(lambda segments: [part.to_dict() for part in segments], _segments)
_PATHS: Final = Form(_paths_to_json, _paths)


@dataclass(slots=True)
class CallGroup(PlainFields):
    """Calls of one kind.

    ``size`` and ``weight``: JSON values and bytes of the largest arguments. ``shortest`` and ``longest``:
    segments of the resource. ``cut``: the deepest paths were dropped; see :meth:`whole_above` for those into
    elements. ``opaque``: some arguments have names that no path can hold.
    """

    calls: Count = 0
    size: Count = 0
    weight: Count = 0
    shortest: Count = 0
    longest: Count = 0
    segments: Annotated[list[ValueSummary], _SEGMENTS] = field(default_factory=list)
    paths: Annotated[dict[Path, ValueSummary], _PATHS] = field(default_factory=dict)
    cut: Truth = False
    opaque: Truth = False

    def add(self, resource: str, call: ParsedArguments) -> None:
        """Count one call."""
        parts = resource.split("/")
        self.shortest = min(self.shortest, len(parts)) if self.calls else len(parts)
        self.longest = max(self.longest, len(parts))
        self.calls += 1
        self.size = max(self.size, call.size)
        self.weight = max(self.weight, call.weight)
        self.opaque |= call.opaque
        for index, part in enumerate(parts):
            self._segment(index).add_segment(part)
        for node in call.nodes:
            self._path(node.path).add(node)
        self._compact()

    def whole_above(self, *, elements: bool = False) -> int:
        """Return the depth above which no path is missing; ``elements``: of paths into elements of lists."""
        # Paths are dropped from the deepest one on, so at the depth of the deepest that is left some may be.
        cut = len(self.paths) >= bounds.MAX_PATHS if elements else self.cut
        depths = (len(path) for path in self.paths if (ELEMENT in path) is elements)
        return max(depths, default=0) if cut else limits.MAX_PATH_SEGMENTS + 1

    def places(self, path: Path) -> int:
        """Return the number of places that may have a value at a path: of calls, or of elements of lists."""
        at = max((at for at, name in enumerate(path) if name == ELEMENT), default=-1)
        if at < 0:
            return self.calls
        inside = at < len(path) - 1
        summary = self.paths.get(path[: at + 1] if inside else path[:-1], ValueSummary())
        return summary.kinds.get("object" if inside else "list", 0)

    def always(self, path: Path) -> bool:
        """Return True if each call had a value there; in lists, each element of all of them.

        A list that was empty has no place for a value.
        """
        if ELEMENT not in path:
            return path in self.paths and self.paths[path].found >= self.calls
        place = path[: len(path) - path[::-1].index(ELEMENT)]
        if place not in self.paths:
            # All calls had something else there, and no list.
            return self.always(place[:-1])
        filled = path == place or (path in self.paths and self.paths[path].found >= self.places(path))
        return filled and self.paths[place].clean and self.always(place[:-1])

    def is_whole_below(self, path: Path) -> bool:
        """Return True if all that objects and lists at a path have is at paths below it."""
        summary, place = self.paths[path], (*path, ELEMENT)
        above = self.whole_above(elements=ELEMENT in path)
        if summary.opaque or ("object" in summary.kinds and len(path) + 1 >= above):
            return False
        if summary.elements is not None:
            return True
        entered = place in self.paths and len(place) + 1 < self.whole_above(elements=True)
        return entered and self.paths[place].found == summary.kinds.get("list", 0)

    def merge(self, other: CallGroup) -> None:
        """Add the calls of another."""
        if other.calls:
            self.shortest = min(self.shortest, other.shortest) if self.calls else other.shortest
        self.longest = max(self.longest, other.longest)
        self.calls += other.calls
        self.size = max(self.size, other.size)
        self.weight = max(self.weight, other.weight)
        self.opaque |= other.opaque
        self.cut |= other.cut
        for index, summary in enumerate(other.segments):
            self._segment(index).merge(summary)
        for path, summary in other.paths.items():
            self._path(path).merge(summary)
        self._compact()

    def _segment(self, index: int) -> ValueSummary:
        while len(self.segments) <= index:
            self.segments.append(ValueSummary())
        return self.segments[index]

    def _path(self, path: Path) -> ValueSummary:
        return self.paths.setdefault(path, ValueSummary())

    def _compact(self) -> None:
        if len(self.paths) > bounds.MAX_PATHS:
            paths = sorted(self.paths, key=outermost)
            self.cut |= ELEMENT not in paths[bounds.MAX_PATHS]
            self.paths = {path: self.paths[path] for path in paths[: bounds.MAX_PATHS]}

    def _validate(self) -> None:
        if self.longest > limits.MAX_SEGMENTS or self.shortest > self.longest:
            raise UsageError("a usage record: more segments than a resource has")
        records.items(self.segments, self.longest, exactly=True)


GroupKey = tuple[Positions, str]
Buckets = dict[str, CallGroup]


@dataclass(slots=True)
class Profile:
    """Buckets of calls, by group (the scopes that may have admitted them, the action) and resource."""

    level: int = BY_RESOURCE
    groups: dict[GroupKey, Buckets] = field(default_factory=dict)

    def add(self, positions: Positions, action: str, resource: str, call: ParsedArguments) -> None:
        """Count one allowed call."""
        if self.level < NOTHING:
            bucket = self._bucket((positions, action), resource)
            bucket.add(resource, call)
            if bucket.calls == 1:
                self._compact((positions, action))

    def merge(self, other: Profile) -> None:
        """Add the calls of another."""
        if other.level > self.level:
            self.coarsen(other.level)
        for key, buckets in other.groups.items():
            if self.level == NOTHING:
                return
            for resource, bucket in buckets.items():
                self._bucket(key, resource).merge(bucket)
            self._compact(key)

    def coarsen(self, level: int) -> None:
        """Reduce the detail for good: to ``BY_ACTION``, or to ``NOTHING``, which drops everything."""
        self.level = max(self.level, level)
        if self.level == NOTHING:
            self.groups = {}
        elif self.level == BY_ACTION:
            for key in self.groups:
                self._join(key)
            if len(self.groups) > bounds.MAX_GROUPS:
                self.coarsen(NOTHING)

    def _bucket(self, key: GroupKey, resource: str) -> CallGroup:
        buckets = self.groups.setdefault(key, {})
        joined = ALL in buckets or self.level == BY_ACTION
        return buckets.setdefault(ALL if joined else resource, CallGroup())

    def _join(self, key: GroupKey) -> None:
        joined = CallGroup()
        for bucket in self.groups[key].values():
            joined.merge(bucket)
        self.groups[key] = {ALL: joined}

    def _compact(self, key: GroupKey) -> None:
        buckets = self.groups[key]
        if len(buckets) > bounds.MAX_RESOURCES or (ALL in buckets and len(buckets) > 1):
            self._join(key)
        if self.level == BY_RESOURCE and self._kinds() > bounds.MAX_KINDS:
            self.coarsen(BY_ACTION)
        elif self.level == BY_ACTION and len(self.groups) > bounds.MAX_GROUPS:
            self.coarsen(NOTHING)

    def _kinds(self) -> int:
        # A joined action counts with its maximum, or joining would make space for others.
        return sum(
            bounds.MAX_RESOURCES if ALL in buckets else len(buckets) for buckets in self.groups.values()
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        groups = [
            {
                "positions": [list(position) for position in positions],
                "action": action,
                "buckets": [[name, buckets[name].to_dict()] for name in sorted(buckets)],
            }
            for (positions, action), buckets in sorted(self.groups.items(), key=lambda item: item[0])
        ]
        return {"level": self.level, "groups": groups}

    @classmethod
    def from_dict(cls, data: object) -> Profile:
        """Read the values of :meth:`to_dict`; raises UsageError for anything else."""
        plain = records.fields(data, "level", "groups")
        level = records.count(plain["level"])
        if level > NOTHING:
            raise UsageError("a usage record: an unknown level of detail")
        profile = cls(level)
        for group in records.items(plain["groups"], 0 if level == NOTHING else bounds.MAX_KINDS):
            parts = records.fields(group, "positions", "action", "buckets")
            rows = records.items(parts["positions"], bounds.MAX_POSITIONS)
            action = records.text(parts["action"], limits.MAX_ACTION_CHARS)
            key = (tuple(read_position(records.items(row, 2, exactly=True)) for row in rows), action)
            for row in records.items(parts["buckets"], bounds.MAX_RESOURCES):
                name, bucket = records.items(row, 2, exactly=True)
                resource = records.text(name, limits.MAX_RESOURCE_BYTES)
                other = cls(level, {key: {resource: CallGroup.from_dict(bucket)}})
                profile.merge(other)
        return profile


def read_position(parts: list[object]) -> Position:
    """Read ``[layer id, index]``; raises UsageError for anything else."""
    layer, index = records.items(parts, 2, exactly=True)
    return records.text(layer, 64), -1 if index == -1 else records.count(index)


CEILING: Final = "ceiling"
MINTED: Final = "minted"

# The kernel's result for a scope of another action or resource.
_OUTSIDE: Final = -2


@dataclass(frozen=True, slots=True)
class _Query:
    """A scope without conditions on facts; ``decides``: the search ends here if it matches."""

    scope: bytes
    decides: bool


class GrantLayer:
    """A list of scopes of which a call must match one: a layer of a ceiling, or a token's minted scopes.

    Equal lists have equal ids, in any session or token. ``id`` begins with the kind.
    """

    __slots__ = ("_exceptions", "_queries", "id", "kind", "scopes")

    def __init__(self, kind: str, scopes: Iterable[Scope]) -> None:
        self.kind = kind
        self.scopes = tuple(scopes)
        encoded = [scope.encode() for scope in self.scopes]
        digest = blake2b(digest_size=16)
        for data in encoded:
            digest.update(len(data).to_bytes(4, "big") + data)
        self.id = f"{kind}:{digest.hexdigest()}"
        # Exceptions stand last, so these have the indices of their scopes.
        self._queries = tuple(_query(scope) for scope in self.scopes if not scope.exception)
        self._exceptions = tuple(
            scope.encode()
            for scope in self.scopes
            if scope.exception and not any(map(reads_more_than_arguments, scope.conditions))
        )

    @classmethod
    def of_block(cls, payload: bytes) -> GrantLayer:
        """Return the layer of a root block's payload; raises ``protobuf.WireError`` for no block."""
        return cls(MINTED, map(Scope.from_record, kernel.decode_message("Block", payload)["scopes"]))

    def permitting(self) -> GrantLayer:
        """Return the layer without its exceptions. It has the same id, under which calls are recorded."""
        bare = GrantLayer(self.kind, (scope for scope in self.scopes if not scope.exception))
        bare.id = self.id
        return bare

    def matching_positions(
        self, action: str, resource: str, arguments: bytes = b"", decided: int = -1
    ) -> tuple[Position, ...]:
        """Return the scopes of this layer that may have admitted an allowed call, in order.

        ``decided`` is the index of the scope that decided, if the decision names it; then nothing is
        searched. The index is -1 if no scope matches, as when the ceiling was narrowed since the call.
        """
        if decided >= 0:
            return ((self.id, decided),)
        call = (action.encode(), resource.encode())
        if not all(codec.matches(each, *call, arguments)[0] for each in self._exceptions):
            return ((self.id, -1),)
        positions = []
        for index, query in enumerate(self._queries):
            # Without arguments first: most scopes are of another resource, and arguments may be long.
            if codec.matches(query.scope, *call)[1] == _OUTSIDE:
                continue
            if codec.matches(query.scope, *call, arguments)[0]:
                positions.append((self.id, index))
                if query.decides:
                    break
        return tuple(positions) or ((self.id, -1),)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "kind": self.kind,
            "scopes": [base64.b64encode(scope.encode()).decode() for scope in self.scopes],
        }

    @classmethod
    def from_dict(cls, data: object) -> GrantLayer:
        """Read the values of :meth:`to_dict`; raises UsageError for anything else."""
        plain = records.fields(data, "kind", "scopes")
        if plain["kind"] not in (CEILING, MINTED):
            raise UsageError("a usage record: a layer is of a ceiling, or minted")
        texts = records.items(plain["scopes"], limits.MAX_SCOPES)
        return cls(str(plain["kind"]), [_scope(text) for text in texts])


def _scope(text: object) -> Scope:
    try:
        data = base64.b64decode(records.text(text, 4 * limits.MAX_TOKEN_BYTES), validate=True)
        return Scope.from_record(kernel.decode_message("Scope", data))
    except (kernel.WireError, ScopeError, ValueError):
        raise UsageError("a usage record: expected an encoded scope") from None


def ceilings(layers: Sequence[Sequence[Scope]]) -> tuple[GrantLayer, ...]:
    """Return the layers of a session's ceiling."""
    return tuple(GrantLayer(CEILING, scopes) for scopes in layers)


def is_for(scope: Scope, action: str, resource: str) -> bool:
    """Return True if a scope is for an action on a resource, whatever the arguments."""
    return bool(codec.matches(scope.encode(), action.encode(), resource.encode())[1] != _OUTSIDE)


def reads_more_than_arguments(condition: Condition) -> bool:
    """Return True if a condition reads a fact of the session or a property of the tool."""
    return bool(condition.fact) or not condition.path.is_argument


def _query(scope: Scope) -> _Query:
    conditions = tuple(c for c in scope.conditions if not reads_more_than_arguments(c))
    if len(conditions) == len(scope.conditions):
        return _Query(scope.encode(), scope.needs is None)
    # A condition that is left out still mentions its argument, so the scope is as open as before.
    left = {c.path for c in scope.conditions if c.fact and c.path.is_argument}
    free = (
        () if scope.everything_free else (*scope.free_paths, *sorted(left - set(scope.free_paths), key=str))
    )
    return _Query(replace(scope, conditions=conditions, free_paths=free).encode(), False)
