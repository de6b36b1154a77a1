"""Evaluation of conditions (sections 6.2 to 6.9 of the format)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .addresses import in_cidr, parse_ip, parse_url
from .constants import ACCESSORS, OPERATORS, SOURCES, Accessor, Operator, Source
from .model import BILLION, NO_VALUE, NOTHING, Condition, Path, Scalar
from .texts import glob_matches, is_under

MAX_WORK = 262_144
BYTES_A_STEP = 16


class OutOfWork(Exception):
    """The work counter passed its limit."""


@dataclass(slots=True)
class Work:
    """The counter of 9.8: one for each check."""

    done: int = 0

    def add(self, amount: int) -> None:
        """Count; raises OutOfWork beyond the limit."""
        self.done += amount
        if self.done > MAX_WORK:
            raise OutOfWork


@dataclass(slots=True)
class Context:
    """Inputs of conditions: arguments, tool, and the facts visible to this layer or block."""

    arguments: dict[str, object]
    tool: dict[str, object]
    facts: Mapping[str, tuple[Scalar, bool]]
    work: Work = field(default_factory=Work)
    only_visible: bool = False

    def fact(self, name: str) -> object:
        """The value of a fact, or NOTHING."""
        value, visible = self.facts.get(name, (NOTHING, True))
        return value if visible or not self.only_visible else NOTHING

    def find(self, path: Path) -> object:
        """Walk a path (6.3): a value, or NOTHING."""
        if path.source == Source.SESSION:
            return self.fact(path.segments[0])
        value: object = self.arguments if path.source == Source.ARGS else self.tool
        for name in path.segments:
            if type(value) is not dict or name not in value:
                return NOTHING
            value = value[name]
        return value


def is_unknown(condition: Condition) -> bool:
    """Return True for an unknown operator, accessor or source."""
    return (
        condition.operator not in OPERATORS
        or condition.accessor not in ACCESSORS
        or condition.path.source not in SOURCES
    )


def _same_type(a: object, b: object) -> bool:
    """Return True for two texts, two numbers or two truths: ``bool`` and ``int`` differ."""
    return type(a) is type(b) and type(a) in (str, int, bool)


def _equal(a: object, b: object) -> bool:
    return _same_type(a, b) and a == b


def _ordered(compare: Callable[[bytes | int, bytes | int], bool]) -> Callable[[object, object], bool]:
    def holds(a: object, b: object) -> bool:
        if type(a) is int and type(b) is int:
            return compare(a, b)
        if type(a) is str and type(b) is str:
            return compare(a.encode("utf-8"), b.encode("utf-8"))
        return False

    return holds


def _texts(compare: Callable[[str, str], bool]) -> Callable[[object, object], bool]:
    return lambda a, b: type(a) is str and type(b) is str and compare(a, b)


def _in_cidr(text: str, cidr: str) -> bool:
    address = parse_ip(text)
    return address is not None and in_cidr(address, cidr)


# Relations that hold when they hold for some operand.
_SOME: dict[int, Callable[[object, object], bool]] = {
    Operator.EQUAL: _equal,
    Operator.NOT_EQUAL: lambda a, b: _same_type(a, b) and a != b,
    Operator.IN: _equal,
    Operator.LESS: _ordered(lambda a, b: a < b),  # type: ignore[operator]
    Operator.LESS_EQUAL: _ordered(lambda a, b: a <= b),  # type: ignore[operator]
    Operator.GREATER: _ordered(lambda a, b: a > b),  # type: ignore[operator]
    Operator.GREATER_EQUAL: _ordered(lambda a, b: a >= b),  # type: ignore[operator]
    Operator.STARTS_WITH: _texts(str.startswith),
    Operator.GLOB: _texts(lambda text, pattern: glob_matches(pattern, text)),
    Operator.UNDER: _texts(is_under),
    Operator.CIDR: _texts(_in_cidr),
}


def _compare(operator: int, value: object, operands: tuple[object, ...]) -> bool:
    if operator == Operator.SUBSET_OF:
        return type(value) is list and all(any(_equal(item, w) for w in operands) for item in value)
    if operator == Operator.NOT_IN:
        return all(_same_type(value, w) and value != w for w in operands)
    return any(_SOME[operator](value, w) for w in operands)


def _access(accessor: int, value: object) -> object:
    """Section 6.4: what the accessor gives, or NOTHING."""
    if accessor == Accessor.NONE:
        return value
    if accessor == Accessor.COUNT:
        return len(value) * BILLION if type(value) is list else NOTHING
    url = parse_url(value) if type(value) is str else None
    if url is None:
        return NOTHING
    if accessor == Accessor.HOST:
        return url.host
    if accessor == Accessor.SCHEME:
        return url.scheme
    return NOTHING if url.port is None else url.port * BILLION


def holds(condition: Condition, context: Context) -> bool:
    """Evaluate the condition (6.2). False for an unknown kind. Raises OutOfWork."""
    if is_unknown(condition):
        return False
    value = context.find(condition.path)
    if condition.operator == Operator.PRESENT:
        return value is not NOTHING and value is not NO_VALUE and value is not None
    if condition.operator == Operator.ABSENT:
        return value is NOTHING
    if value is NOTHING:
        return condition.optional
    operands: tuple[object, ...] = condition.values
    if condition.fact:
        operands = (context.fact(condition.fact),)
        if operands[0] is NOTHING:
            return False
    if condition.each:
        if type(value) is not list:
            return False
        context.work.add(len(value) * max(1, len(condition.values)))
        return all(_holds_for(condition, v, operands, context.work) for v in value)
    if condition.operator == Operator.SUBSET_OF and type(value) is list:
        context.work.add(len(value) * max(1, len(condition.values)))
    return _holds_for(condition, value, operands, context.work)


def _steps(value: object) -> int:
    """The work of looking through a text once (9.8); none for other values."""
    return len(value.encode("utf-8")) // BYTES_A_STEP if type(value) is str else 0


def _holds_for(condition: Condition, value: object, operands: tuple[object, ...], work: Work) -> bool:
    """Accessor and comparison for one value, counting what they may have to look through."""
    if condition.accessor in (Accessor.HOST, Accessor.SCHEME, Accessor.PORT):
        work.add(_steps(value))
    value = _access(condition.accessor, value)
    if condition.operator == Operator.GLOB:
        work.add(_steps(value) * len(condition.values))
    return _compare(condition.operator, value, operands)
