"""``sessauth mcp``: guard a server of MCP without changing it, and pin its tools."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ...decisions.tool_catalog import ToolCatalog
from ...errors import UsageError
from ...tokens.holder import HolderKey
from ...tokens.token import Token
from .. import failures, output
from ..call_options import with_options
from ..context import Settings, with_settings
from ..io import read_text, read_token
from ..params import PATH, judge_state_option

if TYPE_CHECKING:
    from ...gateways.mcp_proxy.lines import Upstream
    from ...gateways.mcp_proxy.serve import Standing

F = TypeVar("F", bound=Callable[..., Any])

_MAX_HEADERS = 32
# Headers that the proxy makes itself.
_OWN_HEADERS = {"host", "connection", "content-length", "content-type", "transfer-encoding", "accept"}
_server_options = with_options(
    click.option("--url", default="", help="A server of streamable HTTP, instead of a command."),
    click.option(
        "--header-file",
        default="",
        metavar="FILE",
        help="Headers for --url, one 'Name: value' a line, such as the server's own credential.",
    ),
    click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]"),
)


@click.group()
def mcp() -> None:
    """Guard a server of MCP for any client, and pin the tools of one."""


@mcp.command()
@click.option("--token-file", required=True, metavar="FILE", help="The token that every call is judged by.")
@click.option("--catalogue", required=True, metavar="FILE", help="The pinned tools, from 'mcp pin'.")
@click.option("--audience", default="", help="Name of this gateway. Default: the credential's only one.")
@click.option(
    "--holder-key", "holder_file", type=PATH, help="Prove the calls of a bound token with this key."
)
@judge_state_option
@click.option(
    "--approval-url",
    default="",
    metavar="URL",
    help="Where a person approves a call: an address with {session} and {approval} in it.",
)
@click.option("--observe", is_flag=True, help="Let every call pass, and log those that would be denied.")
@_server_options
@with_settings
def guard(
    settings: Settings,
    /,
    token_file: str,
    catalogue: str,
    audience: str,
    holder_file: Path | None,
    state: Path | None,
    approval_url: str,
    observe: bool,
    url: str,
    header_file: str,
    command: Sequence[str],
) -> None:
    """Stand between a client on standard input and output and a server of MCP.

    The server is a command, started here, or --url. Lists are filtered and calls judged. Exits with 0
    when the client ends, with 1 when the token is refused or its session ends, with 4 when the server ends.
    """
    from ...gateways.mcp_proxy.serve import ConnectionEnd, is_final, serve
    from ...guard import Guard

    if token_file == "-":
        raise UsageError("--token-file: standard input is the client's; give a file")
    if approval_url and not approval_url.startswith(("https://", "http://")):
        raise UsageError("--approval-url: is no address of http or https")
    token = read_token(token_file)
    # Only what is presented: a command line that a client starts hands nothing on.
    presented = token.present() if token.is_open else token
    pinned = ToolCatalog.from_json(read_text(catalogue, "--catalogue"))
    holder = HolderKey.load(holder_file) if holder_file is not None else None
    log = _log_to_stderr()

    async def run() -> ConnectionEnd:
        async with _verifier(settings, state, audience, holder) as verifier:
            standing = _standing(verifier, presented, audience)
            reason, stage = await standing()
            if is_final(reason, stage) and not observe:
                log.warning("the token is refused: %s at stage %s", reason.name, stage.name.lower())
                return ConnectionEnd.SESSION
            upstream = await _upstream(settings, url, header_file, command)
            return await serve(
                Guard(
                    verifier,
                    pinned,
                    token=presented,
                    audience=audience,
                    mode="observe" if observe else "enforce",
                    watch=True,
                ),
                pinned,
                upstream,
                standing,
                approval_url=approval_url,
                interval_s=0.25 if state is not None else 1.0,
            )

    ending = asyncio.run(run())
    codes = {
        ConnectionEnd.SESSION: failures.DENIED,
        ConnectionEnd.SERVER: failures.UNAVAILABLE,
        ConnectionEnd.BROKEN: failures.USAGE,
    }
    if code := codes.get(ending, failures.OK):
        click.get_current_context().exit(code)


@mcp.command()
@click.option("--name", default="", help="The server's name in resources, as in read:mcp/NAME/*.")
@click.option("--compare", default="", metavar="FILE", help="An older catalogue: show what differs from it.")
@click.option("--out", type=PATH, help="Write the catalogue to this file, in the place of one that is there.")
@_server_options
@with_settings
def pin(
    settings: Settings,
    /,
    name: str,
    compare: str,
    out: Path | None,
    url: str,
    header_file: str,
    command: Sequence[str],
) -> None:
    """Make the catalogue of a server from the tools that it lists.

    Prints it, or what differs from --compare; then exits with 1 if anything does.
    """
    from ...gateways.mcp_proxy.pin import differences, list_tools, pinned

    before = ToolCatalog.from_json(read_text(compare, "--compare")) if compare else None
    if not (name := name or (before.server if before else "")):
        raise UsageError("--name: give the server's name, which scopes have in mcp/NAME/TOOL")

    async def run() -> list[dict[str, Any]]:
        return await list_tools(await _upstream(settings, url, header_file, command))

    _log_to_stderr()
    now, problems = pinned(name, asyncio.run(run()))
    for problem in problems:
        output.warn(f"left out: {problem}")
    if out is not None:
        _write(out, now.to_json())
    if before is None:
        if out is None:
            click.echo(now.to_json(), nl=False)
        else:
            _show_pinned(settings, now, out)
        return
    found = differences(before, now)
    document = [{"name": each.name, "difference": str(each).split()[0]} for each in found]
    settings.show(
        {"server": now.server, "tools": len(now), "differences": document},
        [output.printable(str(each)) for each in found] or ["nothing differs"],
        ok=not found,
    )


def _show_pinned(settings: Settings, catalogue: ToolCatalog, out: Path) -> None:
    tools = [tool for name in catalogue if (tool := catalogue.tool(name)) is not None]
    rows = [(tool.name, tool.action, "destructive" if tool.destructive else "") for tool in tools]
    settings.show(
        {
            "server": catalogue.server,
            "file": str(out),
            "tools": [{"name": tool.name, "action": tool.action} for tool in tools],
        },
        [*output.table(("TOOL", "ACTION", ""), rows), "", f"written  {out}"],
    )


@contextlib.asynccontextmanager
async def _verifier(
    settings: Settings, state: Path | None, audience: str, holder: HolderKey | None
) -> AsyncIterator[Any]:
    if state is not None:
        if holder is not None:
            raise UsageError("--holder-key excludes --state: it proves for the server's host")
        from ...verifier.verifier import Verifier

        with Verifier.embedded(state, audience=audience) as verifier:
            yield verifier
    else:
        with settings.client(holder) as client:
            yield client


def _standing(verifier: Any, token: Token, audience: str) -> Standing:
    from ...verifier.base import BaseVerifier

    options = {"audience": audience} if audience else {}
    # A survey judges the token first, and is not recorded.
    asked = [("read", "mcp")]

    async def standing() -> tuple[Any, Any]:
        if isinstance(verifier, BaseVerifier):
            verdicts = verifier.list_allowed(token, asked, **options)
        else:
            verdicts = await asyncio.to_thread(verifier.list_allowed, token, asked, **options)
        return verdicts.reason, verdicts.stage

    return standing


async def _upstream(settings: Settings, url: str, header_file: str, command: Sequence[str]) -> Upstream:
    if bool(url) == bool(command):
        raise UsageError("give a command behind --, or --url")
    if url:
        from ...gateways.mcp_proxy.http1 import Url
        from ...gateways.mcp_proxy.remote import Remote

        headers = _headers(read_text(header_file, "--header-file")) if header_file else {}
        return Remote(Url.parse(url, insecure=settings.insecure_tcp), headers)
    if header_file:
        raise UsageError("--header-file: is for --url")
    from ...gateways.mcp_proxy.child import Child

    return await Child.start(command)


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
    if len(headers) > _MAX_HEADERS or any(not value.isprintable() for value in headers.values()):
        raise UsageError(
            f"--header-file: has more than {_MAX_HEADERS} headers, or one with control characters"
        )
    return headers


def _log_to_stderr() -> logging.Logger:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("sessauth: %(message)s"))
    log = logging.getLogger("sessauth")
    log.addHandler(handler)
    log.propagate = False
    return log


def _write(path: Path, text: str) -> None:
    """Write a file whole, in the place of an older one."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        Path(name).replace(path)
    except OSError as error:
        raise UsageError(f"--out: can't write {path}: {error.strerror}") from None
