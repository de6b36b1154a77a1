"""Ways to hold one argument, of which one must hold."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...scopes.argument_path import Path
from ...scopes.condition import Condition
from ...scopes.operand import Operand
from ..argument_reader import Path as Names
from ..argument_reader import scope_path

Once = tuple[Names, Operand | None]
"""A value that too few sessions brought, with its path; None: all that is there."""


@dataclass(frozen=True, slots=True)
class Way:
    """Conditions that must hold together, and paths that stay open; ``required`` ones must be given."""

    conditions: tuple[Condition, ...] = ()
    free: tuple[Path, ...] = ()
    required: tuple[Path, ...] = ()

    def then(self, other: Way) -> Way:
        """Return both together."""
        return Way(
            (*self.conditions, *other.conditions),
            (*self.free, *other.free),
            (*self.required, *other.required),
        )


@dataclass(slots=True)
class ArgumentHold:
    """Ways to hold one argument.

    ``notes``: the path of what is not held, and why. ``once``: what too few sessions brought; it is left out.
    """

    names: Names
    ways: list[Way] = field(default_factory=list)
    notes: list[tuple[Path, str]] = field(default_factory=list)
    once: list[Once] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """Its path, as conditions have it."""
        return scope_path(self.names)

    def hold(self, *conditions: Condition) -> None:
        """Add a way of conditions."""
        self.ways.append(Way(conditions))

    def leave_open(self, why: str, *, required: bool) -> None:
        """Add the way that holds nothing, with its reason."""
        self.ways.append(Way((), (self.path,), (self.path,) if required else ()))
        self.notes.append((self.path, why))
