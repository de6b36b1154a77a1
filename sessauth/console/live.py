"""Pages that stay current: the page itself once, then its changing parts as server-sent events.

A page and its stream have one address. The script of a page asks for the stream with the header that browsers
send for an EventSource.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..errors import NotFound, PermissionDenied, Rejected, SessauthError, Unavailable
from .board import Board
from .pages import Pages

EVENT_STREAM: Final = "text/event-stream"
# What moves without an event, such as ages, leases and counts of calls, is looked at so often.
TICK_S: Final = 1.0
_REACH: Final = "reach.html"

View = Callable[[Request], Awaitable[tuple[str, dict[str, Any]]]]


class LivePages:
    """Makes handlers of views: functions that return a template and its values."""

    def __init__(self, pages: Pages, board: Board, stopping: Callable[[], bool]) -> None:
        """Streams end when ``stopping()`` or their login is over."""
        self._pages = pages
        self._board = board
        self._stopping = stopping

    def handler(self, view: View) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler of a view."""

        async def handle(request: Request) -> Response:
            try:
                template, values = await view(request)
            except SessauthError as error:
                return self.failure(request, error)
            if request.headers.get("accept", "").startswith(EVENT_STREAM):
                return StreamingResponse(self._stream(request, view), media_type=EVENT_STREAM)
            return self._pages.answer(request, template, **{"live": True, **values})

        return handle

    def failure(self, request: Request, error: SessauthError) -> Response:
        """Return the page of an error."""
        title, code = "Nothing to show", 400
        if isinstance(error, NotFound):
            code = 404
        elif isinstance(error, PermissionDenied):
            title, code = "Not permitted", 403
        elif isinstance(error, Unavailable):
            title, code = "The server can't be reached", 503
        elif isinstance(error, Rejected):
            title, code = "The server refused", 409
        return self._pages.answer(request, "message.html", code=code, title=title, message=str(error))

    async def _stream(self, request: Request, view: View) -> AsyncIterator[bytes]:
        shown: dict[str, str] = {}
        while not self._stopping():
            login = request.state.login
            if self._pages.is_over(login):
                yield _event("over", "")
                return
            try:
                template, values = await view(request)
                context = self._pages.context(request, **{"live": True, **values})
                parts = {"current": self._pages.part(template, "current", context)}
            except SessauthError as error:
                context = self._pages.context(request, title="Nothing to show", message=str(error))
                parts = {"current": self._pages.part("message.html", "current", context)}
            parts["reach"] = self._pages.part(_REACH, "reach", context)
            for part, html in parts.items():
                if shown.get(part) != html:
                    shown[part] = html
                    yield _event(part, html)
            await self._board.wait(TICK_S)
        yield _event("stopped", "")


def _event(name: str, html: str) -> bytes:
    return f"event: {name}\ndata: {json.dumps(html)}\n\n".encode()
