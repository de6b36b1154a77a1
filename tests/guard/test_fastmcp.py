"""The middleware of FastMCP: the eight tests, by its own client and by the SDK's in both generations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("fastmcp", reason="needs FastMCP: tests/guard/requirements/latest.txt")

from fastmcp import Client, FastMCP
from mcp.shared.exceptions import MCPError

from sessauth.guard import Guard
from sessauth.guard.fastmcp import SessauthFastMCPMiddleware
from sessauth.guard.mcp_terms import Credentials
from sessauth.guard.services.mcp_http import GuardedMcpApp
from tests.guard.eight import EightTests, adapter
from tests.guard.test_mcp import InProcess, _Text, over_http, served, shown_by
from tests.guard.world import World

pytestmark = pytest.mark.filterwarnings("default")


def server(world: World, guard: Guard, **options: Any) -> FastMCP[Any]:
    """Return a server with the tools of the world."""
    made = FastMCP("tools", middleware=[SessauthFastMCPMiddleware(guard, **options)])

    @made.tool
    def get_weather(city: str) -> str:
        return world.run("get_weather", city=city)

    @made.tool
    def pay(amount: int) -> str:
        return world.run("pay", amount=amount)

    @made.tool
    def delete_repo(name: str) -> str:
        return world.run("delete_repo", name=name)

    @made.tool
    def drop_tables() -> str:
        return world.run("drop_tables")

    return made


@adapter
class TestInProcess(EightTests):
    """FastMCP's own client in process, and a guard with a token of its own."""

    def call(self, world: World, guard: Guard, tool: str, arguments: dict[str, Any], token: str) -> str:
        """Call a tool."""

        async def main() -> str:
            async with Client(server(world, guard), mode="2026-07-28") as client:
                result = await client.call_tool(tool, arguments, raise_on_error=False)
                return str(result.content[0].text)

        try:
            return asyncio.run(main())
        except (MCPError, BaseExceptionGroup) as error:
            return shown_by(error)

    def listed(self, world: World, guard: Guard, token: str) -> set[str]:
        """List the tools."""

        async def main() -> set[str]:
            async with Client(server(world, guard), mode="2026-07-28") as client:
                return {tool.name for tool in await client.list_tools()}

        try:
            return asyncio.run(main())
        except (MCPError, BaseExceptionGroup) as error:
            shown_by(error)
            return set()


class OverHttp(InProcess):
    """The SDK's client over HTTP, with the token in a header."""

    @asynccontextmanager
    async def connect(self, world: World, guard: Guard, token: str) -> AsyncIterator[Any]:
        """Connect a client."""
        credentials = Credentials(_Text(token)) if token else None
        async with (
            served(GuardedMcpApp(server(world, guard).http_app(path="/mcp"), guard)) as url,
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
