"""A cursor over scope text. It knows tokens and offsets, nothing of scopes."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import NoReturn

from .._fast.codec import base64url
from ..errors import ScopeError
from .operand import Exact, Json, Operand
from .value import Number

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
        """Start at the beginning.

        Raises:
            ScopeError: if ``text`` is no text, or too long to be a scope.
        """
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
