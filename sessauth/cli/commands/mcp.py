"""``sessauth mcp``: guard a server of MCP without changing it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import UsageError
from ...tokens.holder import HolderKey
from ...tokens.token import Token
from .. import failures
from ..context import Settings, with_settings
from ..io import read_catalogue, read_token
from ..mcp_upstream import log_to_stderr, open_upstream, server_options
from ..params import PATH, judge_state_option

if TYPE_CHECKING:
    from ...gateways.mcp_proxy.serve import Standing


@click.group()
def mcp() -> None:
    """Guard a server of MCP for any client."""


@mcp.command()
@click.option("--token-file", required=True, metavar="FILE", help="The token that every call is checked by.")
@click.option("--catalogue", required=True, metavar="FILE", help="The pinned tools, from 'catalogue pin'.")
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
    from ...gateways.mcp_proxy.argument_file import ArgumentFile
    from ...gateways.mcp_proxy.serve import ConnectionEnd, is_final, serve
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
        ConnectionEnd.SESSION: failures.DENIED,
        ConnectionEnd.SERVER: failures.UNAVAILABLE,
        ConnectionEnd.BROKEN: failures.USAGE,
    }
    if code := codes.get(ending, failures.OK):
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
