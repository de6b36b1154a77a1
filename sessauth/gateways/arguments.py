"""Arguments in the form that every adapter checks: the canonical form of the values.

A holder proves the bytes that its library wrote, and a guard checks the values that its framework parsed.
Both write values: 5.0 is 5 there. A gateway has the text. So a number is written as a value here, where a
double has exactly that value; one with more digits keeps them all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from decimal import Decimal
from math import isfinite
from typing import Final

from ..errors import UsageError
from ..scopes.call_arguments import encode

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
