"""Values in scopes: scalars, which are also the values of session facts, and the operands of conditions.

A scalar is a text (``str``), a truth (``bool``) or a :class:`Number`. Numbers have a class of their own
because in Python ``True == 1``, and in a scope they are never equal. An operand is a scalar, a number of any
size, or JSON: a list, an object, ``null`` and a long text are compared as JSON (``docs/token-format.md``,
7.1). A condition holds the value itself, or its digest where that is longer than 1024 bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self, cast

from .. import limits
from .._fast import _check as kernel
from .._fast.codec import base64url
from .._fast.codec.errors import FormError
from .._fast.codec.record import Record
from ..errors import ScopeError

NANOS = 10**9
_INT64 = 2**63
# The characters that a printed string escapes beside " and \ (docs/token-format.md, section 11). They are
# listed since Python's own tables change with its version of Unicode.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u3000\ud800-\uf8ff\ufeff\ufff0-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff]"
)


@dataclass(frozen=True, slots=True, order=True)
class Number(Record):
    """An exact number: ``units + nanos / 10^9``, with ``units`` rounded towards minus infinity.

    Raises ScopeError if either is out of range.

    Args:
        units: the floor of the number, an int64.
        nanos: 0 to 999,999,999.
    """

    units: int = 0
    nanos: int = 0

    def __post_init__(self) -> None:
        """Hold the ranges of the format."""
        if not (-_INT64 <= self.units < _INT64 and 0 <= self.nanos < NANOS):
            raise ScopeError("a number has a floor within int64 and at most 9 decimal places")

    @classmethod
    def of(cls, value: int | Decimal) -> Number:
        """Return the number equal to ``value``.

        Raises ScopeError if it needs more than 9 decimal places or more than int64, or is not finite.
        """
        exact = Decimal(value)
        # The exponent is checked before anything is scaled, so that 1e999999999 costs nothing.
        if not exact.is_finite() or (exact and not -10 <= exact.adjusted() <= 19):
            raise ScopeError(f"{value} is no number of the format: int64 with at most 9 decimal places")
        scaled = _scaled(exact)
        if scaled is None:
            raise ScopeError(f"{value} has more than 9 decimal places")
        return cls(scaled // NANOS, scaled % NANOS)

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Self:
        """Read the dict of message Number; a part that is missing is 0. Raises ScopeError out of range."""
        return cls(**(record or {}))

    def to_decimal(self) -> Decimal:
        """Return it as an exact decimal."""
        return Decimal(str(self))

    def __str__(self) -> str:
        """Return the shortest plain decimal form, such as ``-0.5``."""
        total = self.units * NANOS + self.nanos
        sign, (whole, rest) = "-" if total < 0 else "", divmod(abs(total), NANOS)
        return f"{sign}{whole}" + (f".{rest:09d}".rstrip("0") if rest else "")


def _scaled(exact: Decimal) -> int | None:
    """Return ``exact`` in units of 10^-9, or None if it is not a whole number of them."""
    sign, digits, exponent = exact.as_tuple()
    significant = "".join(map(str, digits)).rstrip("0")
    shift = cast(int, exponent) + len(digits) - len(significant) + 9
    if not significant:
        return 0
    if shift < 0:
        return None
    magnitude: int = int(significant) * 10**shift
    return -magnitude if sign else magnitude


Value = str | bool | Number
"""A value of the format."""

Plain = str | bool | int | Decimal | Number
"""A value that callers may pass for a :data:`Value`."""


def value_of(value: Plain) -> Value:
    """Return the JSON value represented by ``value``.

    Raises ScopeError for anything that is not a text, a truth or an exact number. A ``float`` is not exact:
    pass a ``decimal.Decimal``.
    """
    if isinstance(value, str | bool | Number):
        return value
    if isinstance(value, int | Decimal):
        return Number.of(value)
    hint = ": a float is not exact, pass a decimal.Decimal" if isinstance(value, float) else ""
    raise ScopeError(f"a value is a text, a truth or a number, not {type(value).__name__}{hint}")


def value_to_record(value: Plain) -> dict[str, object]:
    """Return the wire dict of message ``Value``. Raises ScopeError as :func:`value_of`."""
    exact = value_of(value)
    if isinstance(exact, str):
        return {"text": exact}
    if isinstance(exact, bool):
        return {"truth": exact}
    return {"number": exact.to_record()}


def value_from_record(record: Mapping[str, Any]) -> Value:
    """Return the value of a wire dict of message ``Value``. Raises ScopeError if no member is set."""
    if record.get("text") is not None:
        return cast(str, record["text"])
    if record.get("truth") is not None:
        return cast(bool, record["truth"])
    number = record.get("number")
    if number is None:
        raise ScopeError("a value without a member")
    return Number.from_record(number)


def value_to_text(value: Value) -> str:
    """Return the value as scope text writes it: a JSON string, ``true``, ``false`` or a number."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def quoted(text: str) -> str:
    """Return ``text`` as a JSON string in which everything that does not show is escaped.

    So a printed text can't reorder, hide or erase its surroundings in a terminal.
    """
    if shows(text):
        return json.dumps(text, ensure_ascii=False)
    return "".join(['"', *(c if shows(c) and c not in '"\\' else escaped(c) for c in text), '"'])


def shows(text: str) -> bool:
    """Return True if no character of ``text`` is escaped for its effect on its surroundings."""
    return _HIDDEN.search(text) is None


def escaped(char: str) -> str:
    """Return the JSON escape of a character, also of a space and of U+007F, which JSON shows as they are."""
    return f"\\u{ord(char):04x}" if char in " \x7f" else json.dumps(char)[1:-1]


@dataclass(frozen=True, slots=True)
class Exact:
    """A number that :class:`Number` can't hold, in its canonical form: ``48.858370148123``, ``1e+300``."""

    text: str

    @classmethod
    def of(cls, value: int | Decimal) -> Self:
        """Return the number equal to ``value``.

        Raises ScopeError if it is not finite, or beyond 1,024 digits or an exponent of 999,999,999.
        """
        text = str(value) if isinstance(value, int) or value.is_finite() else ""
        return cls(_form(text.encode())[0].decode())

    def to_decimal(self) -> Decimal:
        """Return it as an exact decimal."""
        return Decimal(self.text)

    def __str__(self) -> str:
        """Return the canonical form."""
        return self.text


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON value, as its equality form or, with an empty ``form``, as the digest of that.

    Raises ScopeError from :meth:`of` and :meth:`parse` for anything but a JSON value.
    """

    form: str = ""
    digest: bytes = b""

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return a value of Python's types for JSON; a ``float`` as arguments have it (8.2)."""
        try:
            return cls.parse(kernel.encode_arguments({"v": value})[5:-1])
        except FormError as error:
            raise ScopeError(f"a JSON value: {error}") from None

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return the value of a JSON text."""
        form, digest = _form(text)
        return cls(form.decode()) if form else cls("", digest)

    def to_json(self) -> Any:
        """Return the value, with numbers as ``Decimal``; None for a digest and for ``null``."""
        return json.loads(self.form, parse_int=Decimal, parse_float=Decimal) if self.form else None

    def shortened(self, most: int) -> Json:
        """Return the digest in place of a form of more than ``most`` bytes."""
        return self if len(self.form.encode()) <= most else Json("", _form(self.form.encode())[1])

    def __str__(self) -> str:
        """Return the scope text, in which everything that does not show is escaped."""
        if not self.form:
            return f'digest("{base64url.encode(self.digest)}")'
        return self.form if shows(self.form) else "".join(c if shows(c) else escaped(c) for c in self.form)


Operand = Value | Exact | Json
"""An operand of a condition."""

OperandLike = Plain | Exact | Json | None | Sequence[Any] | Mapping[str, Any]
"""A value that callers may pass for an :data:`Operand`: a list, a mapping and None are JSON values."""


def _form(text: bytes) -> tuple[bytes, bytes]:
    try:
        form, digest = kernel.json_form(text)
    except FormError as error:
        raise ScopeError(f"{text[:40].decode(errors='replace')!a}: {error}") from None
    return form or b"", digest


def operands_of(values: Sequence[OperandLike], *, equality: bool) -> tuple[Operand, ...]:
    """Return operands of one condition.

    Raises ScopeError for anything but an operand.

    Args:
        values: of Python's types, or operands.
        equality: the operator compares for equality. Then a text of more than 1024 bytes is a JSON value. All
            values are if one is, or if they are of several types.
    """
    operands = [_operand(value, equality) for value in values]
    kinds = {_kind(operand) for operand in operands}
    if equality and (len(kinds) > 1 or Json in kinds):
        operands = [_as_json(operand) for operand in operands]
    return tuple(operands)


def _kind(operand: Operand) -> type:
    return Number if isinstance(operand, Exact) else type(operand)


def _operand(value: OperandLike, equality: bool) -> Operand:
    if isinstance(value, Exact | Json):
        return value
    if value is None or isinstance(value, Mapping | list | tuple):
        return Json.of(value)
    if isinstance(value, str) and equality and len(value.encode(errors="replace")) > limits.MAX_STRING_BYTES:
        return Json.of(value)
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        try:
            return Number.of(value)
        except ScopeError:
            return Exact.of(value)
    return value_of(value)  # type: ignore[arg-type]


def _as_json(operand: Operand) -> Json:
    if isinstance(operand, Json):
        return operand
    return Json.of(operand) if isinstance(operand, str | bool) else Json.parse(str(operand).encode())


def operand_to_record(operand: Operand) -> dict[str, object]:
    """Return the wire dict of message ``Value``."""
    if isinstance(operand, Exact):
        return {"decimal": operand.text}
    if isinstance(operand, Json):
        return {"json": operand.form} if operand.form else {"digest": operand.digest}
    return value_to_record(operand)


def operand_from_record(record: Mapping[str, Any]) -> Operand:
    """Return the operand of a wire dict of message ``Value``. Raises ScopeError if no member is set."""
    if record.get("decimal") is not None:
        return Exact(record["decimal"])
    if record.get("json") is not None:
        return Json(record["json"])
    if record.get("digest") is not None:
        return Json("", record["digest"])
    return value_from_record(record)


def operand_to_text(operand: Operand) -> str:
    """Return the operand as scope text writes it."""
    return str(operand) if isinstance(operand, Exact | Json) else value_to_text(operand)
