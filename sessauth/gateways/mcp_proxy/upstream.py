"""Connections to an MCP server: a process started here, or streamable HTTP.

A child process exchanges lines over its pipes, in a process group of its own, and ends with the proxy.

A remote server gets a POST for each message and answers with JSON or with server-sent events. Versions of the
protocol before 2026-07-28 have HTTP sessions, and a separate stream for messages that the server begins; from
then on a request states its version, its method and its tool in headers too.

Requests are HTTP/1.1 over asyncio, with bounded answers and no redirects. Each has a connection of its own:
one that is used again may be closed at that moment, and a request that was perhaps received must not be
repeated, since a tool could run twice.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
import signal
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

from ...decisions.tool_catalog import TOOLS_CALL
from ...errors import UsageError
from ...guard.mcp_terms import VERSION, meta_of
from ...server.sections import is_loopback
from .messages import (
    MAX_SERVER_LINE,
    BadMessage,
    Key,
    Kind,
    LineTooLong,
    Message,
    error_line,
    key_of,
    message_line,
    read_lines,
    read_server,
)

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


CONNECT_S: Final = 10.0
_MAX_HEAD: Final = 65_536
_READ: Final = 65_536


class HttpError(OSError):
    """The server could not be reached, or did not answer in HTTP."""


@dataclass(frozen=True, slots=True)
class Url:
    """The address of a server."""

    host: str
    port: int
    path: str
    tls: bool

    @classmethod
    def parse(cls, text: str, *, insecure: bool = False) -> Self:
        """Read an address. Raises UsageError, also for HTTP to another host unless ``insecure``."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise UsageError("--url: is no address") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not text.isascii():
            raise UsageError("--url: is no address of http or https")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise UsageError("--url: has a user, a password or a fragment; give secrets in --header-file")
        if any(char <= " " for char in text):
            raise UsageError("--url: has a space or a control character")
        tls = parts.scheme == "https"
        if not tls and not insecure and not is_loopback(parts.hostname):
            raise UsageError("--url: is not https, and shows all to the network; --insecure-tcp permits it")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, port or (443 if tls else 80), path, tls)

    @property
    def authority(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@dataclass(eq=False)
class Answer:
    """An answer whose body is read as it comes; close it. Names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def media_type(self) -> str:
        """The type of the content, in lower case, without parameters."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    async def parts(self) -> AsyncIterator[bytes]:
        """Iterate over the body. Raises HttpError if it ends early."""
        try:
            if self.status in (204, 304):
                return
            if "transfer-encoding" in self.headers:
                async for part in self._chunks():
                    yield part
            elif "content-length" in self.headers:
                rest = _number(self.headers["content-length"], 10)
                while rest:
                    part = await self.reader.read(min(rest, _READ))
                    if not part:
                        raise HttpError("the answer ended early")
                    rest -= len(part)
                    yield part
            else:
                while part := await self.reader.read(_READ):
                    yield part
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            raise HttpError("the answer is no HTTP") from None

    async def body(self, limit: int) -> bytes:
        """Return the whole body. Raises HttpError beyond ``limit`` bytes."""
        data = bytearray()
        async for part in self.parts():
            data += part
            if len(data) > limit:
                raise HttpError(f"the answer has more than {limit} bytes")
        return bytes(data)

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            head = await self.reader.readuntil(b"\r\n")
            rest = _number(head.split(b";")[0].strip().decode("ascii", "replace"), 16)
            if not rest:
                return
            while rest:
                part = await self.reader.read(min(rest, _READ))
                if not part:
                    raise HttpError("the answer ended early")
                rest -= len(part)
                yield part
            if await self.reader.readexactly(2) != b"\r\n":
                raise HttpError("the answer is no HTTP")


async def exchange(
    url: Url, method: str, headers: Mapping[str, str], body: bytes = b"", *, tls: ssl.SSLContext | None = None
) -> Answer:
    """Send a request; return the answer once its head is there. Raises HttpError."""
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(url.host, url.port, ssl=tls, limit=_MAX_HEAD)
    except (OSError, TimeoutError) as error:
        raise HttpError(f"no connection: {type(error).__name__}") from None
    try:
        fields = {**headers, "Host": url.authority, "Connection": "close", "Accept-Encoding": "identity"}
        if method == "POST":
            fields["Content-Length"] = str(len(body))
        lines = [f"{method} {url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await writer.drain()
        status = 100
        while 100 <= status < 200:
            status, answer_headers = _head(await reader.readuntil(b"\r\n\r\n"))
        return Answer(status, answer_headers, reader, writer)
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        writer.close()
        if isinstance(error, HttpError):
            raise
        raise HttpError(f"no answer in HTTP: {type(error).__name__}") from None
    except BaseException:
        writer.close()
        raise


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = data.decode("latin-1")[:-4].split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or len(parts[1]) != 3:
        raise HttpError("the answer is no HTTP")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
            raise HttpError("the answer is no HTTP")
        if headers.setdefault(name, value) != value and name in _ONCE:
            raise HttpError(f"the answer has two headers {name}")
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked" or "content-length" in headers:
            raise HttpError("the answer's length is not clear")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpError("the answer is compressed, which was not permitted")
    return _number(parts[1], 10), headers


_ONCE: Final = frozenset({"content-length", "transfer-encoding", "content-type", "mcp-session-id"})


def _number(text: str, base: int) -> int:
    digits = "0123456789abcdef"[:base]
    if not 0 < len(text) <= 12 or not set(text.lower()) <= set(digits):
        raise HttpError("the answer has a length that is no number")
    return int(text, base)


_INTERNAL: Final = -32603
_POST_S: Final = 30.0
_RECONNECT_S: Final = 1.0
_TYPES: Final = "application/json, text/event-stream"
# The parameter that is repeated in the header Mcp-Name.
_NAMES: Final = {TOOLS_CALL: "name", "prompts/get": "name", "resources/read": "uri"}
_SENTINEL: Final = re.compile(r"=\?base64\?.*\?=")
_PLAIN: Final = re.compile(r"[\x20-\x7e]*")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

_log: Final = logging.getLogger(__name__)


class Remote:
    """A connection to a server of streamable HTTP."""

    def __init__(self, url: Url, headers: Mapping[str, str], tls: ssl.SSLContext | None = None) -> None:
        """Prepare; nothing is sent before the first message. ``headers`` are sent with each request."""
        self._url = url
        self._fixed = headers
        self._tls = tls if tls is not None or not url.tls else ssl.create_default_context()
        self._queue: asyncio.Queue[bytes | LineTooLong | None] = asyncio.Queue(maxsize=64)
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: dict[Key, asyncio.Task[None]] = {}
        self._session = ""
        self._version = ""
        self._initialize: Key | None = None
        self._listens = False
        # Of each tool, the places of arguments that are in headers too.
        self._mirrored: dict[str, dict[tuple[str, ...], str]] = {}

    async def send(self, message: Message) -> None:
        """Send a message; the answer to a request comes by :meth:`lines`. Raises HttpError."""
        modern = meta_of(message.params).get(VERSION)
        if message.kind is Kind.REQUEST:
            if message.method == "initialize":
                self._session = self._version = ""
                self._initialize = message.key
            task = self._run(self._request(message, modern))
            self._requests[message.key] = task
            task.add_done_callback(lambda _: self._requests.pop(message.key, None))
            return
        if message.method == "notifications/cancelled":
            task_of = self._requests.get(key_of(message.params.get("requestId", 0)))
            if task_of is not None and not self._version:
                # From 2026-07-28 on the end of its connection cancels a request.
                task_of.cancel()
                return
        async with asyncio.timeout(_POST_S):
            answer = await self._post(message, None)
            answer.close()
        if message.method == "notifications/initialized" and not self._listens:
            self._listens = True
            self._run(self._listen())

    async def lines(self) -> AsyncIterator[bytes]:
        """Iterate over the server's messages until it is closed."""
        while (item := await self._queue.get()) is not None:
            if isinstance(item, LineTooLong):
                raise item
            yield item

    def end_input(self) -> None:
        """Do nothing: a server is not told."""

    async def close(self) -> None:
        """Give up the requests in progress, and end the server's session."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session:
            try:
                async with asyncio.timeout(2):
                    answer = await exchange(self._url, "DELETE", self._headers(), tls=self._tls)
                answer.close()
            except (OSError, TimeoutError):
                _log.info("the server's session was not ended: no answer")
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def _request(self, message: Message, modern: object) -> None:
        try:
            answer = await self._post(message, modern if isinstance(modern, str) else None)
            try:
                if await self._take(answer, message):
                    return
                failure = f"the server answered HTTP {answer.status} and no message"
            finally:
                answer.close()
        except (OSError, TimeoutError) as error:
            failure = f"the server did not answer: {str(error) or type(error).__name__}"
        except LineTooLong as error:
            await self._queue.put(error)
            return
        _log.warning("%s", failure)
        await self._queue.put(error_line(message.id, _INTERNAL, failure).encode())

    async def _post(self, message: Message, modern: str | None) -> Answer:
        headers = {**self._headers(), "Content-Type": "application/json", "Accept": _TYPES}
        if modern is not None:
            headers.update(self._routing(message, modern))
        return await exchange(self._url, "POST", headers, message.text.encode(), tls=self._tls)

    async def _take(self, answer: Answer, request: Message) -> bool:
        """Queue the messages of an answer to a request; return True if its response was among them."""
        if answer.media_type == "text/event-stream" and answer.status == 200:
            async for data in event_data(answer.parts(), MAX_SERVER_LINE):
                if await self._received(data, answer, request):
                    return True
            return False
        if answer.media_type == "application/json":
            return await self._received(await answer.body(MAX_SERVER_LINE), answer, request)
        return False

    async def _received(self, data: bytes, answer: Answer, request: Message) -> bool:
        """Queue a message; return True if it is the response to ``request``."""
        try:
            message = read_server(data)
        except BadMessage:
            error = _error_without_id(data)
            if error is None:
                await self._queue.put(data)
                return False
            await self._queue.put(message_line(id=request.id, error=error).encode())
            return True
        if message.kind is Kind.RESPONSE:
            if message.key != request.key:
                _log.warning("the server answered another request; dropped")
                return False
            result = message.value.get("result", {})
            if message.key == self._initialize:
                self._version = _short(result.get("protocolVersion"))
                self._session = _short(answer.headers.get("mcp-session-id"))
                self._initialize = None
            if isinstance(result.get("tools"), list):
                for tool in result["tools"]:
                    if isinstance(tool, dict) and isinstance(tool.get("name"), str):
                        self._mirrored[tool["name"]] = dict(_annotated(tool.get("inputSchema"), ()))
        await self._queue.put(message.text.encode())
        return message.kind is Kind.RESPONSE

    async def _listen(self) -> None:
        """Read the stream of messages that the server begins, as long as it has one."""
        while True:
            try:
                headers = {**self._headers(), "Accept": "text/event-stream"}
                answer = await exchange(self._url, "GET", headers, tls=self._tls)
                try:
                    if answer.status != 200 or answer.media_type != "text/event-stream":
                        return
                    async for data in event_data(answer.parts(), MAX_SERVER_LINE):
                        await self._queue.put(data)
                finally:
                    answer.close()
            except OSError as error:
                _log.info("the server's own stream ended: %s", error)
            except LineTooLong as error:
                await self._queue.put(error)
                return
            await asyncio.sleep(_RECONNECT_S)

    def _headers(self) -> dict[str, str]:
        headers = dict(self._fixed)
        if self._session:
            headers["Mcp-Session-Id"] = self._session
        if self._version:
            headers["MCP-Protocol-Version"] = self._version
        return headers

    def _routing(self, message: Message, version: str) -> dict[str, str]:
        """Return the headers that repeat parts of the body, from 2026-07-28 on."""
        params = message.params
        headers = {"MCP-Protocol-Version": version, "Mcp-Method": message.method}
        name = params.get(_NAMES.get(message.method, ""))
        if isinstance(name, str):
            headers["Mcp-Name"] = name
            if message.method == TOOLS_CALL:
                for path, header in self._mirrored.get(name, {}).items():
                    value: Any = params.get("arguments")
                    for step in path:
                        value = value.get(step) if isinstance(value, dict) else None
                    if isinstance(value, str | int | float):
                        text = str(value).lower() if isinstance(value, bool) else str(value)
                        headers[f"Mcp-Param-{header}"] = text
        return {header: _header_value(value) for header, value in headers.items()}

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _annotated(schema: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Iterate over the properties of a schema that ``x-mcp-header`` puts into headers too."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    for name, inner in properties.items() if isinstance(properties, dict) and len(path) < 8 else ():
        header = inner.get("x-mcp-header") if isinstance(inner, dict) else None
        if isinstance(header, str) and _TOKEN.fullmatch(header):
            yield (*path, name), header
        yield from _annotated(inner, (*path, name))


def _header_value(text: str) -> str:
    if _PLAIN.fullmatch(text) and text == text.strip() and not _SENTINEL.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode('utf-8', 'surrogatepass')).decode()}?="


def _short(value: object) -> str:
    """Return a text that is allowed in a header; empty for anything else."""
    return value if isinstance(value, str) and len(value) <= 1024 and _PLAIN.fullmatch(value) else ""


def _error_without_id(data: bytes) -> dict[str, Any] | None:
    """Return the error of a response that a server gave before it read the id."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    error = value.get("error") if isinstance(value, dict) and value.get("id") is None else None
    return error if isinstance(error, dict) and "method" not in value else None
