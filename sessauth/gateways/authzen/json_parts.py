"""Strict JSON taken apart without reading its numbers, so that arguments keep them as they were written."""

from __future__ import annotations

import json
from typing import Final

from ...errors import UsageError
from ...scopes.call_arguments import canonical

# Only the ends of values matter here. A number may be longer than Python's limit for its own.
_DECODER: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def strict_object(body: bytes) -> str:
    """Return a JSON object in its canonical form.

    Raises:
        UsageError: for any other text, a name that stands twice, and what is beyond the limits of a request.
    """
    if not body.strip():
        raise UsageError("body: is empty")
    return canonical(body).decode()


def members(text: str) -> dict[str, str]:
    """Return the members of an object in canonical form, each as its own text.

    Raises:
        UsageError: for a value that is no object.
    """
    if text[:1] != "{":
        raise UsageError("is no object")
    parts: dict[str, str] = {}
    position = 1
    while text[position] != "}":
        name, colon = _DECODER.raw_decode(text, position)
        parts[name], position = _value(text, colon + 1)
    return parts


def elements(text: str) -> list[str]:
    """Return the elements of a list in canonical form, each as its own text.

    Raises:
        UsageError: for a value that is no list.
    """
    if text[:1] != "[":
        raise UsageError("is no list")
    parts: list[str] = []
    position = 1
    while text[position] != "]":
        part, position = _value(text, position)
        parts.append(part)
    return parts


def string(text: str) -> str:
    """Return a string. Raises UsageError for another value."""
    if text[:1] != '"':
        raise UsageError("is no string")
    value: str = json.loads(text)
    return value


def _value(text: str, start: int) -> tuple[str, int]:
    """Return the value at ``start``, and where the next one begins or the container ends."""
    _, end = _DECODER.raw_decode(text, start)
    return text[start:end], end + (text[end] == ",")
