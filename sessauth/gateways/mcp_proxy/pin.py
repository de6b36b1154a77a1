"""Catalogues made from the servers themselves: the tools of ``tools/list``, and the changes since before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...decisions.catalogue_tool import Tool
from ...decisions.tool_catalog import TOOLS_LIST, ToolCatalog
from ...errors import UsageError
from .lines import LineTooLong, Upstream
from .listing import all_pages
from .messages import METHOD_NOT_FOUND, BadMessage, Kind, Message, error_line, line, read_server

VERSION: Final = "2025-11-25"
MODERN_VERSION: Final = "2026-07-28"
ANSWER_S: Final = 60.0
_CLIENT: Final = {"name": "sessauth", "version": "1"}
_MODERN: Final = {
    "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
    "io.modelcontextprotocol/clientInfo": _CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A tool that is not as it was pinned; None for a tool that is not there."""

    name: str
    before: Tool | None
    now: Tool | None

    def __str__(self) -> str:
        """Describe the change to the tool."""
        if self.before is None or self.now is None:
            known = self.now or self.before
            return f"{'added' if self.now else 'dropped'}  {self.name} ({known.action if known else ''})"
        changed = [
            f"{field} {getattr(self.before, field)} -> {getattr(self.now, field)}"
            for field in ("action", "destructive", "idempotent", "open_world")
            if getattr(self.before, field) != getattr(self.now, field)
        ]
        return f"changed  {self.name} ({', '.join(changed) or 'its definition'})"


def differences(before: ToolCatalog, now: ToolCatalog) -> list[Difference]:
    """Return the tools that are not as they were pinned, by name."""
    return [Difference(name, before.tool(name), now.tool(name)) for name in before.differing(now)]


def keep_corrections(before: ToolCatalog, now: ToolCatalog) -> tuple[ToolCatalog, list[str]]:
    """Return the new catalogue with the older one's corrections, and the tools that lost theirs.

    A correction is the operator's word on one definition: it does not hold for another one.
    """
    corrections, changed = before.corrections(), set(before.differing(now))
    kept = {name: action for name, action in corrections.items() if name not in changed}
    return now.corrected(kept), [name for name in corrections if name in changed]


def pinned(server: str, definitions: Sequence[dict[str, Any]]) -> tuple[ToolCatalog, list[str]]:
    """Return the catalogue of a server, and why each of the other definitions can't be pinned.

    A tool that can't be pinned is not in the catalogue, so every call of it is denied.
    """
    known, problems = {}, []
    for definition in definitions:
        try:
            [name] = ToolCatalog.from_mcp(server, [definition])
        except UsageError as error:
            problems.append(str(error))
            continue
        if name in known:
            raise UsageError(f"the server lists the tool {name!a} twice")
        known[name] = definition
    return ToolCatalog.from_mcp(server, known.values()), problems


async def list_tools(upstream: Upstream) -> list[dict[str, Any]]:
    """Return the definitions that a server gives, all pages of them. Closes the connection.

    Raises UsageError if the server does not answer as one of MCP.
    """
    try:
        async with asyncio.timeout(ANSWER_S):
            return await _Listing(upstream).run()
    except TimeoutError:
        raise UsageError(f"the server did not list its tools within {ANSWER_S:.0f} s") from None
    except (OSError, LineTooLong) as error:
        raise UsageError(f"the server did not list its tools: {str(error) or type(error).__name__}") from None
    finally:
        await upstream.close()


class _Listing:
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._lines: AsyncIterator[bytes] = upstream.lines()
        self._id = 0

    async def run(self) -> list[dict[str, Any]]:
        modern = False
        answer = await self._ask(
            "initialize", {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": _CLIENT}
        )
        if "error" in answer.value:
            # From 2026-07-28 on there is no handshake.
            modern = True
        else:
            await self._send(Kind.NOTIFICATION, "notifications/initialized")
        return await all_pages(
            lambda params: self._ask(TOOLS_LIST, params), {"_meta": _MODERN} if modern else {}
        )

    async def _ask(self, method: str, params: dict[str, Any]) -> Message:
        self._id += 1
        await self._send(Kind.REQUEST, method, params)
        async for data in self._lines:
            try:
                message = read_server(data)
            except BadMessage:
                continue
            if message.kind is Kind.RESPONSE and message.id == self._id:
                return message
            if message.kind is Kind.REQUEST:
                text = error_line(message.id, METHOD_NOT_FOUND, "not supported")
                await self._upstream.send(Message(Kind.RESPONSE, message.id, "", text, {}))
        raise UsageError("the server ended before it listed its tools")

    async def _send(self, kind: Kind, method: str, params: dict[str, Any] | None = None) -> None:
        value: dict[str, Any] = {"method": method}
        if kind is Kind.REQUEST:
            value = {"id": self._id, **value, "params": params or {}}
        text = line(**value)
        await self._upstream.send(
            Message(kind, self._id if kind is Kind.REQUEST else "", method, text, {"jsonrpc": "2.0", **value})
        )
