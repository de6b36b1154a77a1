"""The canonical form of arguments (section 8.2 of the format)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from .json_values import BadJson, parse_object

_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


class Written(str):
    """A number of a JSON text, as it was written."""

    __slots__ = ()


def canonical(data: bytes) -> bytes:
    """The canonical form of a JSON text. Raises BadJson for one that section 8 refuses."""
    parse_object(data)
    return of_values(json.loads(data.decode("utf-8") or "{}", parse_int=Written, parse_float=Written))


def of_values(members: Mapping[str, Any]) -> bytes:
    """The canonical form of an object's values. Raises BadJson for what has none."""
    try:
        data = _text(members).encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadJson("a lone surrogate") from error
    parse_object(data)
    return data


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case True | False:
            return str(value).lower()
        case Written():
            return str(value)
        case str():
            return _string(value)
        case int():
            return str(value)
        case float():
            return binary64(value)
        case Decimal():
            return decimal(value)
        case list():
            return "[" + ",".join(map(_text, value)) + "]"
        case dict():
            names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
            return "{" + ",".join(f"{_string(name)}:{_text(value[name])}" for name in names) + "}"
    raise TypeError(f"{type(value).__name__} is no value of JSON")


def _string(text: str) -> str:
    return '"' + "".join(map(_character, text)) + '"'


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return f"\\u00{ord(char):02x}" if char < " " else char


def binary64(value: float) -> str:
    """A double as ECMAScript writes it: RFC 8785, 3.2.2.3."""
    if not math.isfinite(value):
        raise BadJson("not finite")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    # Python gives the shortest digits that read back as the same double, as ECMAScript asks for.
    _, digits, exponent = Decimal(repr(abs(value))).normalize().as_tuple()
    assert isinstance(exponent, int)
    text, point = "".join(map(str, digits)), len(digits) + exponent
    if 0 < point <= 21:
        whole, fraction = text[:point].ljust(point, "0"), text[point:]
        return sign + whole + ("." + fraction if fraction else "")
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + text
    mantissa = text[0] + ("." + text[1:] if text[1:] else "")
    return f"{sign}{mantissa}e{point - 1:+d}"


def decimal(value: Decimal) -> str:
    """*to-scientific-string* of the General Decimal Arithmetic specification, with a small ``e``."""
    negative, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise BadJson("not finite")
    text, adjusted = "".join(map(str, digits)), exponent + len(digits) - 1
    if exponent == 0:
        shown = text
    elif exponent < 0 and adjusted >= -6:
        padded = text.rjust(1 - exponent, "0")
        shown = f"{padded[:exponent]}.{padded[exponent:]}"
    else:
        shown = text[0] + ("." + text[1:] if text[1:] else "") + f"e{adjusted:+d}"
    return "-" * negative + shown
