"""Evidence that keeps sessions apart: a value counts by how many sessions brought it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, TypeVar

from ...scopes.value import Value
from ..argument_reader import Path
from ..grants import GrantLayer
from ..profile import ALL, CallGroup
from ..session_usage import SessionUsage
from ..value_summary import ValueSummary
from .languages import READ

# From so many sessions on, what only one of them brought is not free: it is asked for.
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

        ``opaque`` there: for so many, what is below is not known completely. So one session alone neither
        adds a path nor hides what is below one.
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
    """Return the number of sessions that must have brought what is suggested as free."""
    return 2 if sessions >= ENOUGH_SESSIONS else 1


def support(values: Iterable[Iterable[T]]) -> dict[T, int]:
    """Return how many sessions brought each value."""
    counts: dict[T, int] = {}
    for of_session in values:
        for value in set(of_session):
            counts[value] = counts.get(value, 0) + 1
    return counts
