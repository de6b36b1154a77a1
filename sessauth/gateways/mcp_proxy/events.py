"""Server-sent events, as MCP's streamable HTTP has them: the data of each event, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from .lines import LineTooLong

_READ_AHEAD: Final = 65_536
_BOM: Final = "\ufeff".encode()


async def event_data(parts: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Iterate over the data of events that have any and are messages.

    Raises LineTooLong for an event of more than ``limit`` bytes.
    """
    data: list[bytes] = []
    size, kind = 0, b""
    async for line in _lines(parts, limit):
        if not line:
            if data and kind in (b"", b"message"):
                yield b"\n".join(data)
            data, size, kind = [], 0, b""
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data" and (value or data):
            data.append(value)
            size += len(value)
            if size > limit:
                raise LineTooLong
        elif name == b"event":
            kind = value


async def _lines(parts: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Split at each of the three ends of a line."""
    rest = bytearray()
    first = True
    async for part in parts:
        rest += part
        if first and len(rest) >= len(_BOM):
            first = False
            if rest.startswith(_BOM):
                del rest[: len(_BOM)]
        if len(rest) > limit + _READ_AHEAD:
            raise LineTooLong
        if not (b"\n" in part or b"\r" in part or b"\r" in rest[-len(part) - 1 :]):
            continue
        # A carriage return at the end may be the first half of an end of line.
        tail = rest[-1:] == b"\r"
        lines = bytes(rest[:-1] if tail else rest).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest = bytearray(lines.pop())
        if tail:
            rest += b"\r"
        for line in lines:
            yield line
