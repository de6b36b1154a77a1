"""The HTTP side of an MCP server: each request needs a valid token of the session that began it.

    app = GuardedMcpApp(server.streamable_http_app(), guard)

A server's middleware sees requests and notifications only. Over HTTP there are also streams, answers to the
server's own requests, and the end of a session. An ``Mcp-Session-Id`` (2025-11-25) is bound to the session of
the token that opened it; for a token of another session it is not found. When a token is no longer valid, the
answers and streams opened with it end.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

from ...errors import UsageError
from ...reasons import Reason
from ..asgi import STATE, App, Event, Receive, Scope, Send, refusal, route_path
from ..call import CallTerms, ToolDenied
from ..guard import Guard
from ..mcp_terms import GUARDED, error_of
from .mcp_sessions import HEADER, McpSessions
from .presented import AUTHORIZATION, bearer
from .routes import header_values

# A method that needs a valid token and no permission.
_METHOD: Final = "ping"
# The SDK's own answer: a client opens another session then. Unknown ids and those of others look alike.
_NOT_FOUND: Final = {"code": -32600, "message": "Session not found"}


class GuardedMcpApp:
    """Checks the token of every request to an application of MCP, whose middleware checks the calls."""

    def __init__(self, app: App, guard: Guard, *, public: Collection[str] = ()) -> None:
        """Check by ``guard``, the middleware's own.

        Args:
            app: the application of the MCP SDK or of FastMCP.
            guard: checks each request by the token that the request has.
            public: paths that anyone may call, with any method.
        """
        self._app = app
        self._guard = guard
        self._public = frozenset(public)
        self._sessions = McpSessions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the token of a request, and call the application or refuse it."""
        if scope["type"] not in ("http", "lifespan"):
            raise UsageError(f"an ASGI scope of another type: {scope['type']!a}")
        if scope["type"] == "lifespan" or route_path(scope) in self._public:
            await self._app(scope, receive, send)
            return
        headers = header_values(scope["headers"])
        terms: CallTerms = {"token": bearer(headers.get(AUTHORIZATION, ()))}
        ids = headers.get(HEADER, [])
        answer = _Answer(send, self._sessions, scope["method"], *ids[:1])
        try:
            if ids and (owner := self._sessions.owner(ids[0])):
                terms["session"] = owner
            decision = await self._guard.acheck_method(_METHOD, **terms)
            if decision is not None:
                answer.session_id = decision.session_id
            known = len(ids) == 1 and "session" in terms and self._sessions.bind(ids[0], answer.session_id)
            if ids and not known and not self._guard.observing:
                await answer.refuse(404, [], _NOT_FOUND)
                return
            inner = {**scope, "state": {**scope.get("state", {}), STATE: decision}, GUARDED: True}
            await self._guard.arun_standing(lambda: self._app(inner, receive, answer.send), **terms)
        except ToolDenied as denied:
            if denied.reason == Reason.WRONG_SESSION.name:
                await answer.refuse(404, [], _NOT_FOUND)
            else:
                status, more, _ = refusal(denied)
                await answer.refuse(status, more, error_of(denied))


class _Answer:
    """The answer to one request, which may open a session of MCP or end it."""

    def __init__(self, send: Send, sessions: McpSessions, method: str, mcp_id: str = "") -> None:
        self._send = send
        self._sessions = sessions
        self._method = method
        self._mcp_id = mcp_id
        self._begun = False
        self.session_id = b""

    async def send(self, event: Event) -> None:
        """Pass an event on, once its facts about the session are known here."""
        self._begun = True
        if event["type"] == "http.response.start":
            if not self._mcp_id:
                for opened in header_values(event.get("headers", ())).get(HEADER, ()):
                    self._sessions.bind(opened, self.session_id)
            elif self._method == "DELETE" and event["status"] < 300:
                self._sessions.forget(self._mcp_id)
        await self._send(event)

    async def refuse(self, status: int, headers: list[tuple[str, str]], error: dict[str, Any]) -> None:
        """Answer with an error, which clients of MCP show. An answer that has begun is broken off."""
        if self._begun:
            return
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
        headers = [*headers, ("content-type", "application/json"), ("content-length", str(len(body)))]
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})
        await self._send({"type": "http.response.body", "body": body})
