"""The arguments that a tightened scope leaves open: those of the observed calls without a condition.

A scope with conditions is a closed world (docs/token-format.md, 6.5): an argument that it doesn't mention
denies. So every observed argument must be mentioned, and as few others as possible.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..scopes.argument_path import Path
from ..scopes.operators import Operator
from ..scopes.scope import Scope
from .argument_reader import ELEMENT, names_of, scope_path
from .argument_reader import Path as Names
from .profile import CallGroup


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
        """Return True if what is below a path is not known completely."""
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
