"""The proxy in front of servers of streamable HTTP: the SDK's, and some that break HTTP or the protocol."""

from __future__ import annotations

import asyncio
import json
import socketserver
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sessauth.errors import UsageError
from sessauth.gateways.mcp_proxy.messages import LineTooLong
from sessauth.gateways.mcp_proxy.upstream import HttpError, Url, event_data, exchange
from tests.guard.world import World
from tests.support.mcp_server import TOOLS
from tests.support.mcp_wire import INITIALIZE, MODERN, Wire, text_of

RESULT = {"content": [{"type": "text", "text": "get_weather done"}]}


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """Read a request, note it, and answer as the server's function says."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (line := self.rfile.readline()):
                return
            head += line
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.server.requests.append((lines[0].split()[0], headers, body))  # type: ignore[attr-defined]
        self.wfile.write(self.server.answer(lines[0].split()[0], body))  # type: ignore[attr-defined]


def reply(body: bytes, status: str = "200 OK", kind: str = "application/json", *more: str) -> bytes:
    """Return an answer of HTTP."""
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *more, "", ""]
    return "\r\n".join(head).encode() + body


def message(body: bytes, **more: Any) -> bytes:
    """Return a message with the id of a request."""
    return json.dumps({"jsonrpc": "2.0", "id": json.loads(body)["id"], **more}).encode()


class HttpServer:
    """A server whose calls are answered by a function; handshake and list are done for it."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    def answer(self, method: str, body: bytes) -> bytes:
        """Answer a request."""
        if method != "POST":
            return reply(b"", "405 Method Not Allowed")
        name = json.loads(body).get("method")
        if name == "initialize":
            info = {"serverInfo": {"name": "tools"}, "protocolVersion": "2025-11-25", "capabilities": {}}
            return reply(message(body, result=info), "200 OK", "application/json", "Mcp-Session-Id: s-1")
        if name == "tools/list":
            return reply(message(body, result={"tools": TOOLS}))
        if name != "tools/call":
            return reply(b"", "202 Accepted")
        answer: bytes = self._call(body)
        return answer


@contextmanager
def running(call: Any) -> Iterator[tuple[str, HttpServer]]:
    """Run a server in a thread, and give its address."""
    made = HttpServer(call)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.requests, server.answer = made.requests, made.answer  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp", made
        server.shutdown()


def events(*data: bytes) -> bytes:
    """Return an answer of events."""
    body = b"".join(b"event: message\r\ndata: " + each + b"\r\n\r\n" for each in data)
    return reply(b": hello\n\n" + body, "200 OK", "text/event-stream")


def called(world: World, call: Any, *options: str, modern: bool = False) -> tuple[Any, HttpServer]:
    """Call a tool of a server through the proxy; return the answer."""
    token = world.token("read:mcp/tools/get_weather free *")
    with running(call) as (url, server), Wire(world, token, *options, server=("--url", url)) as wire:
        if not modern:
            assert "result" in wire.ask("initialize", INITIALIZE, 0)
            wire.send(method="notifications/initialized")
        params = {"_meta": MODERN} if modern else {}
        answer = wire.call("get_weather", {"city": "a\u00e9"}, **params)
        assert wire.end() == 0
        return answer, server


@pytest.mark.parametrize("kind", ["json", "events", "chunked", "event with notifications"])
def test_answers_in_each_form(world: World, kind: str) -> None:
    """JSON, events, and chunks of a body."""

    def call(body: bytes) -> bytes:
        data = message(body, result=RESULT)
        note = (
            b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
        )
        match kind:
            case "json":
                return reply(data)
            case "events":
                return events(data)
            case "chunked":
                chunks = b"".join(b"%x\r\n%s\r\n" % (1, data[i : i + 1]) for i in range(len(data)))
                head = (
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                return head + chunks + b"0\r\n\r\n"
        return events(note, data)

    answer, server = called(world, call)

    assert text_of(answer) == "get_weather done"
    methods = [method for method, _, _ in server.requests]
    assert methods.count("DELETE") == 1 and methods[0] == "POST"
    for method, headers, body in server.requests[1:]:
        assert headers["mcp-session-id"] == "s-1" and headers["mcp-protocol-version"] == "2025-11-25"
        assert "authorization" not in headers, (method, body)


def test_headers_state_what_the_body_does(world: World) -> None:
    """A server of 2026-07-28 compares the two."""
    answer, server = called(world, lambda body: reply(message(body, result=RESULT)), modern=True)
    (_, listed, _), (_, headers, body) = server.requests

    assert text_of(answer) == "get_weather done"
    assert (headers["mcp-method"], headers["mcp-name"]) == ("tools/call", "get_weather")
    assert headers["mcp-protocol-version"] == listed["mcp-protocol-version"] == "2026-07-28"
    assert listed["mcp-method"] == "tools/list"
    assert json.loads(body)["params"]["arguments"] == {"city": "aé"}


def test_headers_from_a_file(world: World, tmp_path: Path) -> None:
    """The server's own credential stands in a file."""
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer of-the-server\n\nX-Tenant: acme\n")
    _, server = called(
        world, lambda body: reply(message(body, result=RESULT)), "--header-file", str(file), modern=True
    )

    assert server.requests[0][1]["authorization"] == "bearer of-the-server"
    assert server.requests[0][1]["x-tenant"] == "acme"


BAD: dict[str, Any] = {
    "a redirect": lambda _: reply(
        b"", "307 Temporary Redirect", "text/plain", "Location: http://127.0.0.1:1/"
    ),
    "no content": lambda _: reply(b"", "202 Accepted"),
    "an error of HTTP": lambda _: reply(b"no", "500 Internal Server Error", "text/plain"),
    "HTML": lambda _: reply(b"<html>", "200 OK", "text/html"),
    "nothing": lambda _: b"",
    "no HTTP": lambda _: b"hello\r\n\r\n",
    "a long head": lambda _: b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    "two lengths": lambda body: reply(
        message(body, result=RESULT), "200 OK", "application/json", "Content-Length: 1"
    ),
    "length and chunks": lambda _: reply(
        b"0\r\n\r\n", "200 OK", "application/json", "Transfer-Encoding: chunked"
    ),
    "a negative length": lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "a negative chunk": lambda _: (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n"
    ),
    "half a body": lambda body: reply(message(body, result=RESULT))[:-5],
    "a compressed body": lambda _: reply(b"x", "200 OK", "application/json", "Content-Encoding: gzip"),
    "a batch": lambda body: reply(b"[" + message(body, result=RESULT) + b"]"),
    "no JSON": lambda _: reply(b"{"),
    "another id": lambda _: reply(b'{"jsonrpc":"2.0","id":99,"result":{}}'),
    "the id as a text": lambda _: reply(b'{"jsonrpc":"2.0","id":"1","result":{}}'),
    "events without an answer": lambda _: events(b'{"jsonrpc":"2.0","method":"notifications/x"}'),
    "events that are no JSON": lambda _: events(b"{", b"[]", b"\xff"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_answer_is_an_error(world: World, name: str) -> None:
    """The client has an error for each of its requests, and the connection goes on."""
    answer, _ = called(world, BAD[name])

    assert answer["error"]["message"].startswith("the server ")


def test_an_error_with_a_status_reaches_the_client(world: World) -> None:
    """A server that did not read the id answers without; the client gets its own."""
    error = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"no such thing"}}'
    answer, _ = called(world, lambda _: reply(error, "400 Bad Request"))

    assert answer["error"] == {"code": -32602, "message": "no such thing"}


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
def test_in_front_of_the_sdks_server(world: World, mode: str) -> None:
    """Lists are filtered and calls judged, in both generations."""
    pytest.importorskip("mcp", reason="needs the MCP SDK: tests/guard/requirements/latest.txt")
    from mcp.server import MCPServer

    from sessauth.decisions.tool_catalog import ToolCatalog
    from tests.guard.test_mcp import served

    server = MCPServer("tools")

    @server.tool(annotations={"readOnlyHint": True})
    def get_weather(city: str) -> str:
        return world.run("get_weather", city=city)

    @server.tool()
    def pay(amount: int) -> str:
        return world.run("pay", amount=amount)

    async def main() -> None:
        tools = [tool.model_dump(by_alias=True, exclude_none=True) for tool in await server.list_tools()]
        catalogue = ToolCatalog.from_mcp("tools", tools).to_json()
        async with served(server.streamable_http_app()) as url:
            await asyncio.to_thread(use, url, catalogue)

    def use(url: str, catalogue: str) -> None:
        token = world.token("read:mcp/tools/get_weather free *")
        with Wire(world, token, server=("--url", url), catalogue=catalogue) as wire:
            meta = {"_meta": MODERN} if mode != "legacy" else {}
            if mode == "legacy":
                assert "result" in wire.ask("initialize", INITIALIZE, 0)
                wire.send(method="notifications/initialized")
            listed = wire.ask("tools/list", dict(meta))["result"]["tools"]
            assert [tool["name"] for tool in listed] == ["get_weather"]
            assert text_of(wire.call("get_weather", {"city": "Bern"}, **meta)) == "get_weather done"
            assert text_of(wire.call("pay", {"amount": 1}, **meta)) == "not allowed"
            assert wire.end() == 0

    asyncio.run(main())
    assert world.ran == [("get_weather", {"city": "Bern"})]


@pytest.mark.parametrize(
    "text",
    [
        *("ftp://a/", "//a", "a", "", "http://", "http://user@127.0.0.1/", "http://127.0.0.1/#x"),
        *("http://127.0.0.1:x/", "http://127.0.0.1/a b", "http://127.0.0.1/\r\nX: y", "http://exämple/"),
        *("http://example.com/", "http://127.0.0.1.example.com/", "http://localhost.example.com/"),
    ],
)
def test_addresses_that_are_refused(text: str) -> None:
    """Secrets in an address, other schemes, and what would show all to the network."""
    with pytest.raises(UsageError, match="--url"):
        Url.parse(text)


def test_addresses() -> None:
    """Read into what is connected to and what is asked."""
    assert Url.parse("https://example.com") == Url("example.com", 443, "/", True)
    assert Url.parse("http://[::1]:80/mcp?a=b") == Url("::1", 80, "/mcp?a=b", False)
    assert Url.parse("http://[::1]:81/").authority == "[::1]:81"
    assert Url.parse("http://example.com/", insecure=True).authority == "example.com"


def test_nobody_answers() -> None:
    """A refused connection is an error at once."""
    with pytest.raises(HttpError, match="no connection"):
        asyncio.run(exchange(Url("127.0.0.1", 1, "/", False), "GET", {}))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_however_they_are_cut(size: int) -> None:
    """The three ends of a line, several lines of data, comments, other events, and what has no end."""
    text = (
        "\ufeffdata: a\r\n\r\ndata:b\rdata: c\r\r: comment\n\nevent: other\ndata: x\n\nid: 5\nretry: 1\n\n"
        "event: message\ndata:  d\u2028e\n\ndata\n\ndata: cut off\n"
    ).encode()

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(text), size):
            yield text[start : start + size]

    async def main() -> list[str]:
        return [data.decode() async for data in event_data(parts(), 100)]

    assert asyncio.run(main()) == ["a", "b\nc", " d\u2028e"]


@pytest.mark.parametrize("unit", [b"data: x\n", b"x", b"data: " + b"x" * 1000 + b"\n"])
def test_an_event_without_an_end_is_refused(unit: bytes) -> None:
    """A bound on what waits for the end of an event."""

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield unit * 1000

    async def main() -> None:
        async for _ in event_data(parts(), 1_000_000):
            raise AssertionError("an event")

    with pytest.raises(LineTooLong):
        asyncio.run(main())
