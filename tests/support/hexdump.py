"""An encoded message as lines of hex, each with what it says."""

from __future__ import annotations

from collections.abc import Iterator

from tests.oracle.wire import MESSAGES, read_varint

_WIDTH = 16
# Bytes that hold an encoded message of their own.
_INNER = {("SignedBlock", "payload"): "Block"}


def hexdump(message: str, data: bytes) -> str:
    """Return the lines of an encoded message: offset, bytes, and the field or value that they are."""
    return "\n".join(_lines(message, data, 0, len(data), 0)) + "\n"


def _line(data: bytes, first: int, end: int, meaning: str) -> Iterator[str]:
    for at in range(first, end, _WIDTH):
        row = data[at : min(at + _WIDTH, end)].hex(" ")
        yield f"{at:04x}  {row:<{3 * _WIDTH}}{meaning if at == first else ''}".rstrip()


def _lines(message: str, data: bytes, at: int, end: int, depth: int) -> Iterator[str]:
    fields = {field.number: field for field in MESSAGES[message]}
    indent = "  " * depth
    while at < end:
        begin = at
        tag, at = read_varint(data, at, end)
        field = fields[tag >> 3]
        value, at = read_varint(data, at, end)
        if tag & 7 == 0:
            yield from _line(data, begin, at, f"{indent}{field.name} = {value}")
            continue
        inner = field.type if field.type in MESSAGES else _INNER.get((message, field.name), "")
        meaning = f"{indent}{field.name}: {inner or field.type}, {value} bytes"
        if inner:
            yield from _line(data, begin, at, meaning)
            yield from _lines(inner, data, at, at + value, depth + 1)
        else:
            text = f' "{data[at : at + value].decode()}"' if field.type == "string" else ""
            yield from _line(data, begin, at, meaning + text)
            yield from _line(data, at, at + value, "")
        at += value
