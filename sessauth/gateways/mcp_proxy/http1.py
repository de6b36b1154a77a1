"""Requests of HTTP/1.1 over asyncio: one connection each, bounded answers, no redirects.

Each request has a connection of its own. A connection that is used again may be closed just then, and a
request that was perhaps received must not be repeated: a tool could run twice.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import urlsplit

from ...errors import UsageError

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
        if not tls and not insecure and not _is_local(parts.hostname):
            raise UsageError("--url: is not https, and shows all to the network; --insecure-tcp permits it")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, port or (443 if tls else 80), path, tls)

    @property
    def authority(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Answer:
    """An answer whose body is read as it comes; close it."""

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Take the head, names in lower case, and the connection after it."""
        self.status = status
        self.headers = headers
        self._reader = reader
        self._writer = writer

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
                    part = await self._reader.read(min(rest, _READ))
                    if not part:
                        raise HttpError("the answer ended early")
                    rest -= len(part)
                    yield part
            else:
                while part := await self._reader.read(_READ):
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
        self._writer.close()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            head = await self._reader.readuntil(b"\r\n")
            rest = _number(head.split(b";")[0].strip().decode("ascii", "replace"), 16)
            if not rest:
                return
            while rest:
                part = await self._reader.read(min(rest, _READ))
                if not part:
                    raise HttpError("the answer ended early")
                rest -= len(part)
                yield part
            if await self._reader.readexactly(2) != b"\r\n":
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
