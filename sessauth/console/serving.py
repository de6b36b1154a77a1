"""Serves the console on loopback with uvicorn, and prints links to log in."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..clock import SystemClock
from ..errors import ConfigError
from .app import application
from .logins import Logins
from .parts import ConsoleTerms

if TYPE_CHECKING:
    from ..client import AsyncClient

HOST: Final = "127.0.0.1"
GRACE_SECONDS: Final = 1
MAX_CONNECTIONS: Final = 128
# Time for the complete head of a request, then the connection is closed. Of too many, the oldest are closed.
HEAD_SECONDS: Final = 5
MAX_SILENT: Final = 32
# Linux's table of connections: local end, remote end, state, …, user.
SOCKETS: Final = Path("/proc/net/tcp")
_ESTABLISHED: Final = "01"
# Interval at which a process in the background checks the terminal.
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
    """Serve until SIGTERM or Ctrl-C; ``bound`` is closed at the end.

    ``announce`` gets each one-time link: one at once, and one for each Enter and SIGUSR1. A login counts for
    ``login_ms``.
    """
    port = bound.getsockname()[1]
    logins = Logins(SystemClock(), login_ms=login_ms)
    app = application(connect, logins, host_headers(port), terms, stopping=lambda: server.should_exit)
    server = server_of(app)

    def link() -> None:
        announce(f"http://{HOST}:{port}/login/{logins.new_link()}")

    def entered() -> None:
        loop = asyncio.get_running_loop()
        try:
            typed = os.read(sys.stdin.fileno(), 1024)
        except OSError:
            # Another command has the terminal, and gets the keys that are typed.
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


class LoopbackProtocol(H11Protocol):
    """HTTP/1.1 of a port that every user of the machine reaches.

    It knows the user at the other end. Connections that wait for a request end soon, and the oldest give way.
    """

    _silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the user, and wait for a request."""
        super().connection_made(transport)
        ends = (transport.get_extra_info(name) for name in ("peername", "sockname"))
        self.app_state = {**self.app_state, "peer_uid": connected_uid(*ends)}
        self._note()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        super().data_received(data)
        self._note()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._note()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _note(self) -> None:
        """Have the connection end if it waits for a request too long, or with too many others."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            self._stop_waiting()
        elif self._silence is None:
            self._silence = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
            silent = {
                each: each._silence.when()
                for each in self.connections
                if isinstance(each, LoopbackProtocol) and each._silence
            }
            if len(silent) > MAX_SILENT:
                min(silent, key=silent.__getitem__).transport.abort()

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None


def connected_uid(peer: tuple[str, int], own: tuple[str, int]) -> int | None:
    """Return the user at the other end of a connection over loopback, None where the system does not say.

    A connection that the other end has begun to close has none: its user is not stated any more.
    """
    try:
        table = SOCKETS.read_text().splitlines()[1:]
    except OSError:
        return None
    ends = [
        f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"
        for host, port in (peer, own)
    ]
    found = (line.split() for line in table)
    return next((int(each[7]) for each in found if each[1:4] == [*ends, _ESTABLISHED]), None)


def server_of(app: ASGIApp) -> uvicorn.Server:
    """Return the server of an application."""
    config = uvicorn.Config(
        app,
        http=LoopbackProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        # Anybody who reaches the port could fill the terminal, which shows the links, with warnings.
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def host_headers(port: int) -> list[str]:
    """Return the values of the header Host that browsers send to a port of loopback."""
    # The port of the scheme is left out.
    return [name if port == 80 else f"{name}:{port}" for name in (HOST, "localhost")]
