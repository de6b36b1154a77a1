"""Runs the proxy between standard input and output and a server, until one of them or the session ends.

``ArgumentFile`` keeps the arguments of checked calls, for ``audit replay --arguments``: no log holds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import stat
import sys
from collections.abc import Awaitable, Callable
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from typing import Final

from ..._fast._check import masked
from ...decisions.tool_catalog import ToolCatalog
from ...errors import UsageError
from ...guard import Guard, ToolDenied
from ...reasons import Reason, Stage
from .messages import MAX_CLIENT_LINE, LineTooLong, Upstream, error_line, read_lines
from .proxy import McpProxy

# The file stays below this size; later arguments are not recorded.
MAX_BYTES: Final = 256 << 20
# Digests of recorded arguments; a repeated call takes no space again.
MAX_DIGESTS: Final = 65_536
_log: Final = logging.getLogger(__name__)


class ArgumentFile:
    """Appends the JSON of each call, one a line, byte for byte. A call that shows a token is left out."""

    def __init__(self, path: Path, option: str) -> None:
        """Open a file that only its owner may read, or make one.

        Raises:
            UsageError: naming ``option``, if it can't be opened, or others may read it.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._handle = os.open(path, flags, 0o600)
        except OSError as error:
            raise UsageError(f"{option}: can't write {path}: {error.strerror}") from None
        status = os.fstat(self._handle)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            os.close(self._handle)
            raise UsageError(f"{option}: {path} is no file that only its owner may read; it holds arguments")
        self._path = path
        self._size = status.st_size
        self._digests: set[bytes] = set()
        self._full = False

    def record(self, arguments: str) -> None:
        """Append the arguments of a call, as one line of JSON; a disk that fails ends the recording."""
        line = arguments.encode() + b"\n"
        digest = blake2b(line, digest_size=16).digest()
        if self._full or digest in self._digests or line.count(b"\n") > 1 or masked(arguments) != arguments:
            return
        if self._size + len(line) > MAX_BYTES:
            self._stop(f"it holds {MAX_BYTES >> 20} MiB")
            return
        try:
            written = os.write(self._handle, line)
        except OSError as error:
            self._stop(error.strerror or type(error).__name__)
            return
        self._size += written
        if written < len(line):
            self._stop("the disk is full")
        elif len(self._digests) < MAX_DIGESTS:
            self._digests.add(digest)

    def _stop(self, why: str) -> None:
        self._full = True
        _log.warning("arguments are no longer recorded in %s: %s", self._path, why)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


# For answers to requests that the client sent before it ended its input.
_DRAIN_S: Final = 5.0
_SWEEP_S: Final = 0.05
# After these the token can become valid again, or nothing is known of it.
_NOT_FINAL: Final = frozenset(
    {
        *(Reason.ALLOWED, Reason.SESSION_SUSPENDED, Reason.INTERNAL_ERROR, Reason.AUDIT_UNAVAILABLE),
        *(Reason.STALE_STATE, Reason.STATE_BRAKED, Reason.CLOCK_SUSPECT, Reason.NOT_YET_VALID),
    }
)
_TOKEN_STAGES: Final = frozenset(
    {Stage.DECODE, Stage.SESSION, Stage.ISSUER, Stage.SIGNATURE, Stage.TIME, Stage.REVOCATION}
)


Standing = Callable[[], Awaitable[tuple[Reason, Stage]]]
"""Returns the reason and stage at which the token itself is refused, or ALLOWED."""


class ConnectionEnd(Enum):
    """The causes of a connection's end."""

    CLIENT = "the client ended"
    SERVER = "the server ended"
    SESSION = "the token is not valid any more"
    SIGNAL = "a signal"
    BROKEN = "a line was too long"


def is_final(reason: Reason, stage: Stage) -> bool:
    """Return True if a token that is refused so can't become valid again."""
    return reason not in _NOT_FINAL and stage in _TOKEN_STAGES


async def serve(
    guard: Guard,
    catalogue: ToolCatalog,
    upstream: Upstream,
    standing: Standing,
    *,
    approval_url: str = "",
    on_arguments: Callable[[str], None] | None = None,
    interval_s: float = 0.25,
) -> ConnectionEnd:
    """Serve the client on standard input and output; return how the connection ended.

    ``standing`` is asked every ``interval_s`` seconds. ``upstream`` is closed in any case.
    ``on_arguments`` is called with the arguments of each call.
    """
    try:
        reader, writer = await _standard_streams()
        lock, client_ended = asyncio.Lock(), asyncio.Event()

        async def to_client(text: str) -> None:
            async with lock:
                writer.write(text.encode() + b"\n")
                await writer.drain()

        proxy = McpProxy(
            guard, catalogue, to_client, upstream.send, approval_url=approval_url, on_arguments=on_arguments
        )
        ending = await _first(
            _from_client(proxy, reader, upstream, client_ended, to_client),
            _from_server(proxy, upstream),
            _until_ended(guard, standing, interval_s),
            _until_signal(),
        )
        if ending is ConnectionEnd.SERVER and client_ended.is_set():
            ending = ConnectionEnd.CLIENT
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                refusal = (
                    ToolDenied("the connection", "WITHDRAWN") if ending is ConnectionEnd.SESSION else None
                )
                await proxy.close(refusal)
                await writer.drain()
    finally:
        await upstream.close()
    return ending


async def _first(*works: Awaitable[ConnectionEnd]) -> ConnectionEnd:
    """Return the result of the first that ends; the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _from_client(
    proxy: McpProxy,
    reader: asyncio.StreamReader,
    upstream: Upstream,
    ended: asyncio.Event,
    to_client: Callable[[str], Awaitable[None]],
) -> ConnectionEnd:
    try:
        async for line in read_lines(reader):
            try:
                await proxy.client_line(line)
            except (BrokenPipeError, ConnectionError):
                # The server's end is seen by its reader, after its last answers.
                await asyncio.sleep(_DRAIN_S)
                return ConnectionEnd.SERVER
            except OSError as error:
                # One message did not reach a server over HTTP.
                _log.warning("a message of the client could not be sent: %s", type(error).__name__)
    except LineTooLong:
        _log.warning("a line of the client has more than %s bytes", MAX_CLIENT_LINE)
        await to_client(error_line(None, -32700, "the line is too long"))
        return ConnectionEnd.BROKEN
    # Requests sent before the end are still answered. A server whose input ends may be the first to end.
    ended.set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            await proxy.settle()
            upstream.end_input()
            while not proxy.idle:
                await asyncio.sleep(_SWEEP_S)
    return ConnectionEnd.CLIENT


async def _from_server(proxy: McpProxy, upstream: Upstream) -> ConnectionEnd:
    try:
        async for line in upstream.lines():
            try:
                await proxy.server_line(line)
            except (BrokenPipeError, ConnectionError):
                return ConnectionEnd.CLIENT
            except OSError as error:
                _log.warning("an answer to the server could not be sent: %s", type(error).__name__)
    except LineTooLong:
        _log.warning("a line of the server is too long")
        return ConnectionEnd.BROKEN
    return ConnectionEnd.SERVER


async def _until_ended(guard: Guard, standing: Standing, interval_s: float) -> ConnectionEnd:
    while True:
        await asyncio.sleep(interval_s)
        try:
            reason, stage = await standing()
        except Exception as error:  # noqa: BLE001 - a missing answer does not end it; calls are refused meanwhile
            _log.info("no answer about the token: %s", type(error).__name__)
            continue
        if is_final(reason, stage) and not guard.observing:
            _log.warning("the token is not valid any more: %s", reason.name)
            return ConnectionEnd.SESSION


async def _until_signal() -> ConnectionEnd:
    loop = asyncio.get_running_loop()
    received = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, received.set)
    await received.wait()
    return ConnectionEnd.SIGNAL


async def _standard_streams() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_CLIENT_LINE)
    try:
        # Copies, since a transport closes its file.
        source, sink = (
            os.fdopen(os.dup(sys.stdin.fileno()), "rb"),
            os.fdopen(os.dup(sys.stdout.fileno()), "wb"),
        )
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), sink
        )
    except (OSError, ValueError):
        raise UsageError("standard input and output must be pipes, as a client of MCP makes them") from None
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)
