"""Serves the console on loopback with uvicorn, and prints links to log in."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import uvicorn

from ..clock import SystemClock
from ..errors import ConfigError
from .app import application
from .logins import LINK_MS, Logins
from .parts import ConsoleTerms

if TYPE_CHECKING:
    from ..client import AsyncClient

HOST: Final = "127.0.0.1"
GRACE_SECONDS: Final = 1
MAX_CONNECTIONS: Final = 128
# In the background the terminal is looked at so often.
BACKGROUND_S: Final = 1


def bind(port: int) -> socket.socket:
    """Return a socket that listens on loopback; port 0: a free one. Raises ConfigError."""
    try:
        return socket.create_server((HOST, port), backlog=64)
    except OSError as error:
        raise ConfigError(f"port: {HOST}:{port} can't be listened on: {error.strerror}") from None


def serve(
    connect: Callable[[], AsyncClient],
    bound: socket.socket,
    terms: ConsoleTerms,
    announce: Callable[[str], None],
    *,
    login_ms: int,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        connect: makes the client.
        bound: the socket; closed at the end.
        terms: of the console.
        announce: gets each one-time link: one at once, and one for each Enter and SIGUSR1.
        login_ms: how long a login counts.
    """
    port = bound.getsockname()[1]
    logins = Logins(SystemClock(), login_ms=login_ms)
    app = application(connect, logins, host_headers(port), terms, stopping=lambda: server.should_exit)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )

    def link() -> None:
        announce(f"http://{HOST}:{port}/login/{logins.new_link()}")

    def entered() -> None:
        loop = asyncio.get_running_loop()
        try:
            typed = os.read(sys.stdin.fileno(), 1024)
        except OSError:
            # Another command has the terminal, and what is typed is for that one.
            loop.remove_reader(sys.stdin)
            loop.call_later(BACKGROUND_S, loop.add_reader, sys.stdin, entered)
            return
        if typed:
            link()
        else:
            loop.remove_reader(sys.stdin)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, link)
        if sys.stdin.isatty():
            # A read in the background then fails, and does not stop the process.
            signal.signal(signal.SIGTTIN, signal.SIG_IGN)
            loop.add_reader(sys.stdin, entered)
        link()
        await server.serve(sockets=[bound])

    # uvicorn raises the signal that ended it once more; without a handler it would end the process.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        asyncio.run(run())
    finally:
        bound.close()


def host_headers(port: int) -> list[str]:
    """Return the values of the header Host that browsers send to a port of loopback."""
    # The port of the scheme is left out.
    return [name if port == 80 else f"{name}:{port}" for name in (HOST, "localhost")]


def minutes_of_a_link() -> int:
    """Return for how many minutes a link counts."""
    return LINK_MS // 60_000
