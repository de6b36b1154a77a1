"""Operands of conditions: scalar values, numbers of any size, and JSON values.

A list, an object, ``null`` and a long text are compared as JSON (``docs/token-format.md``, 7.1). A condition
holds the value itself, or, where that is longer than 1024 bytes, its digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from .. import limits
from .._fast import _check as kernel
from .._fast.codec import base64url
from .._fast.codec.errors import FormError
from ..errors import ScopeError
from .value import (
    Number,
    Plain,
    Value,
    escaped,
    shows,
    value_from_record,
    value_of,
    value_to_record,
    value_to_text,
)


@dataclass(frozen=True, slots=True)
class Exact:
    """A number that :class:`Number` can't hold, in its canonical form: ``48.858370148123``, ``1e+300``."""

    text: str

    @classmethod
    def of(cls, value: int | Decimal) -> Self:
        """Return the number equal to ``value``.

        Raises:
            ScopeError: if it is not finite, or beyond 1,024 digits or an exponent of 999,999,999.
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

    Raises:
        ScopeError: from :meth:`of` and :meth:`parse` for anything but a JSON value.
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

    Args:
        values: of Python's types, or operands.
        equality: the operator compares for equality. Then a text of more than 1024 bytes is a JSON value. All
            values are if one is, or if they are of several types.

    Raises:
        ScopeError: for anything but an operand.
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
    """Return the operand of a wire dict of message ``Value``.

    Raises:
        ScopeError: if no member is set.
    """
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
