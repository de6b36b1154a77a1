"""A parser of scope text into wire dicts; the grammar is in ``docs/token-format.md``, 11."""

from __future__ import annotations

import re
from types import EllipsisType

from .._fast.codec import base64url
from ..errors import ScopeError
from .argument_path import IDENT, SOURCE_WORDS, Path, ValueSource
from .form import checked_condition, checked_scope
from .needs import Approval, Budget, Needs, key_text
from .operand import Operand, operand_to_record, operands_of
from .operators import ACCESSOR_WORDS, EQUALITY, LIST_ONLY, OPERATOR_WORDS, Accessor, Operator
from .scanner import Scanner
from .segment import BARE, Segment

_ACTION = re.compile(r"[A-Za-z0-9_.-]+|\*")
_FACT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYMBOL = re.compile(r"[=!<>]=|[<>]")
_RELATION = re.compile(r"not +in(?![A-Za-z0-9_-])|[a-z_]+(?![A-Za-z0-9_-])")
_FACT_OPERATORS = (
    *(Operator.EQUAL, Operator.NOT_EQUAL, Operator.STARTS_WITH, Operator.UNDER),
    *(Operator.LESS, Operator.LESS_EQUAL, Operator.GREATER, Operator.GREATER_EQUAL),
)
_LISTS = (*LIST_ONLY, Operator.STARTS_WITH, Operator.UNDER, Operator.GLOB, Operator.CIDR)


def parse_scope(text: str) -> dict[str, object]:
    """Return the wire dict of message ``Scope`` for one scope.

    Raises:
        ScopeError: if it can't be read, with the offset, or is against the format.
    """
    scanner = Scanner(text)
    actions = _actions(scanner)
    scanner.need(":", "',' or ':' after the action")
    resource = [_segment(scanner)]
    while scanner.take("/"):
        resource.append(_segment(scanner))
    expected = "'/' or ' where ', ' free ', ' needs ' or the end"
    conditions: list[dict[str, object]] = []
    free: list[Path] = []
    free_all = False
    needs: Needs | None = None
    closed = False
    if scanner.word("where"):
        closed = _is_no_arguments(scanner)
        conditions.append(_no_arguments() if closed else _next_condition(scanner))
        while not closed and scanner.word("and"):
            conditions.append(_next_condition(scanner))
        expected = "' needs ' or the end" if closed else "' and ', ' free ', ' needs ' or the end"
    if not closed and scanner.word("free"):
        scanner.spaces("'*' or an argument")
        free_all = scanner.take("*")
        if not free_all:
            free.append(_path(scanner))
            while scanner.comma():
                free.append(_path(scanner))
        expected = "' needs ' or the end" if free_all else "',', ' needs ' or the end"
    if scanner.word("needs"):
        scanner.spaces("a need")
        needs = _needs(scanner)
        expected = "',' or the end"
    scanner.end(expected)
    record: dict[str, object] = {
        "actions": actions,
        "resource": [segment.to_record() for segment in resource],
        "where": conditions,
        "free": [path.to_record() for path in free],
        "free_all": free_all,
        "needs": None if needs is None else needs.to_record(),
    }
    try:
        checked_scope(record)
    except ScopeError as error:
        raise ScopeError(str(error), text) from None
    return record


def parse_condition(text: str) -> dict[str, object]:
    """Return the wire dict of message ``Condition`` for one condition.

    Raises:
        ScopeError: if it can't be read, with the offset, or is against the format.
    """
    scanner = Scanner(text)
    condition = _condition(scanner)
    scanner.end("the end")
    return condition


def _actions(scanner: Scanner) -> list[str]:
    actions: list[str] = []
    while not actions or scanner.take(","):
        action = scanner.match(_ACTION)
        if action is None:
            scanner.fail("an action: letters, digits, '_', '.', '-', or '*'")
        actions.append(action)
    return actions


def _segment(scanner: Scanner) -> Segment:
    if scanner.take("**"):
        return Segment.rest()
    if scanner.take("*"):
        return Segment.any()
    if scanner.take("{"):
        texts = [_literal(scanner)]
        while scanner.take(","):
            texts.append(_literal(scanner))
        scanner.need("}", "',' or '}'")
        return Segment.one_of(*texts)
    text = _literal(scanner)
    return Segment.prefix(text) if scanner.take("*") else Segment.literal(text)


def _literal(scanner: Scanner) -> str:
    text = scanner.string()
    if text is None:
        text = scanner.match(BARE)
    if text is None:
        scanner.fail("a resource segment: a name, *, name*, {a,b} or a final **")
    return text


def _is_no_arguments(scanner: Scanner) -> bool:
    """Read ``no arguments``, or nothing: ``no`` may be an argument's name."""
    start = scanner.offset
    if scanner.word("no") and scanner.word("arguments"):
        return True
    scanner.offset = start
    return False


def _no_arguments() -> dict[str, object]:
    """Return the condition that alone permits no arguments: any argument is left over, or is ``_``."""
    return {"path": Path.args("_").to_record(), "operator": int(Operator.ABSENT)}


def _next_condition(scanner: Scanner) -> dict[str, object]:
    scanner.spaces("a condition")
    return _condition(scanner)


def _condition(scanner: Scanner) -> dict[str, object]:
    start = scanner.offset
    each = scanner.take("each(")
    accessor, path, optional = _term(scanner)
    if each:
        scanner.need(")", "')' of each(")
    scanner.spaces("an operator")
    operator = _operator(scanner)
    values: tuple[Operand, ...] = ()
    fact = ""
    if operator not in (Operator.PRESENT, Operator.ABSENT):
        scanner.spaces("an operand")
        values, fact = _operand(scanner, operator)
    record: dict[str, object] = {
        "path": path.to_record(),
        "operator": int(operator),
        "values": [operand_to_record(value) for value in values],
        "fact": fact,
        "accessor": int(accessor),
        "each": each,
        "optional": optional,
    }
    try:
        checked_condition(record)
    except ScopeError as error:
        raise ScopeError(f"{error} (at character {start})", scanner.text, start) from None
    return record


def _term(scanner: Scanner) -> tuple[Accessor, Path, bool]:
    for word, accessor in ACCESSOR_WORDS.items():
        if scanner.take(f"{word}("):
            path, optional = _path(scanner), scanner.take("?")
            scanner.need(")", f"')' of {word}(")
            return accessor, path, optional
    return Accessor.NONE, _path(scanner), scanner.take("?")


def _path(scanner: Scanner) -> Path:
    source = ValueSource.ARGS
    # Only a bare word names a source: the argument "session" stays reachable in quotes.
    first = scanner.match(IDENT)
    if first in SOURCE_WORDS and scanner.take("."):
        source, first = SOURCE_WORDS[first], None
    parts: list[str | EllipsisType] = [_name(scanner) if first is None else first]
    while True:
        if source == ValueSource.ARGS and scanner.take("[]"):
            parts.append(...)
        elif scanner.take("."):
            parts.append(_name(scanner))
        elif source == ValueSource.ARGS:
            return Path.elements(*parts)
        else:
            return Path(tuple(part for part in parts if isinstance(part, str)), source)


def _name(scanner: Scanner) -> str:
    name = scanner.string()
    if name is None:
        name = scanner.match(IDENT)
    if name is None:
        scanner.fail('the name of an argument, or "a name" in quotes')
    return name


def _operator(scanner: Scanner) -> Operator:
    start = scanner.offset
    raw = scanner.match(_SYMBOL) or scanner.match(_RELATION) or ""
    word = "not in" if raw.startswith("not ") else raw
    if word not in OPERATOR_WORDS:
        scanner.fail(f"an operator: one of {', '.join(OPERATOR_WORDS)}", start)
    return OPERATOR_WORDS[word]


def _operand(scanner: Scanner, operator: Operator) -> tuple[tuple[Operand, ...], str]:
    if operator in _FACT_OPERATORS and scanner.take("session."):
        fact = scanner.match(_FACT)
        if fact is None:
            scanner.fail("the name of a session fact")
        return (), fact
    equality = operator in EQUALITY
    if operator not in _LISTS:
        return operands_of([scanner.operand()], equality=equality), ""
    if not scanner.take("["):
        if operator in LIST_ONLY:
            scanner.fail("'[' of a list")
        return operands_of([scanner.operand()], equality=equality), ""
    values = [scanner.operand()]
    while scanner.comma():
        values.append(scanner.operand())
    scanner.need("]", "',' or ']'")
    return operands_of(values, equality=equality), ""


def _needs(scanner: Scanner) -> Needs:
    approval: Approval | None = None
    uses = 0
    budget: Budget | None = None
    while True:
        if approval is None and scanner.take("approval("):
            approval = _approval(scanner)
        elif not uses and scanner.take("uses("):
            uses = scanner.integer("a number of uses, 1 or more")
            if not uses:
                scanner.fail("a number of uses, 1 or more", scanner.offset - 1)
        elif budget is None and scanner.take("budget("):
            budget = _budget(scanner)
        else:
            scanner.fail("uses(…), approval(…) or budget(…), each at most once")
        scanner.need(")", "')'")
        if not scanner.comma():
            return Needs(approval, uses, budget)


def _approval(scanner: Scanner) -> Approval:
    threshold = scanner.integer("how many keys must approve")
    keys: list[bytes] = []
    while scanner.comma():
        start = scanner.offset
        text = scanner.string() or ""
        key = base64url.decode(text) if re.fullmatch(r"[A-Za-z0-9_-]{43}", text) else b""
        if key_text(key) != text or not key:
            scanner.fail("a public key: 32 bytes in base64url without padding, in quotes", start)
        keys.append(key)
    return Approval(threshold, tuple(keys))


def _budget(scanner: Scanner) -> Budget:
    name = scanner.string()
    if name is None:
        scanner.fail("the name of a budget, in quotes")
    _comma(scanner)
    limit = scanner.number()
    if limit is None:
        scanner.fail("the limit of the budget")
    _comma(scanner)
    start = scanner.offset
    # A quoted text is a unit if a comma follows; else it is the first name of the path.
    unit = scanner.string()
    if unit is None or not scanner.comma():
        unit, scanner.offset = "", start
    return Budget(name=name, limit=limit, amount=_path(scanner), unit=unit)


def _comma(scanner: Scanner) -> None:
    if not scanner.comma():
        scanner.fail("','")
