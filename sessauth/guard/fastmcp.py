"""Middleware for servers of FastMCP: every request and notification is checked.

server = FastMCP("files", middleware=[SessauthFastMCPMiddleware(guard)])    # docs/integrations/fastmcp.md
"""

from __future__ import annotations

from typing import Any

from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools.base import InputRequiredToolResult, ToolResult
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, InputRequiredResult

from ..decisions.tool_catalog import TOOLS_CALL, TOOLS_LIST
from .call import ToolDenied
from .guard import Guard
from .mcp_terms import call_terms, error_of, judged_params, tool_refusal


class SessauthFastMCPMiddleware(Middleware):
    """Checks a client's messages, and removes from lists of tools those that the token could not call."""

    def __init__(self, guard: Guard, *, approval_url: str = "") -> None:
        """Check by ``guard``; ``approval_url`` has the places ``{session}`` and ``{approval}``."""
        self._guard, self._approval_url = guard, approval_url

    async def on_message(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Check a message, and hand it on if it is allowed."""
        method, request = context.method or "", getattr(context.fastmcp_context, "request_context", None)
        params = {**_params(context.message), "_meta": (request and request.meta) or {}}
        terms = call_terms(params, request and request.request)
        try:
            if method == TOOLS_CALL:
                name, arguments = params.get("name", ""), params.get("arguments") or {}
                return await self._guard.arun(name, arguments, lambda: call_next(context), **terms)
            await self._guard.acheck_method(method, judged_params(params), **terms)
            result = await call_next(context)
            if method != TOOLS_LIST:
                return result
            shown = await self._guard.avisible([tool.name for tool in result], **terms)
            return [tool for tool in result if tool.name in shown]
        except ToolDenied as denied:
            if context.type == "notification":
                return None
            if method != TOOLS_CALL:
                raise MCPError(**error_of(denied)) from None
            refusal = tool_refusal(denied, params, approval_url=self._approval_url)
            if "inputRequests" in refusal:
                return InputRequiredToolResult(InputRequiredResult.model_validate(refusal))
            return ToolResult.from_mcp_result(CallToolResult.model_validate(refusal))


def _params(message: Any) -> dict[str, Any]:
    """Return the parameters of a request, which FastMCP gives as they came, or read."""
    values = getattr(message, "params", message)
    if hasattr(values, "model_dump"):
        values = values.model_dump(by_alias=True, exclude_none=True, mode="json")
    return dict(values or {})
