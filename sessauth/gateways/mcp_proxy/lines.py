"""Lines of bytes with a longest length, and a transport that both kinds of servers have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol

from .messages import Message

# A request of a client is at most 1 MiB; its answer to a server's request may hold an image.
MAX_CLIENT_LINE: Final = 8 * 1024 * 1024
MAX_SERVER_LINE: Final = 32 * 1024 * 1024


class LineTooLong(Exception):
    """A line that is longer than permitted; where the next one begins is not known."""


class Upstream(Protocol):
    """A connection to a server of MCP."""

    async def send(self, message: Message) -> None:
        """Send a message. Raises OSError if the connection ended."""
        ...

    def lines(self) -> AsyncIterator[bytes]:
        """Iterate over the server's lines; ends with the connection. Raises LineTooLong."""
        ...

    def end_input(self) -> None:
        """Let the server know that nothing more is sent."""
        ...

    async def close(self) -> None:
        """End the connection, and the server if it was started here."""
        ...


async def read_lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Iterate over the lines of a stream that are not empty; a last one without an end of line is dropped.

    Raises LineTooLong beyond the limit of the reader.
    """
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return
        except (asyncio.LimitOverrunError, ValueError):
            raise LineTooLong from None
        if line := line.strip(b" \t\r\n"):
            yield line
