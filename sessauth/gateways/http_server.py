"""HTTP servers of gateways: what is listened on, errors of a request, and bodies within a bound.

Served with uvicorn, which is imported when a server is made.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError, UsageError
from ..guard.asgi import Incoming, Receive, Send, TooLarge
from ..server.sections import is_loopback

if TYPE_CHECKING:
    import uvicorn

PLAIN: Final = "text/plain; charset=utf-8"
RECEIVE_SECONDS: Final = 10.0


class FaultyRequest(Exception):
    """An answer that is an error of the request."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


async def respond(send: Send, status: int, text: str, headers: Mapping[str, str]) -> None:
    """Send an answer of ASGI; its length is added."""
    body = text.encode()
    sent = {**headers, "content-length": str(len(body))}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in sent.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


async def read_body(
    headers: Mapping[str, Sequence[str]], receive: Receive, most: int, seconds: float = RECEIVE_SECONDS
) -> bytes:
    """Return a body of at most ``most`` bytes that came in time. Raises FaultyRequest, or Gone."""
    if "content-length" in headers and "transfer-encoding" in headers:
        # A proxy in front may have read the other length (RFC 9112, section 6.1).
        raise FaultyRequest(400, "body: it has a content-length and a transfer-encoding; send one of them")
    try:
        async with asyncio.timeout(seconds):
            return await Incoming(receive, most).read()
    except TooLarge as error:
        raise FaultyRequest(413, str(error)) from None
    except TimeoutError:
        raise FaultyRequest(408, "the body did not come in time") from None


MAX_CONNECTIONS: Final = 512
KEEP_ALIVE_SECONDS: Final = 30
GRACE_SECONDS: Final = 2
BACKLOG: Final = 256


def bind(address: str, *, reachable: bool = False) -> socket.socket:
    """Return a listening socket for a path, or for HOST:PORT.

    A socket at a path is open to its owner and group. ``reachable`` permits a host that others reach.

    Raises:
        UsageError: for an address of another form, or a host that others reach.
        ConfigError: if it can't be listened on.
    """
    host, colon, port = address.rpartition(":")
    try:
        if "/" in address or not colon:
            return _bind_path(Path(address.removeprefix("unix:")).absolute())
        host = host.strip("[]")
        if not port.isdecimal() or int(port) > 65_535:
            raise UsageError(f"listen: {address} is no path and no HOST:PORT")
        if not reachable and not is_loopback(host):
            raise UsageError(
                f"listen: others reach {address}: give a TLS certificate and callers' credentials"
            )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(f"listen: {address} can't be listened on: {error.strerror}") from None
    return bound


def address_of(bound: socket.socket) -> str:
    """Return the address of a listening socket, with its port."""
    name: Any = bound.getsockname()
    if bound.family is socket.AF_UNIX:
        return str(name)
    return f"[{name[0]}]:{name[1]}" if bound.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def release(bound: socket.socket, address: str) -> None:
    """Close the socket that listened at ``address``, if it is open still, and remove its path."""
    bound.close()
    if address.startswith("/"):
        Path(address).unlink(missing_ok=True)


def server_of(app: Any, *, certificate: Path | None = None, key: Path | None = None) -> uvicorn.Server:
    """Return a uvicorn server for an application.

    Raises:
        ConfigError: if uvicorn is not installed, or the certificate can't be used.
    """
    try:
        import uvicorn
    except ImportError:
        raise ConfigError("uvicorn is not installed: pip install 'uvicorn>=0.30'") from None

    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except OSError as error:
        raise ConfigError(f"tls: the certificate or its key can't be used: {error.strerror}") from None
    return uvicorn.Server(config)


def _bind_path(path: Path) -> socket.socket:
    """Bind a path that is free, or was left by a process that is gone."""
    bound = socket.socket(socket.AF_UNIX)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            if path.is_socket():
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()
        before = os.umask(0o117)
        try:
            bound.bind(str(path))
        finally:
            os.umask(before)
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
