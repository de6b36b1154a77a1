"""The middleware of the MCP SDK: the eight tests in both protocol generations, in process and over HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the MCP SDK: tests/guard/requirements/latest.txt")

import httpx2
import uvicorn
from mcp import Client
from mcp.client._memory import InMemoryTransport
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError

from sessauth.guard import Guard
from sessauth.guard.mcp import SessauthMiddleware
from sessauth.guard.mcp_client import SessauthAuth, authorized
from sessauth.guard.mcp_terms import Credentials
from sessauth.guard.services.mcp_http import GuardedMcpApp
from tests.guard.eight import EightTests, adapter
from tests.guard.world import World

pytestmark = pytest.mark.filterwarnings("default")


def server(world: World, guard: Guard, **options: Any) -> MCPServer:
    """Return a server with the tools of the world."""
    made = MCPServer("tools", middleware=[SessauthMiddleware(guard, **options)])

    @made.tool()
    def get_weather(city: str) -> str:
        return world.run("get_weather", city=city)

    @made.tool()
    def pay(amount: int) -> str:
        return world.run("pay", amount=amount)

    @made.tool()
    def delete_repo(name: str) -> str:
        return world.run("delete_repo", name=name)

    @made.tool()
    def drop_tables() -> str:
        return world.run("drop_tables")

    return made


class _Text:
    """A token's text, as Credentials takes a token."""

    is_open = False

    def __init__(self, text: str) -> None:
        self.text = text


@asynccontextmanager
async def connected(made: MCPServer, token: str, mode: str, **options: Any) -> AsyncIterator[Client]:
    """Connect in process."""
    transport: Any = InMemoryTransport(made)
    if token:
        transport = authorized(transport, Credentials(_Text(token)))
    async with Client(transport, mode=mode, **options) as client:
        yield client


def shown_by(error: BaseException) -> str:
    """Return what a client shows of an error, out of the groups that anyio makes."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, MCPError), error
    return str(error)


class InProcess(EightTests):
    """A client in process, each of whose messages has the token in ``_meta``."""

    brings_token = True
    mode = "2026-07-28"

    def call(self, world: World, guard: Guard, tool: str, arguments: dict[str, Any], token: str) -> str:
        """Call a tool."""

        async def main() -> str:
            async with self.connect(world, guard, token) as client:
                result = await client.call_tool(tool, arguments)
                return str(result.content[0].text)

        try:
            return asyncio.run(main())
        except (MCPError, BaseExceptionGroup) as error:
            return shown_by(error)

    def listed(self, world: World, guard: Guard, token: str) -> set[str]:
        """List the tools."""

        async def main() -> set[str]:
            async with self.connect(world, guard, token) as client:
                return {tool.name for tool in (await client.list_tools()).tools}

        try:
            return asyncio.run(main())
        except (MCPError, BaseExceptionGroup) as error:
            shown_by(error)
            return set()

    def connect(self, world: World, guard: Guard, token: str) -> Any:
        """Connect a client."""
        return connected(server(world, guard), token, self.mode)


@adapter
class TestInProcess(InProcess):
    """Version 2026-07-28."""


@adapter
class TestInProcessLegacy(InProcess):
    """Version 2025-11-25."""

    mode = "legacy"


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI application in a thread, and return its address."""
    runner = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="none"))
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    try:
        while not runner.started:
            await asyncio.sleep(0.01)
        port = runner.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        runner.should_exit = True
        await asyncio.to_thread(thread.join, 10)


@asynccontextmanager
async def over_http(
    url: str, credentials: Credentials | None, mode: str, **options: Any
) -> AsyncIterator[Client]:
    """Connect over HTTP."""
    auth = SessauthAuth(credentials, origin=url) if credentials is not None else None
    async with (
        httpx2.AsyncClient(auth=auth) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, **options) as client,
    ):
        yield client


class OverHttp(InProcess):
    """Over HTTP, with the token in a header."""

    @asynccontextmanager
    async def connect(self, world: World, guard: Guard, token: str) -> AsyncIterator[Client]:
        """Connect a client."""
        credentials = Credentials(_Text(token)) if token else None
        async with (
            served(GuardedMcpApp(server(world, guard).streamable_http_app(), guard)) as url,
            over_http(url, credentials, self.mode) as client,
        ):
            yield client


@adapter
class TestOverHttp(OverHttp):
    """Version 2026-07-28."""


@adapter
class TestOverHttpLegacy(OverHttp):
    """Version 2025-11-25."""

    mode = "legacy"
