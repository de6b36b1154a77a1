"""Pages that stay current: the page itself once, then its changing parts as server-sent events.

A page and its stream have one address. The script of a page asks for the stream with the header that browsers
send for an EventSource.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..errors import (
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    Rejected,
    ServerError,
    SessauthError,
    StateError,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from .board import Board
from .pages import Pages
from .recent import leads_elsewhere

EVENT_STREAM: Final = "text/event-stream"
# What moves without an event, such as ages, leases and counts of calls, is looked at so often.
TICK_S: Final = 1.0
# However many events there are, parts are made anew so often at most.
PAUSE_S: Final = 0.2
_REACH: Final = "reach.html"
# Titles and status codes of pages of errors: the first that fits.
_FAILURES: Final[tuple[tuple[tuple[type[SessauthError], ...], str, int], ...]] = (
    ((NotFound,), "Nothing to show", 404),
    ((PermissionDenied,), "Not permitted", 403),
    ((Unauthenticated,), "The server does not accept the console's credential", 502),
    ((Unavailable,), "The server can't be reached", 503),
    ((Rejected,), "The server refused", 409),
    ((ServerError,), "The server failed", 502),
    ((StateError,), "Nothing to show", 503),
)
_OTHERS: Final = ("Nothing to show", 400)

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
            if request.headers.get("accept", "").startswith(EVENT_STREAM):
                # A page that is open is told of a failure as of anything else that it shows.
                return StreamingResponse(self._stream(request, view), media_type=EVENT_STREAM)
            try:
                template, values = await view(request)
            except SessauthError as error:
                return self.failure(request, error)
            return self._pages.answer(request, template, **{"live": True, **values})

        return handle

    def failure(self, request: Request, error: SessauthError) -> Response:
        """Return the page of an error."""
        title, code = _title_and_code(error)
        if title == _OTHERS[0] and request.method == "POST":
            title = "Nothing was done"
        return self._pages.answer(request, "message.html", code=code, title=title, message=str(error))

    def not_made(self, request: Request, error: SessauthError, again: str) -> Response:
        """Return the page of a change that failed.

        ``again`` says how to go on where nobody knows whether it was made.
        """
        unknown = isinstance(error, Unavailable | OutcomeUnknown) and not isinstance(error, Unreachable)
        if not unknown:
            return self.failure(request, error)
        message = f"Whether it was done is not known: {error}. {again}"
        return self._pages.answer(request, "message.html", code=503, title="No answer came", message=message)

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
                title, _ = _title_and_code(error)
                context = self._pages.context(request, title=title, message=str(error))
                parts = {"current": self._pages.part("message.html", "current", context)}
            parts["reach"] = self._pages.part(_REACH, "reach", context)
            for part, html in parts.items():
                if shown.get(part) != html:
                    shown[part] = html
                    yield _event(part, html)
            await asyncio.sleep(PAUSE_S)
            await self._board.wait(TICK_S - PAUSE_S)
        yield _event("stopped", "")


def _title_and_code(error: SessauthError) -> tuple[str, int]:
    if leads_elsewhere(error):
        return "Another server knows this", 503
    fitting = ((title, code) for kinds, title, code in _FAILURES if isinstance(error, kinds))
    return next(fitting, _OTHERS)


def _event(name: str, html: str) -> bytes:
    return f"event: {name}\ndata: {json.dumps(html)}\n\n".encode()
