"""Scopes: the calls that a token permits. Structured when signed, text for people.

    Scope.on("read", "files", "my notes").where("owner", "==", "acme").free_all()
    read:files/"my notes" where owner == "acme" free *

A scope may have conditions, each a typed predicate on one value of a call. The kernel defines the *meaning*
of a scope; these classes build, read and print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from .._fast import _check as kernel
from .._fast import _codec as codec
from ..errors import ScopeError
from .parser import parse_condition, parse_scope
from .parts import (
    ACCESSOR_WORDS,
    ACCESSORS,
    EQUALITY,
    LIST_ONLY,
    OPERATOR_WORDS,
    WORDS,
    Accessor,
    Approval,
    Budget,
    Needs,
    Operator,
    Path,
    Segment,
    checked_condition,
    checked_scope,
)
from .value import Operand, OperandLike, operand_from_record, operand_to_record, operand_to_text, operands_of


@dataclass(frozen=True, slots=True)
class FactReference:
    """The operand of a condition that is compared with a session fact instead of a constant."""

    name: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A relation of the value at ``path``, or of the result of ``accessor`` on it, to an operand.

    ``values`` and ``fact`` exclude each other. With ``each`` every element of a list must hold, with
    ``optional`` it also holds if there is nothing at the path. ``operator`` and ``accessor`` are beyond
    :class:`Operator` and :class:`Accessor` only in a token of a later version. Raises ScopeError if it is
    against the format (``docs/token-format.md``, 6.1).
    """

    path: Path
    operator: int
    values: tuple[Operand, ...] = ()
    fact: str = ""
    accessor: int = Accessor.NONE
    each: bool = False
    optional: bool = False
    any: bool = False

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
        any: bool = False,  # noqa: A002 (the word of the language)
    ) -> Condition:
        """Return the condition written as in scope text, from Python values.

        Raises ScopeError if a word is unknown or the condition is against the format.

        Args:
            path: a path, or the name of one top-level argument, taken literally.
            operator: ``==``, ``not in``, ``starts_with`` and so on.
            operands: constants, or one :class:`FactReference`. Lists, mappings and None are JSON values.
            accessor: ``count``, ``length``, ``host``, ``scheme``, ``port``, ``path`` or ``domain``.
            each: whether every element of a list must hold.
            optional: whether an absent value holds.
            any: whether one element of a list is enough, or one place that a path of elements leads to.
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
            any=any,
        )

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read one condition, for example ``amount <= 100``.

        Raises ScopeError with the offset in characters and the expected token.
        """
        encoded = codec.condition_from_text(text) if type(text) is str else None
        if encoded is None:
            return cls.from_record(parse_condition(text))
        return cls.from_record(kernel.decode_message("Condition", encoded))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the condition of a wire dict of message ``Condition``.

        Raises ScopeError if it is against the format.
        """
        return cls(
            path=Path.from_record(record.get("path")),
            operator=record.get("operator", 0),
            values=tuple(operand_from_record(v) for v in record.get("values", ())),
            fact=record.get("fact", ""),
            accessor=record.get("accessor", 0),
            each=record.get("each", False),
            optional=record.get("optional", False),
            any=record.get("any", False),
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
            "any": self.any,
        }

    def __str__(self) -> str:
        """Return the canonical scope text; kinds of a later version show as ``<unknown …>``."""
        term = f"{self.path}?" if self.optional else str(self.path)
        if self.accessor:
            word = ACCESSORS.get(self.accessor, f"<unknown accessor {self.accessor}>")
            term = f"{word}({term})"
        subject = f"each({term})" if self.each else f"any({term})" if self.any else term
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


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on resources, under conditions, at a price.

    With conditions, or with ``free_paths``, a scope is *closed*: an argument that neither mentions denies the
    call, unless ``everything_free``. An ``exception`` is a part of a ceiling, and denies what it matches.
    Raises ScopeError if it is against the format (``docs/token-format.md``, 5 and 6.1).
    """

    actions: tuple[str, ...]
    resource: tuple[Segment, ...]
    conditions: tuple[Condition, ...] = ()
    free_paths: tuple[Path, ...] = ()
    everything_free: bool = False
    needs: Needs | None = None
    exception: bool = False
    # The canonical bytes, which say all of it: a scope that was read has its other fields once they are asked
    # for.
    _encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Let the kernel check the form."""
        record = {
            "actions": self.actions,
            "resource": self.resource,
            "where": [condition.to_record() for condition in self.conditions],
            "free": self.free_paths,
            "free_all": self.everything_free,
            "needs": self.needs,
            "exception": self.exception,
        }
        object.__setattr__(self, "_encoded", checked_scope(record))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Read the fields of a scope that has only its bytes."""
            if name not in _READ_LATER:
                raise AttributeError(f"a Scope has no {name}", name=name, obj=self)
            if name == "exception":
                # Asked of every scope that is minted, whose other fields nobody reads.
                object.__setattr__(self, name, kernel.read_fields(self._encoded, _EXCEPTION) == [1])
                return self.exception
            record = kernel.decode_message("Scope", self._encoded)
            needs = record["needs"]
            fields = {
                "actions": tuple(record["actions"]),
                "resource": tuple(map(Segment.from_record, record["resource"])),
                "conditions": tuple(map(Condition.from_record, record["where"])),
                "free_paths": tuple(map(Path.from_record, record["free"])),
                "everything_free": record["free_all"],
                "needs": None if needs is None else Needs.from_record(needs),
                "exception": record["exception"],
            }
            for each, value in fields.items():
                object.__setattr__(self, each, value)
            return fields[name]

    @classmethod
    def on(cls, action: str | Sequence[str], *segments: str | Segment) -> Scope:
        """Return a scope for one action, or several, on a resource given segment by segment.

        Texts are taken literally, so a name can't inject a wildcard or a slash. Patterns are built with
        :class:`Segment`, for example ``Scope.on("read", "files", Segment.rest())``. Raises ScopeError if an
        action or a segment is against the format.
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
        any: bool = False,  # noqa: A002 (the word of the language)
    ) -> Scope:
        """Return a copy with one more condition; arguments as of :meth:`Condition.of`.

        Raises ScopeError if the condition is against the format, or there would be more than 16.
        """
        condition = (
            path
            if isinstance(path, Condition)
            else Condition.of(
                path, operator, *operands, accessor=accessor, each=each, optional=optional, any=any
            )
        )
        return replace(self, conditions=(*self.conditions, condition))

    def free(self, *paths: Path | str) -> Scope:
        """Return a copy that leaves these arguments open as well.

        A text is the name of one top-level argument, taken literally. Raises ScopeError if a path is not an
        argument's or is there twice, or everything is free already.
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

        Raises ScopeError if nothing is needed, or a need is against the format.
        """
        return replace(self, needs=Needs(approval=approval, uses=uses, budget=budget))

    def as_exception(self) -> Scope:
        """Return a copy for a ceiling, which then denies what this scope matches.

        Raises ScopeError if it has free arguments or needs.
        """
        return replace(self, exception=True)

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read scope text (``docs/token-format.md``, 11).

        Raises ScopeError with the offset in characters and the expected token.
        """
        return cls._read((codec.scope_from_text(text) if type(text) is str else None) or parse_scope(text))

    @classmethod
    def of(cls, scope: Scope | str) -> Scope:
        """Return ``scope``, parsed if it is a text. Raises ScopeError as :meth:`parse`."""
        return cls.parse(scope) if isinstance(scope, str) else scope

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Scope:
        """Return the scope of a wire dict of message ``Scope``.

        Raises ScopeError if it is against the format.
        """
        return cls._read(checked_scope(record))

    @classmethod
    def _read(cls, encoded: bytes) -> Scope:
        """Return the scope of canonical bytes that the kernel checked."""
        scope = object.__new__(cls)
        object.__setattr__(scope, "_encoded", encoded)
        return scope

    def to_record(self) -> dict[str, object]:
        """Return the wire dict of message ``Scope``."""
        return kernel.decode_message("Scope", self._encoded)

    def encode(self) -> bytes:
        """Return the canonical bytes of message ``Scope``."""
        return self._encoded

    @property
    def has_unknown_kind(self) -> bool:
        """True if it holds a kind of a later version, which every check denies."""
        return codec.has_unknown_kind(self._encoded)

    @property
    def has_needs(self) -> bool:
        """True if it costs something."""
        return kernel.read_fields(self._encoded, _NEEDS) != _WITHOUT_NEEDS

    def __str__(self) -> str:
        """Return the canonical scope text; kinds of a later version show as ``<unknown …>``."""
        text = "except " if self.exception else ""
        text += ",".join(self.actions) + ":" + "/".join(map(str, self.resource))
        if self.has_no_arguments:
            text += " where no arguments"
        elif self.conditions:
            text += " where " + " and ".join(map(str, self.conditions))
        if self.everything_free or self.free_paths:
            text += " free " + ("*" if self.everything_free else ", ".join(map(str, self.free_paths)))
        return text if self.needs is None else f"{text} needs {self.needs}"


# The number of the field in message ``Scope``.
_EXCEPTION = (7,)
_NEEDS = (6,)
_WITHOUT_NEEDS = [None]
_READ_LATER = frozenset(each.name for each in fields(Scope) if each.init)
