"""Middleware for servers of the MCP SDK: every request and notification is checked.

    server = MCPServer("files", middleware=[SessauthMiddleware(guard)])

The token comes in ``Authorization: Bearer``, or without HTTP in ``_meta`` or from the guard. See
docs/integrations/mcp.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError

from ..decisions.tool_catalog import TOOLS_CALL, TOOLS_LIST
from .call import ToolDenied
from .guard import Guard
from .mcp_terms import call_terms, error_of, judged_params, listed, tool_refusal, without_own


class SessauthMiddleware:
    """Checks a client's messages, and removes from lists of tools those that the token could not call."""

    def __init__(self, guard: Guard, *, approval_url: str = "") -> None:
        """Check by ``guard``; ``approval_url`` has the places ``{session}`` and ``{approval}``."""
        self._guard = guard
        self._approval_url = approval_url

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Check a message, and hand it on without its token if it is allowed."""
        params, inner = ctx.params or {}, ctx
        terms = call_terms(params, ctx.request)
        if terms and ctx.meta is not None:
            meta: Any = without_own(ctx.meta)
            inner = replace(ctx, params={**params, "_meta": without_own(params["_meta"])}, meta=meta)
        try:
            if ctx.method == TOOLS_CALL:
                name, arguments = params.get("name", ""), params.get("arguments") or {}
                return await self._guard.arun(name, arguments, lambda: call_next(inner), **terms)
            await self._guard.acheck_method(ctx.method, judged_params(params), **terms)
            result = await call_next(inner)
            if ctx.method == TOOLS_LIST and result is not None:
                if not isinstance(result, dict):
                    # Another middleware answered.
                    result = result.model_dump(by_alias=True, mode="json", exclude_none=True)
                names = [tool["name"] for tool in result["tools"]]
                result = listed(result, await self._guard.avisible(names, **terms), params)
            return result
        except ToolDenied as denied:
            if ctx.request_id is None:
                return None
            if ctx.method == TOOLS_CALL:
                return tool_refusal(denied, params, approval_url=self._approval_url)
            raise MCPError(**error_of(denied)) from None
