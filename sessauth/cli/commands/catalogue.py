"""``sessauth catalogue``: pin the tools of an MCP server, show them, and list later changes."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from ...decisions.tool_catalog import ToolCatalog
from ...errors import UsageError
from .. import output
from ..call_options import with_options
from ..context import Settings, with_settings
from ..io import MAX_CATALOGUE_BYTES, read_bytes, read_catalogue
from ..mcp_upstream import log_to_stderr, open_upstream, server_options
from ..params import PATH

Definitions = list[dict[str, Any]]

_tools_option = click.option(
    "--tools",
    "files",
    multiple=True,
    metavar="FILE",
    help="A tools/list answer, a list of tools or one tool, as JSON, instead of a server. Repeat it.",
)
_source_options = with_options(_tools_option, server_options)
_NO_LIST: Final = "--tools: {} holds no tool of MCP: neither a tools/list answer, nor a list, nor one tool"


@click.group()
def catalogue() -> None:
    """Pin the tools of a server of MCP: which of them read and which write."""


@catalogue.command()
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
    from ...gateways.mcp_proxy.definition_warnings import definition_warnings
    from ...gateways.mcp_proxy.pin import keep_corrections, pinned

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


@catalogue.command()
@click.argument("file")
@_source_options
@with_settings
def diff(
    settings: Settings,
    /,
    file: str,
    files: Sequence[str],
    url: str,
    header_file: str,
    command: Sequence[str],
) -> None:
    """Show the tools that a server added, dropped or changed since the catalogue in FILE was made.

    Exits with 1 if there are any.
    """
    from ...gateways.mcp_proxy.pin import differences, pinned

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


@catalogue.command()
@click.argument("file", type=PATH)
@with_settings
def show(settings: Settings, /, file: Path) -> None:
    """Show the tools of the catalogue in FILE."""
    _show(settings, read_catalogue(str(file), "FILE"), file)


def _definitions(
    settings: Settings, files: Sequence[str], url: str, header_file: str, command: Sequence[str]
) -> Definitions:
    """Return the definitions of the source that the options name."""
    from ...gateways.mcp_proxy.pin import list_tools

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
