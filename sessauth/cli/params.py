"""Kinds of arguments: durations, ids, facts, labels. Each refusal says what would have been right.

Each kind is a function from the text; click shows its name in the help. A value that is no text is
an option's default, and passes.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

import click

from ..limits import MAX_TIME_MS, MIN_ID_PREFIX_DIGITS
from ..scopes.value import Plain

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DIGITS = re.compile(r"[0-9a-f]+", re.ASCII)
_DURATION = re.compile(r"(\d{1,12})(ms|s|m|h|d)", re.ASCII)


def duration(text: str | int) -> int:
    """Return ms for a number and a unit, ``500ms 30s 15m 8h 7d``. Refuses zero."""
    if isinstance(text, int):
        return text
    found = _DURATION.fullmatch(text)
    if not found or not int(found[1]):
        raise click.BadParameter(f"{text!r} is no duration; write one with its unit: 500ms, 30s, 15m, 8h, 7d")
    ms = int(found[1]) * _UNITS_MS[found[2]]
    if ms > MAX_TIME_MS:
        raise click.BadParameter(f"{text!r} is too long")
    return ms


def moment(text: str | int) -> int:
    """Return ms since 1970 for ISO 8601 with a zone, ``2026-01-31T12:00:00Z``."""
    if isinstance(text, int):
        return text
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no moment; write 2026-01-31T12:00:00Z") from None
    if at.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone; add Z for UTC")
    ms = int(at.timestamp() * 1000)
    if ms < 0:
        raise click.BadParameter(f"{text!r} is before 1970")
    return ms


class Prefix(str):
    """The hex digits that an id begins with, in lower case: to be looked up by ``ids``."""

    __slots__ = ()


Ref: TypeAlias = bytes | Prefix
"""An id, or what it begins with."""


def _ref(size: int) -> Callable[[str | bytes], Ref]:
    def read(text: str | bytes) -> Ref:
        if isinstance(text, bytes):
            return text
        digits = text.removesuffix("…").removesuffix("...").lower()
        if not MIN_ID_PREFIX_DIGITS <= len(digits) <= 2 * size or not _DIGITS.fullmatch(digits):
            raise click.BadParameter(
                f"{text!r} is not {2 * size} hex digits, nor the first {MIN_ID_PREFIX_DIGITS} or more of them"
            )
        return bytes.fromhex(digits) if len(digits) == 2 * size else Prefix(digits)

    return read


def _hex(size: int) -> Callable[[str | bytes], bytes]:
    def read(text: str | bytes) -> bytes:
        if isinstance(text, bytes):
            return text
        try:
            data = bytes.fromhex(text) if text.isascii() else b""
        except ValueError:
            data = b""
        if len(data) != size:
            raise click.BadParameter(f"{text!r} is not {size * 2} hex digits")
        return data

    return read


def session_id(text: str | bytes) -> Ref:
    """Return the 16 bytes of a session id in hex, or what it begins with."""
    return _ref(16)(text)


def whole_session(text: str | bytes) -> bytes:
    """Return the 16 bytes of a session id in hex, for commands that ask nobody who could complete one."""
    return _hex(16)(text)


def block_id(text: str | bytes) -> bytes:
    """Return the 32 bytes of a block id in hex."""
    return _hex(32)(text)


def key_id(text: str | bytes) -> Ref:
    """Return the 32 bytes of a key id in hex, or what it begins with."""
    return _ref(32)(text)


def decision_id(text: str | bytes) -> bytes:
    """Return the 16 bytes of a decision's id in hex."""
    return _hex(16)(text)


def chain(text: str | bytes) -> bytes:
    """Return the 32 bytes of an audit line's chain in hex."""
    return _hex(32)(text)


def approval_id(text: str | bytes) -> Ref:
    """Return the 16 bytes of an approval's id in hex, or what it begins with."""
    return _ref(16)(text)


def permit(text: str | bytes) -> bytes:
    """Return the 32 bytes of a permit in hex."""
    return _hex(32)(text)


def approver_key(text: str | bytes) -> bytes:
    """Return the 32 bytes of an approver's public key, written as scope text writes it."""
    if isinstance(text, bytes):
        return text
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise click.BadParameter(f"{text!r} is no public key; 'sessauth approver-key show' prints it")
    return key


def fact(text: str | tuple[str, Plain]) -> tuple[str, Plain]:
    """Return name and value of ``name=text``, or of ``name:=JSON`` for a number or a truth."""
    if isinstance(text, tuple):
        return text
    name, sign, value = text.partition("=")
    if not sign or not name.removesuffix(":"):
        raise click.BadParameter(f"{text!r} is no fact; write name=text, or name:=JSON")
    if not name.endswith(":"):
        return name, value
    try:
        parsed = json.loads(value, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, InvalidOperation):
        raise click.BadParameter(f"{value!r} is not JSON; write name=text for a text") from None
    if not isinstance(parsed, str | bool | int | Decimal):
        raise click.BadParameter(f"{value!r} is no text, number or truth")
    return name.removesuffix(":"), parsed


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def label(text: str | tuple[str, str]) -> tuple[str, str]:
    """Return name and value of ``name=value``."""
    if isinstance(text, tuple):
        return text
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.BadParameter(f"{text!r} is no label; write name=value")
    return name, value
