"""What allowed calls looked like, by the scopes that admitted them, action and resource.

Resources are told apart as long as they are few. An action with more of them than the bound keeps one
summary of all. With more kinds of call than the bound every action does so; with more actions than the bound
nothing is kept but that it is so. Each step depends on how much there is in all and not on its order, and
none is taken back: so profiles may be merged in any order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .. import limits
from ..errors import UsageError
from . import field_readers
from . import limits as bounds
from .argument_reader import ParsedArguments, Path
from .value_summary import ValueSummary

Position = tuple[str, int]
"""A scope: the id of its layer, and its index there; -1 where the scope that decided is not known."""

Positions = tuple[Position, ...]

BY_RESOURCE: Final = 0
BY_ACTION: Final = 1
NOTHING: Final = 2

# The name of the one bucket of an action whose resources are not told apart; no resource is empty.
ALL: Final = ""


@dataclass(slots=True)
class CallGroup:
    """Calls of one kind.

    ``size`` and ``weight``: JSON values and bytes of the largest arguments; ``shortest`` and ``longest``:
    segments of the resource; ``cut``: paths were dropped, the outermost are kept; ``opaque``: some arguments
    can't be named.
    """

    calls: int = 0
    size: int = 0
    weight: int = 0
    shortest: int = 0
    longest: int = 0
    segments: list[ValueSummary] = field(default_factory=list)
    paths: dict[Path, ValueSummary] = field(default_factory=dict)
    cut: bool = False
    opaque: bool = False

    def see(self, resource: str, call: ParsedArguments) -> None:
        """Count one call."""
        parts = resource.split("/")
        self.shortest = min(self.shortest, len(parts)) if self.calls else len(parts)
        self.longest = max(self.longest, len(parts))
        self.calls += 1
        self.size = max(self.size, call.size)
        self.weight = max(self.weight, call.weight)
        self.opaque |= call.opaque
        for index, part in enumerate(parts):
            self._segment(index).see_segment(part)
        for node in call.nodes:
            self._path(node.path).see(node)
        self._settle()

    def merge(self, other: CallGroup) -> None:
        """Take over what another has seen."""
        if other.calls:
            self.shortest = min(self.shortest, other.shortest) if self.calls else other.shortest
        self.longest = max(self.longest, other.longest)
        self.calls += other.calls
        self.size = max(self.size, other.size)
        self.weight = max(self.weight, other.weight)
        self.opaque |= other.opaque
        self.cut |= other.cut
        for index, slot in enumerate(other.segments):
            self._segment(index).merge(slot)
        for path, slot in other.paths.items():
            self._path(path).merge(slot)
        self._settle()

    def _segment(self, index: int) -> ValueSummary:
        while len(self.segments) <= index:
            self.segments.append(ValueSummary())
        return self.segments[index]

    def _path(self, path: Path) -> ValueSummary:
        return self.paths.setdefault(path, ValueSummary())

    def _settle(self) -> None:
        if len(self.paths) > bounds.MAX_PATHS:
            kept = sorted(self.paths, key=outermost)[: bounds.MAX_PATHS]
            self.paths, self.cut = {path: self.paths[path] for path in kept}, True

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "calls": self.calls,
            "size": self.size,
            "weight": self.weight,
            "shortest": self.shortest,
            "longest": self.longest,
            "segments": [slot.to_dict() for slot in self.segments],
            "paths": [[list(path), self.paths[path].to_dict()] for path in sorted(self.paths, key=outermost)],
            "cut": self.cut,
            "opaque": self.opaque,
        }

    @classmethod
    def from_dict(cls, data: object) -> CallGroup:
        """Read what :meth:`to_dict` gave; raises UsageError for anything else."""
        names = ("calls", "size", "weight", "shortest", "longest", "segments", "paths", "cut", "opaque")
        given = field_readers.fields(data, *names)
        calls, size, weight, shortest, longest = (field_readers.count(given[name]) for name in names[:5])
        bucket = cls(calls, size, weight, shortest, longest)
        if bucket.longest > limits.MAX_SEGMENTS or bucket.shortest > bucket.longest:
            raise UsageError("a usage record: more segments than a resource has")
        segments = field_readers.items(given["segments"], bucket.longest, exactly=True)
        bucket.segments = [ValueSummary.from_dict(slot) for slot in segments]
        for row in field_readers.items(given["paths"], bounds.MAX_PATHS):
            path, slot = field_readers.items(row, 2, exactly=True)
            names_ = field_readers.items(path, limits.MAX_PATH_SEGMENTS)
            key = tuple(field_readers.text(name, limits.MAX_STRING_BYTES) for name in names_)
            bucket.paths[key] = ValueSummary.from_dict(slot)
        bucket.cut, bucket.opaque = field_readers.truth(given["cut"]), field_readers.truth(given["opaque"])
        return bucket


def outermost(path: Path) -> tuple[int, Path]:
    """Sort key for paths: outer ones first, so that what is dropped lies deepest."""
    return len(path), path


GroupKey = tuple[Positions, str]
Buckets = dict[str, CallGroup]


@dataclass(slots=True)
class Profile:
    """The buckets of all calls, by group (scopes that may have admitted them, action) and resource."""

    level: int = BY_RESOURCE
    groups: dict[GroupKey, Buckets] = field(default_factory=dict)

    def see(self, positions: Positions, action: str, resource: str, call: ParsedArguments) -> None:
        """Count one allowed call."""
        if self.level < NOTHING:
            bucket = self._bucket((positions, action), resource)
            bucket.see(resource, call)
            if bucket.calls == 1:
                self._settle((positions, action))

    def merge(self, other: Profile) -> None:
        """Take over another's calls."""
        if other.level > self.level:
            self.coarsen(other.level)
        for key, buckets in other.groups.items():
            if self.level == NOTHING:
                return
            for resource, bucket in buckets.items():
                self._bucket(key, resource).merge(bucket)
            self._settle(key)

    def coarsen(self, level: int) -> None:
        """Tell less apart: ``BY_ACTION``, or ``NOTHING``, which keeps nothing. There is no way back."""
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

    def _settle(self, key: GroupKey) -> None:
        buckets = self.groups[key]
        if len(buckets) > bounds.MAX_RESOURCES or (ALL in buckets and len(buckets) > 1):
            self._join(key)
        if self.level == BY_RESOURCE and self._kinds() > bounds.MAX_KINDS:
            self.coarsen(BY_ACTION)
        elif self.level == BY_ACTION and len(self.groups) > bounds.MAX_GROUPS:
            self.coarsen(NOTHING)

    def _kinds(self) -> int:
        # A joined action counts as the most that it could have had, or joining would make room for others.
        return sum(bounds.MAX_RESOURCES if ALL in each else len(each) for each in self.groups.values())

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
        """Read what :meth:`to_dict` gave; raises UsageError for anything else."""
        given = field_readers.fields(data, "level", "groups")
        level = field_readers.count(given["level"])
        if level > NOTHING:
            raise UsageError("a usage record: an unknown level of detail")
        profile = cls(level)
        for group in field_readers.items(given["groups"], 0 if level == NOTHING else bounds.MAX_KINDS):
            parts = field_readers.fields(group, "positions", "action", "buckets")
            rows = field_readers.items(parts["positions"], bounds.MAX_POSITIONS)
            action = field_readers.text(parts["action"], limits.MAX_ACTION_CHARS)
            key = (tuple(read_position(field_readers.items(row, 2, exactly=True)) for row in rows), action)
            for row in field_readers.items(parts["buckets"], bounds.MAX_RESOURCES):
                name, bucket = field_readers.items(row, 2, exactly=True)
                resource = field_readers.text(name, limits.MAX_RESOURCE_BYTES)
                other = cls(level, {key: {resource: CallGroup.from_dict(bucket)}})
                profile.merge(other)
        return profile


def read_position(parts: list[object]) -> Position:
    """Read ``[layer id, index]``; raises UsageError for anything else."""
    layer, index = field_readers.items(parts, 2, exactly=True)
    return field_readers.text(layer, 64), -1 if index == -1 else field_readers.count(index)
