"""Canonical decimals, equality forms and canonical forms (sections 7, 7.1 and 8.2 of the format)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from .crypto import digest
from .json_values import BadJson, parse_object
from .model import NO_VALUE, Number

_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}

LABEL = b"sessauth/json/v1\x00"


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


class NoForm(ValueError):
    """A number in the value is no value."""


def digits_of(value: Number) -> tuple[bool, str, int]:
    """Sign, significant digits and exponent of the first of them, of a number in billionths."""
    if isinstance(value, int):
        text, power = str(abs(value)), 0
        negative = value < 0
    else:
        sign, digits, exponent = value.as_tuple()
        assert isinstance(exponent, int)
        text, power, negative = "".join(map(str, digits)), exponent, bool(sign)
    text = text.lstrip("0")
    first = len(text) - 1 + power - 9
    return negative, text.rstrip("0"), first


def canonical_decimal(value: Number) -> str:
    """Lay the digits out as ECMAScript does."""
    negative, digits, exponent = digits_of(value)
    if not digits:
        return "0"
    k, n = exponent + 1, len(digits)
    if 0 < k <= 21:
        text = digits.ljust(k, "0")[:k] + ("." + digits[k:] if n > k else "")
    elif -6 < k <= 0:
        text = "0." + "0" * -k + digits
    else:
        text = digits[0] + ("." + digits[1:] if n > 1 else "") + f"e{exponent:+d}"
    return "-" * negative + text


def form(value: object, count: Callable[[int, int], None] = lambda steps, of_bytes: None) -> str:
    """The equality form; ``count`` takes the work of 9.8, by values and by bytes. Raises NoForm."""
    count(1, 0)
    return _form(value, count)


def _form(value: object, count: Callable[[int, int], None]) -> str:
    if value is NO_VALUE:
        raise NoForm
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _counted(value, count)
    if isinstance(value, int | Decimal):
        text = canonical_decimal(value)
        count(0, len(text) // 16)
        return text
    if isinstance(value, list):
        count(len(value), 0)
        return "[" + ",".join([_form(item, count) for item in value]) + "]"
    assert isinstance(value, dict)
    count(len(value), 0)
    names = sorted(value, key=lambda name: str(name).encode("utf-16-be"))
    return "{" + ",".join([_counted(name, count) + ":" + _form(value[name], count) for name in names]) + "}"


def _counted(text: str, count: Callable[[int, int], None]) -> str:
    count(0, len(text.encode("utf-8")) // 16)
    return _string(text)


def form_digest(text: str) -> bytes:
    """The digest of an equality form."""
    return digest(LABEL + text.encode("utf-8"))
