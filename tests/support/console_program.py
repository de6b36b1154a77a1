"""A console as a process, and a program of an agent's on another port of the same host."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.service import wait_until


@dataclass
class Program:
    """A console as a process, started by its command."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def links(self) -> list[str]:
        """The links that it printed."""
        return re.findall(r"http://\S+/login/\S+", self.output.read_text())

    @property
    def origin(self) -> str:
        """Its address."""
        return self.links[0].partition("/login")[0]

    def code(self) -> str:
        """Return the code that it printed last, once it has."""
        assert wait_until(lambda: " code " in self.output.read_text())
        return re.findall(r" code (\S+):", self.output.read_text())[-1]

    def new_link(self) -> str:
        """Have it print another link, and return it."""
        count = len(self.links)
        self.process.send_signal(signal.SIGUSR1)
        assert wait_until(lambda: len(self.links) > count)
        return self.links[-1]


@contextmanager
def started(home: Path, output: Path, *command: str) -> Iterator[Program]:
    """A console that runs, and ends well when it is told to."""
    arguments = [sys.executable, "-m", "sessauth.cli.main", "--home", str(home), "--timeout-ms", "10000"]
    with output.open("wb") as file:
        process = subprocess.Popen([*arguments, *command], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    program = Program(process, output)
    try:
        assert wait_until(lambda: bool(program.links)), output.read_text()
        yield program
    finally:
        process.terminate()
        assert process.wait(30) == 0
    # Nothing was printed but links and codes: no error, and nothing of what was looked at.
    links = r"log in  http://\S+\n|        once, within \d+ minutes; Enter prints another\n?"
    codes = r"sign    .*\n        session .*\n        code .*\n"
    assert re.sub(f"{links}|{codes}", "", output.read_text()) == ""


class PreviewServer(ThreadingHTTPServer):
    """A server on a free port, led to by another name of the host; it notes the cookies that it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Preview)
        self.cookies: dict[str, str] = {}


class _Preview(BaseHTTPRequestHandler):
    server: PreviewServer

    def do_GET(self) -> None:
        """Note the cookies, set one, and lead on."""
        host = self.headers["host"].partition(":")[0]
        self.server.cookies[host + self.path] = self.headers.get("cookie", "")
        self.send_response(200)
        self.send_header("set-cookie", "theirs=1; Path=/")
        self.end_headers()
        steps = {"/": f"http://127.0.0.1:{self.server.server_port}/again", "/again": "/last"}
        if self.path in steps:
            self.wfile.write(f"<script>location={steps[self.path]!r}</script>".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def previewing() -> Iterator[PreviewServer]:
    """A preview server that runs."""
    with PreviewServer() as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server
        finally:
            server.shutdown()
