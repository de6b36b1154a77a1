"""A server of MCP that is a process started here: it speaks by lines, and ends with the proxy."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Self

from ...errors import UsageError
from .lines import MAX_SERVER_LINE, read_lines
from .messages import Message

# Between the end of its input and SIGTERM, and between that and SIGKILL.
GRACE_S: Final = 2.0
_OWN: Final = "SESSAUTH_"


class Child:
    """A server in a process group of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take a process that was started by :meth:`start`."""
        if process.stdin is None or process.stdout is None:
            raise UsageError("the server was started without pipes")
        self._process = process
        self._input, self._output = process.stdin, process.stdout

    @classmethod
    async def start(cls, command: Sequence[str], env: Mapping[str, str] | None = None) -> Self:
        """Start a command; stderr is the proxy's, and the environment too, without names in SESSAUTH_.

        Raises UsageError if it can't be started.
        """
        passed = {name: value for name, value in (env or os.environ).items() if not name.startswith(_OWN)}
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_SERVER_LINE,
                env=passed,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it can't be a command"
            raise UsageError(f"can't start {command[0]!a}: {reason}") from None
        return cls(process)

    async def send(self, message: Message) -> None:
        """Write a line. Raises OSError if the process ended."""
        self._input.write(message.text.encode() + b"\n")
        await self._input.drain()

    def lines(self) -> AsyncIterator[bytes]:
        """Iterate over the lines of the process's output."""
        return read_lines(self._output)

    def end_input(self) -> None:
        """Close the process's input, at which servers end."""
        self._input.close()

    async def close(self) -> None:
        """Close its input, and end the process and all that it started, at the latest in four seconds."""
        self.end_input()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if await self._ended():
                break
            self._signal(number)
        await self._ended()
        # Processes that it started and left have its process group.
        self._signal(signal.SIGKILL)

    async def _ended(self) -> bool:
        try:
            await asyncio.wait_for(self._process.wait(), GRACE_S)
        except TimeoutError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return
