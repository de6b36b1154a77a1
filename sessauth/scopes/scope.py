"""Scopes: which calls a token permits. Structured when signed, text for people.

    Scope.on("read", "files", "my notes").where("owner", "==", "acme").free_all()
    read:files/"my notes" where owner == "acme" free *

The kernel defines the *meaning* of a scope; these classes build, read and print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._fast import _codec as codec
from .argument_path import Path
from .condition import NO_ARGUMENTS, Condition, FactReference
from .form import checked_scope
from .needs import Approval, Budget, Needs
from .operand import OperandLike
from .parser import parse_scope
from .segment import Segment


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on resources, under conditions, at a price.

    With conditions, or with ``free_paths``, a scope is *closed*: an argument that neither mentions
    denies the call, unless ``everything_free``.

    Raises:
        ScopeError: if it is against the format (``docs/token-format.md``, 5 and 6.1).
    """

    actions: tuple[str, ...]
    resource: tuple[Segment, ...]
    conditions: tuple[Condition, ...] = ()
    free_paths: tuple[Path, ...] = ()
    everything_free: bool = False
    needs: Needs | None = None

    def __post_init__(self) -> None:
        """Let the kernel check the form."""
        self.encode()

    @classmethod
    def on(cls, action: str | Sequence[str], *segments: str | Segment) -> Scope:
        """Return a scope for one action, or several, on a resource given segment by segment.

        Texts are taken literally, so a name can't inject a wildcard or a slash. Patterns are built
        with :class:`Segment`, for example ``Scope.on("read", "files", Segment.rest())``.

        Raises:
            ScopeError: if an action or a segment is against the format.
        """
        return cls(
            actions=(action,) if isinstance(action, str) else tuple(action),
            resource=tuple(Segment.literal(s) if isinstance(s, str) else s for s in segments),
        )

    def where(
        self,
        path: Path | str | Condition,
        operator: str = "",
        *operands: OperandLike | FactReference,
        accessor: str = "",
        each: bool = False,
        optional: bool = False,
    ) -> Scope:
        """Return a copy with one more condition; arguments as of :meth:`Condition.of`.

        Raises:
            ScopeError: if the condition is against the format, or there would be more than 16.
        """
        condition = (
            path
            if isinstance(path, Condition)
            else Condition.of(path, operator, *operands, accessor=accessor, each=each, optional=optional)
        )
        return replace(self, conditions=(*self.conditions, condition))

    def free(self, *paths: Path | str) -> Scope:
        """Return a copy that leaves these arguments open as well.

        A text is the name of one top-level argument, taken literally.

        Raises:
            ScopeError: if a path is no argument's, is there twice, or everything is free already.
        """
        more = tuple(Path.args(p) if isinstance(p, str) else p for p in paths)
        return replace(self, free_paths=self.free_paths + more)

    def free_all(self) -> Scope:
        """Return a copy that leaves every argument open that no condition mentions."""
        return replace(self, free_paths=(), everything_free=True)

    def no_arguments(self) -> Scope:
        """Return a copy that permits no arguments at all, in place of its conditions and free arguments."""
        return replace(self, conditions=(NO_ARGUMENTS,), free_paths=(), everything_free=False)

    @property
    def has_no_arguments(self) -> bool:
        """True if it permits no arguments, and is written so."""
        return self.conditions == (NO_ARGUMENTS,) and not self.free_paths and not self.everything_free

    def needing(
        self, *, approval: Approval | None = None, uses: int = 0, budget: Budget | None = None
    ) -> Scope:
        """Return a copy that costs something.

        Raises:
            ScopeError: if nothing is needed, or a need is against the format.
        """
        return replace(self, needs=Needs(approval=approval, uses=uses, budget=budget))

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read scope text (``docs/token-format.md``, 11).

        Raises:
            ScopeError: with the offset in characters and the expected token.
        """
        return cls.from_record(parse_scope(text))

    @classmethod
    def of(cls, scope: Scope | str) -> Scope:
        """Return ``scope``, parsed if it is a text.

        Raises:
            ScopeError: as :meth:`parse`.
        """
        return cls.parse(scope) if isinstance(scope, str) else scope

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Scope:
        """Return the scope of a wire dict of message ``Scope``.

        Raises:
            ScopeError: if it is against the format.
        """
        needs = record.get("needs")
        return cls(
            actions=tuple(record.get("actions", ())),
            resource=tuple(Segment.from_record(s) for s in record.get("resource", ())),
            conditions=tuple(Condition.from_record(c) for c in record.get("where", ())),
            free_paths=tuple(Path.from_record(p) for p in record.get("free", ())),
            everything_free=record.get("free_all", False),
            needs=None if needs is None else Needs.from_record(needs),
        )

    def to_record(self) -> dict[str, object]:
        """Return the wire dict of message ``Scope``."""
        return {
            "actions": list(self.actions),
            "resource": [s.to_record() for s in self.resource],
            "where": [c.to_record() for c in self.conditions],
            "free": [p.to_record() for p in self.free_paths],
            "free_all": self.everything_free,
            "needs": None if self.needs is None else self.needs.to_record(),
        }

    def encode(self) -> bytes:
        """Return the canonical bytes of message ``Scope``.

        Raises:
            ScopeError: if it is against the format.
        """
        return checked_scope(self.to_record())

    @property
    def has_unknown_kind(self) -> bool:
        """True if it holds a kind of a later version, which every check denies."""
        return codec.has_unknown_kind(self.encode())

    def __str__(self) -> str:
        """Return the canonical scope text; kinds of a later version show as ``<unknown …>``."""
        text = ",".join(self.actions) + ":" + "/".join(map(str, self.resource))
        if self.has_no_arguments:
            text += " where no arguments"
        elif self.conditions:
            text += " where " + " and ".join(map(str, self.conditions))
        if self.everything_free or self.free_paths:
            text += " free " + ("*" if self.everything_free else ", ".join(map(str, self.free_paths)))
        return text if self.needs is None else f"{text} needs {self.needs}"
