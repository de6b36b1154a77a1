"""An MCP server, as commands name it: a command after ``--``, or an address."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from ..errors import UsageError
from .call_options import with_options
from .context import Settings
from .io import read_text

if TYPE_CHECKING:
    from ..gateways.mcp_proxy.lines import Upstream

MAX_HEADERS: Final = 32
# Headers that the proxy makes itself.
_OWN_HEADERS: Final = {"host", "connection", "content-length", "content-type", "transfer-encoding", "accept"}

server_options = with_options(
    click.option("--url", default="", help="A server of streamable HTTP, instead of a command."),
    click.option(
        "--header-file",
        default="",
        metavar="FILE",
        help="Headers for --url, one 'Name: value' a line, such as the server's own credential.",
    ),
    click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]"),
)
"""Adds the options and the argument that name a server; :func:`open_upstream` reads them."""


async def open_upstream(settings: Settings, url: str, header_file: str, command: Sequence[str]) -> Upstream:
    """Start the command, or prepare to connect to the address.

    Raises UsageError unless one of the two is given, and for headers that can't be sent.
    """
    if bool(url) == bool(command):
        raise UsageError("give a command after --, or --url")
    if url:
        from ..gateways.mcp_proxy.http1 import Url
        from ..gateways.mcp_proxy.remote import Remote

        headers = _headers(read_text(header_file, "--header-file")) if header_file else {}
        return Remote(Url.parse(url, insecure=settings.insecure_tcp), headers)
    if header_file:
        raise UsageError("--header-file: is for --url")
    from ..gateways.mcp_proxy.child import Child

    return await Child.start(command)


def log_to_stderr() -> logging.Logger:
    """Return the package's log, which goes to standard error from now on: standard output has messages."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("sessauth: %(message)s"))
    log = logging.getLogger("sessauth")
    log.addHandler(handler)
    log.propagate = False
    return log


def _headers(text: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon or not name.replace("-", "").isalnum() or not f"{name}{value}".isascii():
            raise UsageError("--header-file: a line is 'Name: value' in ASCII")
        if name.lower() in _OWN_HEADERS:
            raise UsageError(f"--header-file: {name} is not for you to state")
        headers[name] = value.strip()
    if len(headers) > MAX_HEADERS or any(not value.isprintable() for value in headers.values()):
        raise UsageError(
            f"--header-file: has more than {MAX_HEADERS} headers, or one with control characters"
        )
    return headers
