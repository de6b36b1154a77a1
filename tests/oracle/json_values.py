"""Strict JSON with exact numbers (sections 7 and 8 of the format)."""

from __future__ import annotations

import re
from decimal import Decimal

from .model import BILLION, NO_VALUE

MAX_BYTES = 1_048_576
MAX_DEPTH = 32
MAX_VALUES = 10_000

_SPACE = re.compile(r"[ \t\n\r]*")
NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = re.compile(r"[0-9A-Fa-f]{4}")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = (("true", True), ("false", False), ("null", None))


class BadJson(ValueError):
    """The bytes are not a JSON object within the limits."""


def number(sign: str, whole: str, fraction: str, exponent: int) -> object:
    """The exact value of a decimal in billionths, or NO_VALUE. Never builds a large int."""
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return 0
    stripped = digits.rstrip("0")
    power = exponent - len(fraction) + len(digits) - len(stripped)
    if len(stripped) > 1024 or abs(power + len(stripped) - 1) > 999_999_999:
        return NO_VALUE
    if power >= -9 and len(stripped) + power <= 20:
        billionths = int(stripped) * 10 ** (power + 9)
        if sign:
            billionths = -billionths
        if -(2**63) <= billionths // BILLION < 2**63:
            return billionths
    return Decimal((int(bool(sign)), tuple(map(int, stripped)), power + 9))


def _exponent(sign: str, digits: str) -> int:
    digits = digits.lstrip("0") or "0"
    # Beyond 11 digits no text of at most 1 MiB can bring the value back into range.
    size = int(digits) if len(digits) <= 11 else 10**11
    return -size if sign == "-" else size


def number_of(match: re.Match[str]) -> object:
    """The value of a JSON number that ``NUMBER`` matched."""
    sign, whole, fraction, exponent_sign, exponent = match.groups()
    return number(sign, whole, fraction or "", _exponent(exponent_sign, exponent) if exponent else 0)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.values = 0

    def skip_space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, char: str) -> None:
        if self.peek() != char:
            raise BadJson(f"{char!r} is missing at character {self.at}")
        self.at += 1

    def value(self, depth: int) -> object:
        self.values += 1
        if self.values > MAX_VALUES:
            raise BadJson("too many values")
        char = self.peek()
        if char == '"':
            return self.string()
        if char in ("{", "["):
            if depth == MAX_DEPTH:
                raise BadJson("nested too deep")
            return self.members(depth + 1) if char == "{" else self.elements(depth + 1)
        match = NUMBER.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            return number_of(match)
        for word, meaning in _WORDS:
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return meaning
        raise BadJson(f"no value at character {self.at}")

    def members(self, depth: int) -> dict[str, object]:
        self.take("{")
        members: dict[str, object] = {}
        self.skip_space()
        if self.peek() == "}":
            self.at += 1
            return members
        while True:
            name = self.string()
            if name in members:
                raise BadJson("a member name is repeated")
            self.skip_space()
            self.take(":")
            self.skip_space()
            members[name] = self.value(depth)
            self.skip_space()
            if self.peek() == "}":
                self.at += 1
                return members
            self.take(",")
            self.skip_space()

    def elements(self, depth: int) -> list[object]:
        self.take("[")
        elements: list[object] = []
        self.skip_space()
        if self.peek() == "]":
            self.at += 1
            return elements
        while True:
            elements.append(self.value(depth))
            self.skip_space()
            if self.peek() == "]":
                self.at += 1
                return elements
            self.take(",")
            self.skip_space()

    def string(self) -> str:
        self.take('"')
        parts = []
        while True:
            match = _PLAIN.match(self.text, self.at)
            assert match is not None
            parts.append(match[0])
            self.at = match.end()
            char = self.peek()
            if char == '"':
                self.at += 1
                return "".join(parts)
            if char != "\\":
                raise BadJson("a string is cut off or has a control character")
            self.at += 1
            parts.append(self.escape())

    def escape(self) -> str:
        char = self.peek()
        self.at += 1
        if char in _ESCAPES and char:
            return _ESCAPES[char]
        if char != "u":
            raise BadJson("an unknown escape")
        unit = self.unit()
        if 0xDC00 <= unit < 0xE000:
            raise BadJson("a lone surrogate")
        if not 0xD800 <= unit < 0xDC00:
            return chr(unit)
        self.take("\\")
        self.take("u")
        low = self.unit()
        if not 0xDC00 <= low < 0xE000:
            raise BadJson("a lone surrogate")
        return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))

    def unit(self) -> int:
        match = _HEX.match(self.text, self.at)
        if match is None:
            raise BadJson("an escape needs four hexadecimal digits")
        self.at = match.end()
        return int(match[0], 16)


def parse_object(data: bytes) -> dict[str, object]:
    """The object in ``data``; empty bytes mean an empty object. Raises BadJson."""
    if not data:
        return {}
    if len(data) > MAX_BYTES:
        raise BadJson("too large")
    try:
        reader = _Reader(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadJson("not UTF-8") from error
    reader.skip_space()
    value = reader.value(0)
    reader.skip_space()
    if reader.at != len(reader.text):
        raise BadJson("something follows the value")
    if not isinstance(value, dict):
        raise BadJson("not an object")
    return value
