"""Kinds of arguments: durations, ids, facts, labels. Each refusal says what would have been right."""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from ..limits import MAX_TIME_MS

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d{1,12})(ms|s|m|h|d)", re.ASCII)


class Duration(click.ParamType):
    """A length of time with its unit, ``500ms 30s 15m 8h 7d``; gives ms."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return ms. Fails for a number without a unit, and for zero."""
        if isinstance(value, int):
            return value
        found = _DURATION.fullmatch(value)
        if not found or not int(found[1]):
            self.fail(f"{value!r} is no duration; write a number and a unit: 500ms, 30s, 15m, 8h, 7d", param, ctx)
        ms = int(found[1]) * _UNITS_MS[found[2]]
        if ms > MAX_TIME_MS:
            self.fail(f"{value!r} is too long", param, ctx)
        return ms


class Moment(click.ParamType):
    """A moment in ISO 8601 with its zone, ``2026-01-31T12:00:00Z``; gives ms since 1970."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return ms since 1970. Fails for a time without a zone."""
        if isinstance(value, int):
            return value
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no moment; write 2026-01-31T12:00:00Z", param, ctx)
        if at.tzinfo is None:
            self.fail(f"{value!r} has no time zone; add Z for UTC", param, ctx)
        ms = int(at.timestamp() * 1000)
        if not 0 <= ms <= MAX_TIME_MS:
            self.fail(f"{value!r} is before 1970", param, ctx)
        return ms


class Hex(click.ParamType):
    """An id of a fixed size, in hex digits; gives bytes."""

    def __init__(self, name: str, size: int) -> None:
        """Take what the id is of, and its size in bytes."""
        self.name = name
        self._size = size

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the bytes. Fails for another length."""
        if isinstance(value, bytes):
            return value
        try:
            data = bytes.fromhex(value) if value.isascii() else b""
        except ValueError:
            data = b""
        if len(data) != self._size:
            self.fail(f"{value!r} is not {self._size * 2} hex digits", param, ctx)
        return data


class FactParam(click.ParamType):
    """A fact: ``name=text``, or ``name:=JSON`` for a number or a truth."""

    name = "fact"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Return name and value. Fails for JSON that is no text, number or truth."""
        if isinstance(value, tuple):
            return value
        name, sign, text = value.partition("=")
        if not sign or not name.removesuffix(":"):
            self.fail(f"{value!r} is no fact; write name=text, or name:=JSON", param, ctx)
        if not name.endswith(":"):
            return name, text
        try:
            parsed = json.loads(text, parse_float=Decimal, parse_constant=_refuse)
        except (ValueError, InvalidOperation):
            self.fail(f"{text!r} is not JSON; write {name}=text for a text", param, ctx)
        if not isinstance(parsed, str | bool | int | Decimal):
            self.fail(f"{text!r} is no text, number or truth", param, ctx)
        return name.removesuffix(":"), parsed


def _refuse(constant: str) -> None:
    raise ValueError(constant)


class LabelParam(click.ParamType):
    """A label: ``name=value``."""

    name = "label"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return name and value."""
        if isinstance(value, tuple):
            return value
        name, sign, text = value.partition("=")
        if not sign or not name:
            self.fail(f"{value!r} is no label; write name=value", param, ctx)
        return name, text


DURATION = Duration()
MOMENT = Moment()
FACT = FactParam()
LABEL = LabelParam()
SESSION_ID = Hex("session id", 16)
BLOCK_ID = Hex("block id", 32)
KEY_ID = Hex("key id", 32)
