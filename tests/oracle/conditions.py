"""Evaluation of conditions (sections 6.2 to 6.9 of the format)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from .addresses import in_cidr, mail_domain, parse_ip, parse_url
from .canonical import NoForm, form, form_digest
from .constants import ACCESSORS, OPERATORS, SOURCES, Accessor, Operator, Source
from .model import BILLION, NO_VALUE, NOTHING, Condition, JsonOperand, Number, Path, Scalar
from .texts import glob_matches, is_clean_path, is_under

MAX_WORK = 262_144
MAX_BYTES = 1_048_576
BYTES_A_STEP = 16
WALKED_BYTES_A_STEP = 8
VALUES_A_STEP = 2
PART_STEPS = 4
CIDR_STEPS = 8
DECIMAL_STEPS = 4
FORM_STEPS = 3
DIGEST_STEPS = 16
HASHED = 4


class OutOfWork(Exception):
    """The work counter passed its limit."""


@dataclass(slots=True)
class Work:
    """The counter of 9.8: one for each check, of arguments of so many bytes."""

    done: int = 0

    @classmethod
    def of(cls, argument_bytes: int) -> Work:
        """The counter at its start."""
        return cls(3 * ((MAX_BYTES - argument_bytes) // BYTES_A_STEP))

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
    values: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.values = (_values(self.arguments), _values(self.tool))

    def fact(self, name: str) -> object:
        """The value of a fact, or NOTHING."""
        value, visible = self.facts.get(name, (NOTHING, True))
        return value if visible or not self.only_visible else NOTHING

    def find(self, path: Path) -> object:
        """Walk a path without elements (6.3): a value, or NOTHING."""
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


def _type(value: object) -> type:
    return int if type(value) is Decimal else type(value)


def _same_type(a: object, b: object) -> bool:
    """Return True for two texts, two numbers or two truths: ``bool`` and ``int`` differ."""
    return _type(a) is _type(b) and _type(a) in (str, int, bool)


def _equal(a: object, b: object) -> bool:
    return _same_type(a, b) and a == b


def _ordered(compare: Callable[[bytes | Number, bytes | Number], bool]) -> Callable[[object, object], bool]:
    def holds(a: object, b: object) -> bool:
        # Python compares a Decimal and an int exactly.
        if type(a) in (int, Decimal) and type(b) in (int, Decimal):
            return compare(a, b)  # type: ignore[arg-type]
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
    Operator.SUBSET_OF: _equal,
    Operator.LESS: _ordered(lambda a, b: a < b),  # type: ignore[operator]
    Operator.LESS_EQUAL: _ordered(lambda a, b: a <= b),  # type: ignore[operator]
    Operator.GREATER: _ordered(lambda a, b: a > b),  # type: ignore[operator]
    Operator.GREATER_EQUAL: _ordered(lambda a, b: a >= b),  # type: ignore[operator]
    Operator.STARTS_WITH: _texts(str.startswith),
    Operator.GLOB: _texts(lambda text, pattern: glob_matches(pattern, text)),
    Operator.UNDER: _texts(is_under),
    Operator.CIDR: _texts(_in_cidr),
}


_NEGATED: dict[int, int] = {
    Operator.NOT_STARTS_WITH: Operator.STARTS_WITH,
    Operator.NOT_GLOB: Operator.GLOB,
    Operator.NOT_UNDER: Operator.UNDER,
    Operator.NOT_CIDR: Operator.CIDR,
}
# Of what an exclusion can be said; other texts fail it.
_EXCLUDABLE: dict[int, Callable[[str], bool]] = {
    Operator.NOT_STARTS_WITH: lambda text: True,
    Operator.NOT_GLOB: lambda text: not {".", ".."} & set(text.split("/")),
    Operator.NOT_UNDER: is_clean_path,
    Operator.NOT_CIDR: lambda text: parse_ip(text) is not None,
}


def _compare(operator: int, value: object, operands: tuple[object, ...]) -> bool:
    if operator == Operator.NOT_IN:
        return all(_same_type(value, w) and value != w for w in operands)
    if operator in _NEGATED:
        if type(value) is not str or not _EXCLUDABLE[operator](value):
            return False
        if not all(type(w) is str for w in operands):
            return False
        if operator == Operator.NOT_UNDER and not all(is_clean_path(str(w)) for w in operands):
            return False
        return not any(_SOME[_NEGATED[operator]](value, w) for w in operands)
    return any(_SOME[operator](value, w) for w in operands)


def _access(accessor: int, value: object) -> object:
    """Section 6.4: what the accessor gives, or NOTHING."""
    if accessor == Accessor.NONE:
        return value
    if accessor == Accessor.COUNT:
        return len(value) * BILLION if type(value) is list else NOTHING
    if type(value) is not str:
        return NOTHING
    if accessor == Accessor.LENGTH:
        return len(value) * BILLION
    if accessor == Accessor.DOMAIN:
        domain = mail_domain(value)
        return NOTHING if domain is None else domain
    url = parse_url(value)
    if url is None:
        return NOTHING
    if accessor == Accessor.PATH:
        path = url.path or "/"
        return path if is_clean_path(path) and not {"%", ";"} & set(path) else NOTHING
    if accessor == Accessor.HOST:
        return url.host
    if accessor == Accessor.SCHEME:
        return url.scheme
    return NOTHING if url.port is None else url.port * BILLION


_OPPOSITES: dict[int, int] = {
    **{Operator.EQUAL: Operator.NOT_EQUAL, Operator.IN: Operator.NOT_IN},
    **{Operator.LESS: Operator.GREATER_EQUAL, Operator.LESS_EQUAL: Operator.GREATER},
    **{plain: negated for negated, plain in _NEGATED.items()},
    Operator.PRESENT: Operator.ABSENT,
}
_OPPOSITES |= {opposite: plain for plain, opposite in _OPPOSITES.items()}


def is_refuted(condition: Condition, context: Context) -> bool:
    """Section 5.1: whether the call is known to fail the condition of an exception. Raises OutOfWork."""
    if is_unknown(condition):
        return False
    of_places = condition.path.source == Source.ELEMENTS
    of_list = condition.operator == Operator.SUBSET_OF
    opposite = replace(
        condition,
        operator=Operator.NOT_IN if of_list else _OPPOSITES[condition.operator],
        each=condition.any and not of_places,
        any=not condition.any and (condition.each or of_places or of_list),
        optional=not condition.optional and condition.operator not in (Operator.PRESENT, Operator.ABSENT),
    )
    return holds(opposite, context)


def holds(condition: Condition, context: Context, place: list[int] | None = None) -> bool:
    """Evaluate the condition (6.2). False for an unknown kind. Raises OutOfWork.

    ``place`` takes the indices of the elements at which a condition of ELEMENTS failed.
    """
    if is_unknown(condition):
        return False
    if condition.path.source != Source.SESSION:
        context.work.add(context.values[condition.path.source == Source.TOOL] // VALUES_A_STEP)
    if condition.path.source != Source.ELEMENTS:
        return _holds_at(condition, context.find(condition.path), context)
    return _at(condition, context.arguments, condition.path.segments, context, [] if place is None else place)


def _at(
    condition: Condition, value: object, segments: tuple[str, ...], context: Context, place: list[int]
) -> bool:
    if not segments:
        return _holds_at(condition, value, context)
    first, rest = segments[0], segments[1:]
    if first != "[]":
        found = value.get(first[1:], NOTHING) if type(value) is dict else NOTHING
        if found is NOTHING:
            return _holds_at(condition, NOTHING, context)
        return _at(condition, found, rest, context, place)
    if type(value) is not list:
        return False
    if not value:
        return _holds_at(condition, NOTHING, context)
    context.work.add(len(value) * max(1, len(condition.values)))
    for index, element in enumerate(value):
        place.append(index)
        if _at(condition, element, rest, context, place) is condition.any:
            return condition.any
        place.pop()
    return not condition.any


def _holds_at(condition: Condition, value: object, context: Context) -> bool:
    """Steps 2 to 6 for the value that was found, or NOTHING."""
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
    if condition.each or (condition.any and condition.path.source != Source.ELEMENTS):
        if type(value) is not list:
            return False
        context.work.add(len(value) * max(1, len(condition.values)))
        found = (_holds_for(condition, v, operands, context.work) for v in value)
        return any(found) if condition.any else all(found)
    if condition.operator == Operator.SUBSET_OF:
        if type(value) is not list:
            return False
        context.work.add(len(value) * max(1, len(condition.values)))
        return all(_holds_for(condition, v, operands, context.work) for v in value)
    return _holds_for(condition, value, operands, context.work)


def _json_holds(operator: int, value: object, operands: tuple[object, ...], work: Work) -> bool:
    """Section 6.6 with JSON operands."""
    weight = HASHED if any(isinstance(w, JsonOperand) and not w.form for w in operands) else 1
    work.add(DIGEST_STEPS if weight > 1 else 0)
    try:
        ours = form(value, lambda steps, of_bytes: work.add(FORM_STEPS * steps + weight * of_bytes))
    except NoForm:
        return False
    same = any(
        isinstance(w, JsonOperand) and (w.form == ours if w.form else w.digest == form_digest(ours))
        for w in operands
    )
    return same if operator in (Operator.EQUAL, Operator.IN, Operator.SUBSET_OF) else not same


def _steps(value: object) -> int:
    """The work of looking through a text once (9.8); none for other values."""
    return len(value.encode("utf-8")) // BYTES_A_STEP if type(value) is str else 0


def _values(value: object) -> int:
    """The values of a document, as section 8 counts them."""
    inside: list[object] = []
    if type(value) is dict:
        inside = list(value.values())
    elif type(value) is list:
        inside = value
    return 1 + sum(map(_values, inside))


def _holds_for(condition: Condition, value: object, operands: tuple[object, ...], work: Work) -> bool:
    """Accessor and comparison for one value, counting what they may have to look through."""
    if type(operands[0]) is JsonOperand:
        return _json_holds(condition.operator, value, operands, work)
    if condition.accessor not in (Accessor.NONE, Accessor.COUNT) and type(value) is str:
        work.add(PART_STEPS + _steps(value))
    value = _access(condition.accessor, value)
    if value is NOTHING:
        return False
    if type(value) is not str:
        if Decimal in (type(value), type(operands[0])):
            work.add(DECIMAL_STEPS)
    elif _NEGATED.get(condition.operator, condition.operator) in (Operator.GLOB, Operator.UNDER):
        walked = 1 + len(value.encode("utf-8")) // WALKED_BYTES_A_STEP
        work.add(walked * max(1, len(condition.values)))
    elif condition.operator in (Operator.CIDR, Operator.NOT_CIDR):
        work.add(CIDR_STEPS * len(condition.values))
    return _compare(condition.operator, value, operands)
