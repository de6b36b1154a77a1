"""Observed arguments that a suggestion of the fits EXACT and LOOSE does not hold, in words of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..scopes.scope import Scope
from . import limits
from .argument_reader import ELEMENT, scope_path
from .argument_reader import Path as Names
from .generalize import Fit
from .kinds.languages import PROGRAM, READ, is_language
from .kinds.price import is_for
from .open_arguments import opens
from .profile import CallGroup

LEFT_OPEN = "it is left open"


def opened(scopes: Sequence[Scope], evidence: Sequence[tuple[str, str, CallGroup]], fit: Fit) -> list[str]:
    """Return a line for each argument of the calls that the scopes for them leave open; programs first.

    Of the exact fit also for one that is held by what its values share, and not by the values.
    """
    lines: dict[str, None] = {}
    for action, resource, group in evidence:
        fitting = [scope for scope in scopes if is_for(scope, action, resource)]
        for path in _leaves(group):
            summary = group.paths[path]
            many = f"more than {limits.MAX_VALUES} values; " if summary.values is None else ""
            why = ""
            if any(opens(scope, path) for scope in fitting):
                program = action != READ and is_language(path, [summary])
                why = (f"{PROGRAM}; " if program else many if fit is Fit.EXACT else "") + LEFT_OPEN
            elif fit is Fit.EXACT and many:
                why = f"{many}only what they share is held"
            if why:
                lines[f"{action}:{resource or '**'} {scope_path(path)}: {why}"] = None
    return sorted(lines, key=lambda line: PROGRAM not in line)


def _leaves(group: CallGroup) -> Iterator[Names]:
    """Yield the paths that have no members of their own; lists count as wholes."""
    for path in sorted(group.paths):
        below = any(other[:-1] == path and other[-1] != ELEMENT for other in group.paths)
        if ELEMENT not in path and not below:
            yield path
