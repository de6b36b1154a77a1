"""The parser of scope text; docs/token-format.md, section 11, has the grammar.

A :class:`Scanner` is a cursor over the text. It has tokens and offsets, and no knowledge of scopes.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from types import EllipsisType
from typing import NoReturn

from .._fast.codec import base64url
from ..errors import ScopeError
from .parts import (
    ACCESSOR_WORDS,
    BARE,
    EQUALITY,
    IDENT,
    LIST_ONLY,
    NEGATED,
    OPERATOR_WORDS,
    SOURCE_WORDS,
    Accessor,
    Approval,
    Budget,
    Needs,
    Operator,
    Path,
    Segment,
    ValueSource,
    checked_condition,
    checked_scope,
    key_text,
)
from .value import Exact, Json, Number, Operand, operand_to_record, operands_of

_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_INT = re.compile(r"0|[1-9][0-9]{0,19}")
_SPACES = re.compile(r" +")
_DIGEST = re.compile(r"[A-Za-z0-9_-]{43}")
_JSON_PART = re.compile(_STRING.pattern + r'|[\[\]{}]|[^"\[\]{}]+')
# Far longer than any scope the format can hold; reading stays linear, this only keeps messages small.
MAX_TEXT_CHARS = 65_536


class Scanner:
    """Reads tokens from ``text``; ``offset`` is where the next one starts, in characters."""

    def __init__(self, text: str) -> None:
        """Start at the beginning. Raises ScopeError if ``text`` is not a str, or too long to be a scope."""
        if not isinstance(text, str):
            raise ScopeError(f"scope text is a str, not {type(text).__name__}")
        if len(text) > MAX_TEXT_CHARS:
            raise ScopeError(f"scope text has at most {MAX_TEXT_CHARS} characters")
        self.text = text
        self.offset = 0

    def fail(self, expected: str, offset: int = -1) -> NoReturn:
        """Raise ScopeError with the expected and the present text at ``offset`` (-1: here)."""
        start = self.offset if offset < 0 else offset
        present = ascii(self.text[start : start + 12]) if start < len(self.text) else "the end"
        raise ScopeError(f"expected {expected} at character {start}, found {present}", self.text, start)

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Read the text that matches ``pattern`` here, or nothing."""
        found = pattern.match(self.text, self.offset)
        if found is None:
            return None
        self.offset = found.end()
        return found.group()

    def take(self, literal: str) -> bool:
        """Read ``literal`` if it comes next."""
        if not self.text.startswith(literal, self.offset):
            return False
        self.offset += len(literal)
        return True

    def need(self, literal: str, expected: str) -> None:
        """Read ``literal``, or fail with ``expected``."""
        if not self.take(literal):
            self.fail(expected)

    def word(self, word: str) -> bool:
        """Read white space and then ``word``; read nothing unless both come next."""
        start = self.offset
        if self.match(_SPACES) is not None and self.take(word) and not self._in_word():
            return True
        self.offset = start
        return False

    def spaces(self, before: str) -> None:
        """Read one or more spaces, or fail because ``before`` must follow them."""
        if self.match(_SPACES) is None:
            self.fail(f"a space before {before}")

    def skip_spaces(self) -> None:
        """Read spaces, if there are any."""
        self.match(_SPACES)

    def comma(self) -> bool:
        """Read a comma and the spaces after it, if a comma comes next."""
        if not self.take(","):
            return False
        self.skip_spaces()
        return True

    def end(self, expected: str) -> None:
        """Fail unless everything was read."""
        if self.offset < len(self.text):
            self.fail(expected)

    def string(self) -> str | None:
        """Read a JSON string, or nothing."""
        start = self.offset
        if not self.text.startswith('"', start):
            return None
        raw = self.match(_STRING)
        if raw is None:
            self.fail("a JSON string, closed and with escaped control characters")
        value = str(json.loads(raw))
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail("a string without lone surrogates", start)
        return value

    def number(self) -> Number | None:
        """Read a JSON number that is exact in the format, or nothing."""
        start = self.offset
        raw = self.match(_NUMBER)
        if raw is None:
            return None
        try:
            return Number.of(Decimal(raw))
        except (ScopeError, ArithmeticError):
            self.fail("a number within int64 with at most 9 decimal places", start)

    def integer(self, expected: str) -> int:
        """Read a whole number that isn't negative, or fail."""
        raw = self.match(_INT)
        if raw is None:
            self.fail(expected)
        return int(raw)

    def operand(self) -> Operand:
        """Read a string, a number, ``true``, ``false`` or another JSON value, or ``digest("…")``; or fail."""
        text = self.string()
        if text is not None:
            return text
        for word, truth in (("true", True), ("false", False)):
            if self.take(word):
                return truth
        if self.take("null"):
            return Json("null")
        if self.take("digest("):
            return self._digest()
        if self.text.startswith(("[", "{"), self.offset):
            return self._json()
        start = self.offset
        raw = self.match(_NUMBER)
        if raw is None:
            self.fail('a value: "text", a number, true, false, or a JSON value')
        try:
            return Number.of(Decimal(raw))
        except (ScopeError, ArithmeticError):
            pass
        try:
            return Exact(Json.parse(raw.encode()).form)
        except ScopeError:
            self.fail("a number of at most 1,024 digits with an exponent of at most 999,999,999", start)

    def _digest(self) -> Json:
        start = self.offset
        text = self.string() or ""
        digest = base64url.decode(text) if _DIGEST.fullmatch(text) else b""
        if not digest or base64url.encode(digest) != text:
            self.fail("a digest: 32 bytes in base64url without padding, in quotes", start)
        self.need(")", "')' of digest(")
        return Json("", digest)

    def _json(self) -> Json:
        """Read a list or an object. The kernel checks it; here only its end is found."""
        start, depth = self.offset, 0
        while part := self.match(_JSON_PART):
            depth += (part in "[{") - (part in "]}")
            if not depth:
                break
        else:
            self.fail("a JSON value", start)
        try:
            return Json.parse(self.text[start : self.offset].encode())
        except (ScopeError, UnicodeEncodeError):
            self.fail("a JSON value within the limits of arguments", start)

    def _in_word(self) -> bool:
        following = self.text[self.offset : self.offset + 1]
        return following.isalnum() or following in ("_", "-")


_ACTION = re.compile(r"[A-Za-z0-9_.-]+|\*")
_FACT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYMBOL = re.compile(r"[=!<>]=|[<>]")
_RELATION = re.compile(r"not +(?:in|starts_with|glob|under|cidr)(?![A-Za-z0-9_-])|[a-z_]+(?![A-Za-z0-9_-])")
_FACT_OPERATORS = (
    *(Operator.EQUAL, Operator.NOT_EQUAL),
    *(Operator.STARTS_WITH, Operator.UNDER, Operator.NOT_STARTS_WITH, Operator.NOT_UNDER),
    *(Operator.LESS, Operator.LESS_EQUAL, Operator.GREATER, Operator.GREATER_EQUAL),
)
_LISTS = (*LIST_ONLY, Operator.STARTS_WITH, Operator.UNDER, Operator.GLOB, Operator.CIDR, *NEGATED)


def parse_scope(text: str) -> bytes:
    """Return the canonical bytes of message ``Scope`` for one scope.

    Raises ScopeError if it can't be read, with the offset, or is against the format.
    """
    scanner = Scanner(text)
    exception = scanner.take("except ")
    if exception:
        scanner.skip_spaces()
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
        "resource": resource,
        "where": conditions,
        "free": free,
        "free_all": free_all,
        "needs": needs,
        "exception": exception,
    }
    try:
        return checked_scope(record)
    except ScopeError as error:
        raise ScopeError(str(error), text) from None


def parse_condition(text: str) -> dict[str, object]:
    """Return the wire dict of message ``Condition`` for one condition.

    Raises ScopeError if it can't be read, with the offset, or is against the format.
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
    quantifier = next((word for word in ("each", "any") if scanner.take(f"{word}(")), "")
    accessor, path, optional = _term(scanner)
    if quantifier:
        scanner.need(")", f"')' of {quantifier}(")
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
        "each": quantifier == "each",
        "optional": optional,
        "any": quantifier == "any",
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
    word = " ".join(raw.split())
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
