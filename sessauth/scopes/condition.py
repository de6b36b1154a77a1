"""Conditions: one typed predicate on one value of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..errors import ScopeError
from .argument_path import Path
from .form import checked_condition
from .operand import (
    Operand,
    OperandLike,
    operand_from_record,
    operand_to_record,
    operand_to_text,
    operands_of,
)
from .operators import (
    ACCESSOR_WORDS,
    ACCESSORS,
    EQUALITY,
    LIST_ONLY,
    OPERATOR_WORDS,
    WORDS,
    Accessor,
    Operator,
)
from .parser import parse_condition


@dataclass(frozen=True, slots=True)
class FactReference:
    """The operand of a condition that is compared with a session fact instead of a constant."""

    name: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A relation of the value at ``path``, or of the result of ``accessor`` on it, to an operand.

    ``values`` and ``fact`` exclude each other. With ``each`` every element of a list must hold, with
    ``optional`` it also holds if there is nothing at the path. ``operator`` and ``accessor`` are beyond
    :class:`Operator` and :class:`Accessor` only in a token of a later version.

    Raises:
        ScopeError: if it is against the format (``docs/token-format.md``, 6.1).
    """

    path: Path
    operator: int
    values: tuple[Operand, ...] = ()
    fact: str = ""
    accessor: int = Accessor.NONE
    each: bool = False
    optional: bool = False

    def __post_init__(self) -> None:
        """Let the kernel check the form."""
        checked_condition(self.to_record())

    @classmethod
    def of(
        cls,
        path: Path | str,
        operator: str,
        *operands: OperandLike | FactReference,
        accessor: str = "",
        each: bool = False,
        optional: bool = False,
    ) -> Condition:
        """Return the condition written as in scope text, from Python values.

        Args:
            path: a path, or the name of one top-level argument, taken literally.
            operator: ``==``, ``not in``, ``starts_with`` and so on.
            operands: constants, or one :class:`FactReference`. Lists, mappings and None are JSON values.
            accessor: ``count``, ``host``, ``scheme`` or ``port``.
            each: whether every element of a list must hold.
            optional: whether an absent value holds.

        Raises:
            ScopeError: if a word is unknown or the condition is against the format.
        """
        if operator not in OPERATOR_WORDS:
            raise ScopeError(f"unknown operator {operator!r}: one of {', '.join(OPERATOR_WORDS)}")
        if accessor and accessor not in ACCESSOR_WORDS:
            raise ScopeError(f"unknown accessor {accessor!r}: one of {', '.join(ACCESSOR_WORDS)}")
        facts = [o.name for o in operands if isinstance(o, FactReference)]
        if facts and len(operands) > 1:
            raise ScopeError("a session fact is the only operand of its condition")
        constants = [o for o in operands if not isinstance(o, FactReference)]
        return cls(
            path=Path.args(path) if isinstance(path, str) else path,
            operator=OPERATOR_WORDS[operator],
            values=operands_of(constants, equality=OPERATOR_WORDS[operator] in EQUALITY),
            fact=facts[0] if facts else "",
            accessor=ACCESSOR_WORDS[accessor] if accessor else Accessor.NONE,
            each=each,
            optional=optional,
        )

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read one condition, for example ``amount <= 100``.

        Raises:
            ScopeError: with the offset in characters and the expected token.
        """
        return cls.from_record(parse_condition(text))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the condition of a wire dict of message ``Condition``.

        Raises:
            ScopeError: if it is against the format.
        """
        return cls(
            path=Path.from_record(record.get("path")),
            operator=record.get("operator", 0),
            values=tuple(operand_from_record(v) for v in record.get("values", ())),
            fact=record.get("fact", ""),
            accessor=record.get("accessor", 0),
            each=record.get("each", False),
            optional=record.get("optional", False),
        )

    def to_record(self) -> dict[str, object]:
        """Return the wire dict of message ``Condition``."""
        return {
            "path": self.path.to_record(),
            "operator": int(self.operator),
            "values": [operand_to_record(v) for v in self.values],
            "fact": self.fact,
            "accessor": int(self.accessor),
            "each": self.each,
            "optional": self.optional,
        }

    def __str__(self) -> str:
        """Return the canonical scope text; kinds of a later version show as ``<unknown …>``."""
        term = f"{self.path}?" if self.optional else str(self.path)
        if self.accessor:
            word = ACCESSORS.get(self.accessor, f"<unknown accessor {self.accessor}>")
            term = f"{word}({term})"
        subject = f"each({term})" if self.each else term
        parts = [subject, WORDS.get(self.operator, f"<unknown operator {self.operator}>")]
        if self.fact:
            parts.append(f"session.{self.fact}")
        elif len(self.values) == 1 and self.operator not in LIST_ONLY:
            parts.append(operand_to_text(self.values[0]))
        elif self.values:
            parts.append("[" + ", ".join(map(operand_to_text, self.values)) + "]")
        return " ".join(parts)


NO_ARGUMENTS = Condition(Path.args("_"), Operator.ABSENT)
"""The only condition of a scope that permits no arguments at all: any argument is left over, or this one."""
