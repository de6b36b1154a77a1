"""A server of MCP over streamable HTTP: a POST for each message, answers as JSON or as events.

Protocol versions before 2026-07-28 have sessions of HTTP and a separate stream for messages that the server
begins; from then on a request states its version, its method and its tool in headers too.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from typing import Any, Final

from ...decisions.tool_catalog import TOOLS_CALL
from ...guard.mcp_terms import VERSION, meta_of
from . import http1
from .events import event_data
from .http1 import Answer, Url
from .lines import MAX_SERVER_LINE, LineTooLong
from .messages import BadMessage, Key, Kind, Message, error_line, key_of, line, read_server

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
                    answer = await http1.exchange(self._url, "DELETE", self._headers(), tls=self._tls)
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
        return await http1.exchange(self._url, "POST", headers, message.text.encode(), tls=self._tls)

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
            await self._queue.put(line(id=request.id, error=error).encode())
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
                self._note_mirrored(result["tools"])
        await self._queue.put(message.text.encode())
        return message.kind is Kind.RESPONSE

    async def _listen(self) -> None:
        """Read the stream of messages that the server begins, as long as it has one."""
        while True:
            try:
                headers = {**self._headers(), "Accept": "text/event-stream"}
                answer = await http1.exchange(self._url, "GET", headers, tls=self._tls)
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

    def _note_mirrored(self, tools: list[Any]) -> None:
        for tool in tools:
            if isinstance(tool, dict) and isinstance(tool.get("name"), str):
                self._mirrored[tool["name"]] = dict(_annotated(tool.get("inputSchema"), ()))

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
