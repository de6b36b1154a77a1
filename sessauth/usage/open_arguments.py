"""Which arguments a tightened scope leaves open: those that calls had, and that no condition speaks of.

A scope with conditions is a closed world (docs/token-format.md, 6.5): what nothing mentions denies. So every
argument that was seen must be mentioned, and as few others as can be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..scopes.argument_path import Path, ValueSource
from ..scopes.scope import Scope
from .argument_reader import Path as Names
from .profile import CallGroup


class ArgumentTree:
    """The paths that a kind of call had, as a tree."""

    def __init__(self, bucket: CallGroup, conditioned: Collection[Names]) -> None:
        """Take the calls, and the paths that conditions speak of."""
        self._slots = bucket.paths
        self._conditioned = conditioned
        # Outermost paths are kept first, so above the deepest that was kept none is missing.
        self._whole_above = max(map(len, bucket.paths), default=0) if bucket.cut else 1_000_000
        self._children: dict[Names, list[Names]] = {}
        for path in bucket.paths:
            self._children.setdefault(path[:-1], []).append(path)
        self.known = not bucket.opaque and self._whole_above > 1

    def all(self) -> list[Names]:
        """Return paths that mention all that was seen; only where ``known``."""
        return [path for child in sorted(self._children.get((), ())) for path in self._cover(child)]

    def below(self, granted: Names) -> list[Names]:
        """Return paths at or below a granted one that mention all that was seen there."""
        if granted in self._slots:
            return list(self._cover(granted))
        if any(path == granted[: len(path)] for path in self._conditioned):
            return []
        # Objects on the way to it were seen, and are entered only if something lies below them.
        on_the_way = any(granted[: len(path)] == path for path in self._slots)
        return [granted] if on_the_way else []

    def _cover(self, path: Names) -> Iterator[Names]:
        if path in self._conditioned:
            return
        slot, children = self._slots[path], sorted(self._children.get(path, ()))
        whole = set(slot.kinds) == {"object"} and not slot.opaque and len(path) + 1 < self._whole_above
        if not whole or not children:
            yield path
            return
        for child in children:
            yield from self._cover(child)


def free_paths(granted: Scope, seen: ArgumentTree) -> tuple[tuple[Path, ...], bool]:
    """Return ``free`` and ``free_all`` of a scope that admits what was seen and is as closed as can be."""
    if is_closed(granted):
        if not seen.known:
            return granted.free_paths, False
        below = [path for each in granted.free_paths for path in seen.below(each.segments)]
        return tuple(map(Path, dict.fromkeys(below))), False
    if not seen.known:
        return (), True
    return tuple(map(Path, seen.all())), False


def is_closed(scope: Scope) -> bool:
    """Whether an argument that a scope doesn't mention denies."""
    return bool(scope.conditions or scope.free_paths) and not scope.everything_free


def mentioned(scope: Scope) -> int:
    """Return how many argument paths a scope mentions."""
    return len(scope.free_paths) + sum(c.path.source == ValueSource.ARGS for c in scope.conditions)
