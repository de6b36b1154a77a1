"""The proxy of MCP without a process: what its client and its server get stands in lists."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from sessauth.decisions.tool_catalog import ToolCatalog
from sessauth.gateways.mcp_proxy.messages import Message
from sessauth.gateways.mcp_proxy.proxy import McpProxy
from tests.guard.world import TOOLS, World

# With which the ids of the proxy's own requests begin.
OWN: Final = "sessauth-"


class Proxied:
    """A proxy between a list of what the client gets and a list of what the server gets for it.

    The proxy's own requests for the list of tools stand in ``listings`` and are answered with ``pages``, with
    ``listing`` if that is set, or not at all if ``pages`` is None.
    """

    def __init__(
        self,
        world: World,
        token: Any,
        *,
        failure: OSError | None = None,
        tools: tuple[Mapping[str, Any], ...] = TOOLS,
        **options: Any,
    ) -> None:
        """Put a guard of the world in it; with ``failure`` no message reaches the server."""
        self.client: list[Any] = []
        self.server: list[Any] = []
        self.listings: list[Any] = []
        self.pages: list[list[Any]] | None = [list(tools)]
        self.listing: dict[str, Any] | None = None
        self.attempts = 0
        self._failure = failure
        self.guard = world.guard(token=token, **options)
        catalogue = ToolCatalog.from_mcp("tools", tools)
        self.proxy = McpProxy(self.guard, catalogue, self._to_client, self._to_server)

    async def _to_client(self, text: str) -> None:
        self.client.append(json.loads(text))

    async def _to_server(self, message: Message) -> None:
        own = str(message.id or message.params.get("requestId")).startswith(OWN)
        self.attempts += not own
        if self._failure is not None and not own:
            raise self._failure
        sent = json.loads(message.text)
        if own and message.id:
            self.listings.append(sent)
            await self.list_again(sent)
        elif not own:
            self.server.append(sent)

    async def list_again(self, request: dict[str, Any]) -> None:
        """Answer a request of the proxy's own."""
        if self.pages is None:
            return
        page = int(request["params"].get("cursor", 0))
        more = {"nextCursor": str(page + 1)} if page + 1 < len(self.pages) else {}
        answer = self.listing or {"result": {"tools": self.pages[page], **more}}
        await self.sends(self.proxy.server_line, id=request["id"], **answer)

    async def asks(self, number: int, method: str, params: dict[str, Any] | None = None) -> None:
        """Have the client send a request that is forwarded or refused."""
        count = len(self.client) + len(self.server)
        await self.sends(self.proxy.client_line, id=number, method=method, params=params or {})
        while self._failure is None and len(self.client) + len(self.server) == count:
            await asyncio.sleep(0.01)

    async def answers(self, **message: Any) -> None:
        """Have the server send a message."""
        await self.sends(self.proxy.server_line, **message)
        await asyncio.sleep(0.05)

    async def sends(self, take: Callable[[bytes], Awaitable[None]], **message: Any) -> None:
        """Send a message."""
        await take(json.dumps({"jsonrpc": "2.0", **message}).encode())
