"""Form rules of scopes and conditions (sections 5, 6.1 and 7 of the format): decoded dicts to the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from .addresses import parse_cidr
from .canonical import NoForm, canonical_decimal, form
from .constants import ACCESSORS, OPERATORS, SOURCES, Accessor, Kind, Operator, Source
from .json_values import NUMBER, BadJson, number_of, parse_object
from .model import BILLION, Condition, JsonOperand, Needs, Path, Scalar, Scope, Segment
from .texts import (
    fits,
    is_action,
    is_clean_path,
    is_fact_name,
    is_glob,
    is_plain_segment,
    is_prefix_text,
    is_text,
)
from .wire import Malformed

Record = Mapping[str, Any]

_ANY = frozenset((str, int, bool))
_EQUAL = _ANY | {JsonOperand}
_ORDERED = frozenset((str, int))
_TEXT = frozenset((str,))
# operator: (fewest values, most values, fact instead of a value, types)
_OPERANDS: dict[int, tuple[int, int, bool, frozenset[type]]] = {
    Operator.EQUAL: (1, 1, True, _EQUAL),
    Operator.NOT_EQUAL: (1, 1, True, _EQUAL),
    Operator.IN: (1, 64, False, _EQUAL),
    Operator.NOT_IN: (1, 64, False, _EQUAL),
    Operator.LESS: (1, 1, True, _ORDERED),
    Operator.LESS_EQUAL: (1, 1, True, _ORDERED),
    Operator.GREATER: (1, 1, True, _ORDERED),
    Operator.GREATER_EQUAL: (1, 1, True, _ORDERED),
    Operator.STARTS_WITH: (1, 64, True, _TEXT),
    Operator.GLOB: (1, 64, False, _TEXT),
    Operator.UNDER: (1, 64, True, _TEXT),
    Operator.CIDR: (1, 64, False, _TEXT),
    Operator.SUBSET_OF: (1, 64, False, _EQUAL),
    Operator.PRESENT: (0, 0, False, _ANY),
    Operator.ABSENT: (0, 0, False, _ANY),
    Operator.NOT_STARTS_WITH: (1, 64, True, _TEXT),
    Operator.NOT_GLOB: (1, 64, False, _TEXT),
    Operator.NOT_UNDER: (1, 64, True, _TEXT),
    Operator.NOT_CIDR: (1, 64, False, _TEXT),
}
_UNKNOWN_OPERANDS = (0, 64, True, _EQUAL)
_VALUE_FORMS: dict[int, Callable[[str], bool]] = {
    Operator.GLOB: is_glob,
    Operator.UNDER: is_clean_path,
    Operator.CIDR: lambda text: parse_cidr(text) is not None,
}
_VALUE_FORMS |= {
    Operator.NOT_GLOB: _VALUE_FORMS[Operator.GLOB],
    Operator.NOT_UNDER: _VALUE_FORMS[Operator.UNDER],
    Operator.NOT_CIDR: _VALUE_FORMS[Operator.CIDR],
}
_SETS = (Operator.IN, Operator.NOT_IN, Operator.SUBSET_OF)


def require(condition: bool, rule: str) -> None:
    """Raise Malformed, naming the rule, unless the condition holds."""
    if not condition:
        raise Malformed(rule)


def distinct(items: Sequence[object]) -> bool:
    """Return True if no two elements are equal. A truth never equals a number."""
    return len({(type(item), item) for item in items}) == len(items)


def number(record: Record) -> int:
    """A ``Number`` in billionths."""
    require(record["nanos"] < BILLION, "nanos is below 10^9")
    return int(record["units"]) * BILLION + int(record["nanos"])


def _decimal(text: str) -> Decimal:
    require(fits(text, 1), "a decimal has at most 1024 bytes")
    match = NUMBER.fullmatch(text)
    require(match is not None, "a decimal is a number")
    assert match is not None
    exact = number_of(match)
    require(isinstance(exact, Decimal) and canonical_decimal(exact) == text, "a decimal is canonical")
    assert isinstance(exact, Decimal)
    return exact


def _json(text: str) -> JsonOperand:
    require(fits(text, 1), "a JSON value has at most 1024 bytes")
    try:
        members = parse_object(b'{"v":' + text.encode("utf-8") + b"}")
        require(len(members) == 1 and form(members["v"]) == text, "a JSON value is its equality form")
    except (BadJson, NoForm):
        require(False, "a JSON value is its equality form")
    return JsonOperand(text)


def value(record: Record) -> Scalar:
    """A ``Value``."""
    if record["text"] is not None:
        require(fits(record["text"]), "a text value has at most 1024 bytes")
        return str(record["text"])
    if record["number"] is not None:
        return number(record["number"])
    if record["decimal"] is not None:
        return _decimal(record["decimal"])
    if record["json"] is not None:
        return _json(record["json"])
    if record["digest"] is not None:
        require(len(record["digest"]) == 32, "a digest has 32 bytes")
        return JsonOperand("", record["digest"])
    require(record["truth"] is not None, "a value has a member")
    return bool(record["truth"])


def type_of(item: Scalar) -> type:
    """The type of a value, of which a condition has one."""
    return int if type(item) is Decimal else type(item)


def _plain(item: Scalar) -> str:
    """Return ``text``, ``number`` or ``truth`` for a JSON value that has such a member; else empty."""
    if not isinstance(item, JsonOperand) or not item.form or item.form[0] in "[{n":
        return ""
    return {'"': "text", "t": "truth", "f": "truth"}.get(item.form[0], "number")


def path(record: Record) -> Path:
    """A ``Path``."""
    segments = tuple(record["segments"])
    require(record["source"] != 0, "a path has a source")
    require(1 <= len(segments) <= 8, "a path has 1 to 8 segments")
    require(all(fits(s, 1) for s in segments), "a path segment has 1 to 1024 bytes")
    require(record["source"] != Source.SESSION or len(segments) == 1, "a session path has one segment")
    if record["source"] == Source.ELEMENTS:
        require(all(s == "[]" or s[0] == "." for s in segments), "a segment is [] or a name behind a point")
        require("[]" in segments[1:] and segments[0] != "[]", "a path of elements leads to some")
    return Path(record["source"], segments)


def _operands(operator: int, values: tuple[Scalar, ...], fact: str) -> None:
    fewest, most, fact_allowed, types = _OPERANDS.get(operator, _UNKNOWN_OPERANDS)
    require(len({type_of(v) for v in values}) <= 1, "values have one type")
    require(all(type_of(v) in types for v in values), "values have a type of the operator")
    plain = {_plain(v) for v in values}
    require(len(plain) != 1 or plain == {""}, "JSON values are not all texts, all numbers or all truths")
    if fact:
        require(fact_allowed and not values, "a fact stands in place of values")
        require(is_fact_name(fact), "a fact name is an identifier")
    else:
        require(fewest <= len(values) <= most, "the number of values is the operator's")
    if operator in _SETS:
        require(distinct(values), "the values of a set are distinct")
    if operator in _VALUE_FORMS:
        require(all(_VALUE_FORMS[operator](str(v)) for v in values), "values have the operator's form")


def condition(record: Record) -> Condition:
    """A ``Condition``."""
    require(record["path"] is not None, "a condition has a path")
    require(record["operator"] != 0, "a condition has an operator")
    where, operator, accessor = path(record["path"]), record["operator"], record["accessor"]
    values = tuple(value(v) for v in record["values"])
    _operands(operator, values, record["fact"])
    each, optional, some = record["each"], record["optional"], record["any"]
    require(not (each and some), "each and any exclude each other")
    bare = accessor == Accessor.NONE and not each and not some
    if values and type(values[0]) is JsonOperand and operator in OPERATORS:
        require(
            accessor == Accessor.NONE or accessor not in ACCESSORS,
            "JSON values are compared without an accessor",
        )
        require(where.source != Source.SESSION, "JSON values are not compared with facts")
    if operator in (Operator.PRESENT, Operator.ABSENT):
        require(bare and not optional, "present and absent take no accessor, each, any or optional")
    if operator == Operator.SUBSET_OF:
        require(bare, "subset_of takes no accessor, no each and no any")
    return Condition(where, operator, values, record["fact"], accessor, each, optional, some)


def conditions(records: Sequence[Record]) -> tuple[Condition, ...]:
    """The conditions of a scope or a block."""
    require(len(records) <= 16, "at most 16 conditions")
    return tuple(condition(r) for r in records)


def _segment(record: Record, last: bool) -> Segment:
    kind, texts = record["kind"], tuple(record["texts"])
    require(kind != 0, "a segment has a kind")
    if kind == Kind.LITERAL:
        require(len(texts) == 1 and is_plain_segment(texts[0]), "LITERAL has one plain segment")
    elif kind == Kind.PREFIX:
        require(len(texts) == 1 and is_prefix_text(texts[0]), "PREFIX has one text")
    elif kind == Kind.ONE_OF:
        require(2 <= len(texts) <= 32 and distinct(texts), "ONE_OF has 2 to 32 distinct texts")
        require(all(map(is_plain_segment, texts)), "ONE_OF has plain segments")
    elif kind in (Kind.ANY, Kind.REST):
        require(not texts, "ANY and REST have no text")
        require(kind == Kind.ANY or last, "REST is the last segment")
    else:
        require(len(texts) <= 32 and all(map(fits, texts)), "an unknown kind has at most 32 texts")
    return Segment(kind, texts)


def _needs(record: Record) -> Needs:
    approval, budget = record["approval"], record["budget"]
    require(approval is not None or record["uses"] > 0 or budget is not None, "needs are not empty")
    if approval is not None:
        keys = approval["keys"]
        require(1 <= len(keys) <= 16 and distinct(keys), "1 to 16 distinct approval keys")
        require(all(len(key) == 32 for key in keys), "an approval key has 32 bytes")
        require(1 <= approval["threshold"] <= len(keys), "the threshold is met by the keys")
    amount = None
    if budget is not None:
        require(is_text(budget["name"]), "a budget has a name")
        require(budget["unit"] == "" or is_text(budget["unit"]), "a unit is a text")
        require(budget["limit"] is not None and number(budget["limit"]) > 0, "a budget has a positive limit")
        require(budget["amount"] is not None, "a budget has an amount")
        amount = path(budget["amount"])
        require(amount.source == Source.ARGS or amount.source not in SOURCES, "an amount is an argument")
    return Needs(approval is not None, amount)


def scope(record: Record) -> Scope:
    """A ``Scope``."""
    actions, resource = tuple(record["actions"]), record["resource"]
    require(1 <= len(actions) <= 16 and distinct(actions), "1 to 16 distinct actions")
    require(actions == ("*",) or all(map(is_action, actions)), "an action has its alphabet, * stands alone")
    require(1 <= len(resource) <= 32, "1 to 32 resource segments")
    segments = tuple(_segment(s, i == len(resource) - 1) for i, s in enumerate(resource))
    free = tuple(path(p) for p in record["free"])
    require(len(free) <= 64 and distinct(free), "at most 64 distinct free paths")
    require(all(p.source not in (Source.SESSION, Source.TOOL) for p in free), "a free path is an argument")
    require(not (free and record["free_all"]), "free_all excludes free")
    needs = None if record["needs"] is None else _needs(record["needs"])
    exception, where = record["exception"], conditions(record["where"])
    lists = [c for c in where if c.each or c.operator == Operator.SUBSET_OF]
    require(
        not exception or all(c.path.source != Source.ELEMENTS for c in lists),
        "each and subset_of of an exception are not of elements",
    )
    bare = not free and not record["free_all"] and needs is None
    require(bare or not exception, "an exception has no free arguments and no needs")
    return Scope(actions, segments, where, free, record["free_all"], needs, exception)
