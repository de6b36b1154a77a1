"""The JSON of requests: taken apart as it was written, and put into the canonical form that adapters check.

Parts are cut out without reading their values, so that numbers and texts stay as they were written. The
functions for that take JSON that was parsed once already, and whose members have different names.

The canonical form has numbers as values. A holder proves the bytes that its library wrote, and a guard checks
the values that its framework parsed; both write 5.0 as 5. A gateway has only the text. So ``of_values``
writes a number as a double if a double has exactly that value; a number with more digits keeps them all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from math import isfinite
from typing import Final

from ..errors import UsageError
from ..scopes.call_arguments import canonical, encode

# The token is not checked yet: a stranger may have sent the numbers.
MAX_FRACTIONS: Final = 1_000
# Text that may be a number with a fraction or an exponent; in a string it costs time only.
_FRACTION: Final = re.compile(rb"[0-9][.eE]")


def of_values(canonical: bytes, without: Collection[str] = ()) -> bytes:
    """Return a canonical form with its numbers written as values, but for the members ``without``.

    With more than ``MAX_FRACTIONS`` fractions it is returned as it is.
    """
    named = any(b'"%s":' % name.encode() in canonical for name in without)
    if not named and not _FRACTION.search(canonical):
        return canonical
    if len(_FRACTION.findall(canonical)) > MAX_FRACTIONS:
        return canonical
    try:
        values = json.loads(canonical, parse_float=_number)
        return encode({name: value for name, value in values.items() if name not in without})
    except (ValueError, ArithmeticError, UsageError):
        # More digits than Python reads. The arguments are then checked as they are.
        return canonical


def _number(text: str) -> float | Decimal:
    exact, double = Decimal(text), float(text)
    return double if isfinite(double) and Decimal(repr(double)) == exact else exact


# Only the ends of values matter here. A number may be longer than Python's limit for its own.
_DECODER: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def strict_object(body: bytes) -> str:
    """Return a JSON object in its canonical form.

    Raises:
        UsageError: for any other text, a repeated name, and anything beyond the limits of a request.
    """
    if not body.strip():
        raise UsageError("body: is empty")
    return canonical(body).decode()


def members(text: str) -> dict[str, str]:
    """Return the members of an object, each value as its own text. Raises UsageError for another value."""
    at = _skip(text, 0)
    if text[at] != "{":
        raise UsageError("is no object")
    found: dict[str, str] = {}
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        # After the colon.
        found[name], at = _value(text, _skip(text, at) + 1)
    return found


def elements(text: str) -> list[str]:
    """Return the elements of an array, each as its own text. Raises UsageError for another value."""
    at = _skip(text, 0)
    if text[at] != "[":
        raise UsageError("is no list")
    found: list[str] = []
    at = _skip(text, at + 1)
    while text[at] != "]":
        element, at = _value(text, at)
        found.append(element)
    return found


def string(text: str) -> str:
    """Return a string. Raises UsageError for another value."""
    if text[:1] != '"':
        raise UsageError("is no string")
    value: str = json.loads(text)
    return value


def object_text(values: Mapping[str, str]) -> str:
    """Return an object of members whose values are JSON texts."""
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in values.items()) + "}"


def array_text(values: Iterable[str]) -> str:
    """Return an array of elements that are JSON texts."""
    return f"[{','.join(values)}]"


def _value(text: str, start: int) -> tuple[str, int]:
    """Return the value at ``start``, and where the next one begins or the container ends."""
    start = _skip(text, start)
    _, end = _DECODER.raw_decode(text, start)
    at = _skip(text, end)
    return text[start:end], _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at
