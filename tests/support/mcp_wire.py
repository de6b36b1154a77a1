"""``sessauth mcp guard`` as a client of MCP starts it, and its messages line by line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Final, Self

from sessauth.decisions.tool_catalog import ToolCatalog
from tests.guard.world import World
from tests.support.mcp_server import TOOLS
from tests.support.server_fixture import AUDIENCE

SERVER: Final = Path(__file__).with_name("mcp_server.py")
COMMAND: Final = (sys.executable, "-m", "sessauth.cli.main")
INITIALIZE: Final = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
MODERN: Final = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}},
}


def text_of(answer: Any) -> str:
    """Return the text of a result."""
    return str(answer["result"]["content"][0]["text"])


class Wire:
    """The proxy's process in front of the server of ``mcp_server.py``."""

    def __init__(
        self,
        world: World,
        token: Any,
        *options: str,
        way: str = "good",
        server: tuple[str, ...] | None = None,
        catalogue: str = "",
        judge: tuple[str, ...] = ("--state",),
    ) -> None:
        """Start it with a token.

        ``server`` are other arguments in the place of the server's command; ``catalogue`` is of that server.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="mcp-"))
        self.log = self.folder / "log"
        self.log.touch()
        token_file, catalogue_file = self.folder / "token", self.folder / "catalogue"
        token_file.write_text(token.present().text)
        catalogue_file.write_text(catalogue or ToolCatalog.from_mcp("tools", TOOLS).to_json())
        home = world.server.home
        state = ("--state", str(world.server.made.state_dir)) if judge == ("--state",) else ()
        settings = ("--credential-file", str(world.credential_file())) if not state else ()
        self.command = [
            *(*COMMAND, "--home", str(home), *settings, "mcp", "guard", "--token-file", str(token_file)),
            *("--catalogue", str(catalogue_file), "--audience", AUDIENCE, *state, *options),
            *(server or ("--", sys.executable, str(SERVER), way, str(self.log))),
        ]
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "SESSAUTH_SECRET_OF_TEST": "x"},
        )
        self._lines: Queue[bytes] = Queue()
        self.errors = b""
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._read, self._read_errors)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors += line

    def write(self, data: bytes) -> None:
        """Write anything."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, **message: Any) -> None:
        """Write a message."""
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def read(self, timeout: float = 30) -> Any:
        """Return the next message; None at the end."""
        try:
            line = self._lines.get(timeout=timeout)
        except Empty:
            raise AssertionError(f"no message; stderr: {self.errors.decode()}") from None
        return json.loads(line) if line else None

    def ask(self, method: str, params: dict[str, Any] | None = None, number: Any = 1) -> Any:
        """Send a request and return the answer to it, past notifications."""
        self.send(id=number, method=method, params=params or {})
        while (message := self.read()) is not None and "method" in message:
            pass
        assert message is None or message["id"] == number, message
        return message

    def call(self, tool: str, arguments: dict[str, Any], **params: Any) -> Any:
        """Call a tool and return the answer."""
        return self.ask("tools/call", {"name": tool, "arguments": arguments, **params})

    def handshake(self) -> Self:
        """Do the handshake of 2025-11-25."""
        assert self.ask("initialize", INITIALIZE, 0)["result"]["serverInfo"]["name"]
        self.send(method="notifications/initialized")
        return self

    def received(self) -> list[Any]:
        """Return what the server was sent: methods and parameters."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def called(self) -> list[Any]:
        """Return the parameters of calls that reached the server."""
        return [params for method, params in self.received() if method == "tools/call"]

    def end(self) -> int:
        """End the input and return the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.wait()

    def wait(self, timeout: float = 30) -> int:
        """Return the exit code."""
        code = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(10)
        return code

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.process.kill()
        self.process.wait()
        # A stream that is closed while it is read raises in the thread that reads it.
        for thread in self._threads:
            thread.join(10)
        shutil.rmtree(self.folder)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()
