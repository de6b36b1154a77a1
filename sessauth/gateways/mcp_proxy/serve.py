"""Runs the proxy between standard input and output and a server, until one of them or the session ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final

from ...decisions.tool_catalog import ToolCatalog
from ...errors import UsageError
from ...guard import Guard, ToolDenied
from ...reasons import Reason, Stage
from .lines import MAX_CLIENT_LINE, LineTooLong, Upstream, read_lines
from .messages import error_line
from .proxy import McpProxy

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

_log: Final = logging.getLogger(__name__)

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
            guard,
            catalogue,
            to_client,
            upstream.send,
            approval_url=approval_url,
            on_arguments=on_arguments,
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
        except Exception as error:  # noqa: BLE001 - no answer is no end; calls are refused meanwhile
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
