"""``sessauth mcp`` and ``sessauth catalogue``: guard an MCP server without changing it.

``mcp guard`` runs the proxy on standard input and output. ``catalogue`` pins the tools of a server, shows
them, and lists later changes. A command names the server as a command after ``--``, or as an address.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ...decisions.tool_catalog import ToolCatalog
from ...errors import UsageError
from ...tokens.prover import HolderKey
from ...tokens.token import Token
from .. import output
from ..context import Settings, with_settings
from ..io import MAX_CATALOGUE_BYTES, read_bytes, read_catalogue, read_text, read_token, with_options
from ..params import FILE, PATH, examples, judge_state_option

if TYPE_CHECKING:
    from ...gateways.mcp_proxy.messages import Upstream
    from ...gateways.mcp_proxy.serve import Standing

MAX_HEADERS: Final = 32
# Headers that the proxy makes itself.
_OWN_HEADERS: Final = {"host", "connection", "content-length", "content-type", "transfer-encoding", "accept"}

server_options = with_options(
    click.option("--url", default="", help="A server of streamable HTTP, instead of a command."),
    click.option(
        "--header-file",
        default="",
        type=FILE,
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
        from ...gateways.mcp_proxy.upstream import Remote, Url

        headers = _headers(read_text(header_file, "--header-file")) if header_file else {}
        return Remote(Url.parse(url, insecure=settings.insecure_tcp), headers)
    if header_file:
        raise UsageError("--header-file: is for --url")
    from ...gateways.mcp_proxy.upstream import Child

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


@click.group()
def mcp() -> None:
    """Guard a server of MCP for any client."""


@mcp.command(
    epilog=examples(
        "mcp guard --token-file agent.token --catalogue files.json -- mcp-server-filesystem /srv/files"
    )
)
@click.option("--token-file", required=True, type=FILE, help="The token that every call is checked by.")
@click.option("--catalogue", required=True, type=FILE, help="The pinned tools, from 'catalogue pin'.")
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
@click.option(
    "--record-arguments",
    "arguments_file",
    type=PATH,
    metavar="FILE",
    help="Append the arguments of each checked call to this file, for 'audit replay --arguments'.",
)
@server_options
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
    arguments_file: Path | None,
    url: str,
    header_file: str,
    command: Sequence[str],
) -> None:
    """Guard the connection of a client on standard input and output to an MCP server.

    The server is a command, started here, or --url. Lists are filtered and calls checked. Exits with 0
    when the client ends, with 1 when the token is refused or its session ends, with 4 when the server ends.
    """
    from ...gateways.mcp_proxy.serve import ArgumentFile, ConnectionEnd, is_final, serve
    from ...guard import Guard

    if token_file == "-":
        raise UsageError("--token-file: standard input is the client's; give a file")
    if approval_url and not approval_url.startswith(("https://", "http://")):
        raise UsageError("--approval-url: is no address of http or https")
    token = read_token(token_file)
    # Only the token to present: a command line that a client starts passes nothing on.
    presented = token.present() if token.is_open else token
    pinned = read_catalogue(catalogue, "--catalogue")
    holder = HolderKey.load(holder_file) if holder_file is not None else None
    log = log_to_stderr()
    recorded = ArgumentFile(arguments_file, "--record-arguments") if arguments_file is not None else None

    async def run() -> ConnectionEnd:
        async with _verifier(settings, state, audience, holder) as verifier:
            standing = _standing(verifier, presented, audience)
            reason, stage = await standing()
            if is_final(reason, stage) and not observe:
                log.warning("the token is refused: %s at stage %s", reason.name, stage.name.lower())
                return ConnectionEnd.SESSION
            upstream = await open_upstream(settings, url, header_file, command)
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
                on_arguments=recorded.record if recorded is not None else None,
                interval_s=0.25 if state is not None else 1.0,
            )

    ending = asyncio.run(run())
    codes = {
        ConnectionEnd.SESSION: output.DENIED,
        ConnectionEnd.SERVER: output.UNAVAILABLE,
        ConnectionEnd.BROKEN: output.USAGE,
    }
    if code := codes.get(ending, output.OK):
        click.get_current_context().exit(code)


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
    # A survey checks the token first, and is not recorded.
    asked = [("read", "mcp")]

    async def standing() -> tuple[Any, Any]:
        if isinstance(verifier, BaseVerifier):
            verdicts = verifier.list_allowed(token, asked, **options)
        else:
            verdicts = await asyncio.to_thread(verifier.list_allowed, token, asked, **options)
        return verdicts.reason, verdicts.stage

    return standing


Definitions = list[dict[str, Any]]

_tools_option = click.option(
    "--tools",
    "files",
    multiple=True,
    type=FILE,
    help="A tools/list answer, a list of tools or one tool, as JSON, instead of a server. Repeat it.",
)
_source_options = with_options(_tools_option, server_options)
_NO_LIST: Final = "--tools: {} holds no tool of MCP: neither a tools/list answer, nor a list, nor one tool"


@click.group()
def catalogue() -> None:
    """Pin the tools of a server of MCP: which of them read and which write."""


@catalogue.command(
    epilog=examples("catalogue pin files --out files.json -- mcp-server-filesystem /srv/files")
)
@click.argument("server")
@click.option("--out", type=PATH, help="Write the catalogue to this file, in the place of one that is there.")
@click.option(
    "--correct",
    "corrections",
    multiple=True,
    metavar="TOOL=read|write",
    help="Your word on a tool, against the server's. Repeat it.",
)
@_source_options
@with_settings
def pin(
    settings: Settings,
    /,
    server: str,
    out: Path | None,
    corrections: Sequence[str],
    files: Sequence[str],
    url: str,
    header_file: str,
    command: Sequence[str],
) -> None:
    """Make the catalogue of SERVER, its name in resources as in read:mcp/SERVER/*.

    The tools are those that a command or --url lists, or --tools holds. Prints the catalogue, or writes
    it to --out and shows it; corrections in the file that it replaces hold for tools that did not change.
    """
    from ...gateways.mcp_proxy.listing import definition_warnings, keep_corrections, pinned

    wanted = _corrections(corrections)
    before = read_catalogue(str(out), "--out") if out is not None and out.exists() else None
    if before is not None and before.server != server:
        raise UsageError(f"--out: {out} is the catalogue of {before.server}; remove it first")
    definitions = _definitions(settings, files, url, header_file, command)
    now, problems = pinned(server, definitions)
    for problem in problems:
        output.warn(f"left out: {problem}")
    if before is not None:
        now, dropped = keep_corrections(before, now)
        for name in dropped:
            output.warn(f"no longer corrected, since its definition is another: {output.printable(name)}")
    now = now.corrected(wanted)
    for warning in definition_warnings(now, definitions):
        output.warn(output.printable(warning))
    if out is None:
        click.echo(now.to_json(), nl=False)
        return
    _write(out, now.to_json())
    _show(settings, now, out)


@catalogue.command(epilog=examples("catalogue diff files.json -- mcp-server-filesystem /srv/files"))
@click.argument("file", type=FILE)
@_source_options
@with_settings
def diff(
    settings: Settings, /, file: str, files: Sequence[str], url: str, header_file: str, command: Sequence[str]
) -> None:
    """Show the tools that a server added, dropped or changed since the catalogue in FILE was made.

    Exits with 1 if there are any.
    """
    from ...gateways.mcp_proxy.listing import differences, pinned

    before = read_catalogue(file, "FILE")
    now, problems = pinned(before.server, _definitions(settings, files, url, header_file, command))
    for problem in problems:
        output.warn(f"can't be pinned: {problem}")
    found = differences(before, now)
    document = [{"name": each.name, "difference": str(each).split()[0]} for each in found]
    settings.show(
        {"server": now.server, "tools": len(now), "differences": document},
        [output.printable(str(each)) for each in found] or ["nothing differs"],
        ok=not found,
    )


@catalogue.command(epilog=examples("catalogue show files.json"))
@click.argument("file", type=PATH)
@with_settings
def show(settings: Settings, /, file: Path) -> None:
    """Show the tools of the catalogue in FILE."""
    _show(settings, read_catalogue(str(file), "FILE"), file)


def _definitions(
    settings: Settings, files: Sequence[str], url: str, header_file: str, command: Sequence[str]
) -> Definitions:
    """Return the definitions of the source that the options name."""
    from ...gateways.mcp_proxy.listing import list_tools

    if files:
        if url or header_file or command:
            raise UsageError("--tools: give it, or a server, not both")
        return [each for file in files for each in _from_file(file)]

    async def run() -> Definitions:
        return await list_tools(await open_upstream(settings, url, header_file, command))

    if not (url or command):
        raise UsageError("give a command after --, --url or --tools")
    log_to_stderr()
    return asyncio.run(run())


def _from_file(source: str) -> Definitions:
    data = read_bytes(source, "--tools", MAX_CATALOGUE_BYTES)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--tools: {source} is no JSON: {error}") from None
    # An answer as it is on the wire, and its result.
    for member in ("result", "tools"):
        if isinstance(found, Mapping) and member in found:
            found = found[member]
    if isinstance(found, Mapping):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(each, dict) and "name" in each for each in found):
        raise UsageError(_NO_LIST.format(source))
    return found


def _corrections(stated: Sequence[str]) -> dict[str, str]:
    corrections = {}
    for text in stated:
        # A name may have an equals sign in it.
        name, equals, action = text.rpartition("=")
        if not equals or action not in ("read", "write"):
            raise UsageError(f"--correct: {text!a} is not TOOL=read or TOOL=write")
        corrections[name] = action
    return corrections


def _show(settings: Settings, pinned: ToolCatalog, file: Path) -> None:
    tools = [tool for name in pinned if (tool := pinned.tool(name)) is not None]
    words = ("destructive", "idempotent", "open_world", "corrected")
    rows = []
    for tool in tools:
        notes = (
            "destructive" if tool.destructive else "",
            "open world" if tool.open_world else "",
            "corrected" if tool.corrected else "",
        )
        rows.append((tool.name, tool.action, ", ".join(filter(None, notes))))
    settings.show(
        {
            "server": pinned.server,
            "file": str(file),
            "tools": [
                {"name": tool.name, "action": tool.action, **{word: getattr(tool, word) for word in words}}
                for tool in tools
            ],
        },
        [
            *output.table(("TOOL", "ACTION", ""), rows),
            "",
            f"{len(tools)} tools of {pinned.server}, in {file}",
        ],
    )


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
