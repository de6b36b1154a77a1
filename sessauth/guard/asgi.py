"""Middleware for an ASGI application: each request is checked before the application is called.

    app = GuardMiddleware(app, guard=Guard(verifier, RouteTable([...])), public=["/health"])

The token is in ``Authorization: Bearer TOKEN``, a proof in ``x-sessauth-proof``. A route that is not in the
table is refused. The body is read once, and the application gets the bytes that were checked. A call that is
not allowed is answered as :class:`~sessauth.decisions.outward.Outward` says. The application finds the
decision in ``scope["state"]["sessauth"]``; it is None in observe mode if no decision could be made. A guard
with ``watch`` breaks off the answer, and closes a websocket, when the permission ends.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final, TypeAlias

from ..decisions.outward import Outward
from ..errors import SessauthError, UsageError
from ..limits import MAX_JSON_BYTES
from .call import BAD_CALL, CallTerms, ToolDenied
from .guard import Guard
from .services import routes
from .services.presented import AUTHORIZATION, DECISION, PROOF, bearer, one_proof
from .services.routes import WEBSOCKET, RouteTable
from .tool_judge import Hold

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

STATE: Final = "sessauth"
RETRY_AFTER_S: Final = 5
_POLICY_VIOLATION: Final = 1008
_TOO_LARGE: Final = 413
_log: Final = logging.getLogger("sessauth.guard")


class GuardMiddleware:
    """Checks the HTTP requests and websockets of an application."""

    def __init__(
        self, app: App, guard: Guard, *, public: Collection[str] = (), max_body_bytes: int = MAX_JSON_BYTES
    ) -> None:
        """Check by ``guard``, whose catalogue is a :class:`RouteTable`.

        Raises UsageError if the guard has another catalogue.

        Args:
            app: the application.
            guard: checks each request by the token that the request has.
            public: paths that anyone may call, with any method.
            max_body_bytes: a longer body is refused with status 413.
        """
        if not isinstance(guard.catalogue, RouteTable):
            raise UsageError("guard: its catalogue is the RouteTable of the application")
        self._app = app
        self._guard = guard
        self._routes = guard.catalogue
        self._public = frozenset(public)
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, and call the application or refuse it."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        if kind not in ("http", "websocket"):
            raise UsageError(f"an ASGI scope of another type: {kind!a}")
        path = route_path(scope)
        if path in self._public:
            await self._app(scope, receive, send)
            return
        request = Incoming(receive, self._max_body_bytes)
        outgoing = Outgoing(scope, request, send)
        try:
            held = await self._hold(scope, path, request)
        except Gone:
            return
        except Exception as error:  # noqa: BLE001 - a request that could not be checked goes no further
            if not isinstance(error, ToolDenied):
                _log.error("a request could not be judged: %s", type(error).__name__)
            await outgoing.refuse(error)
            return
        decision = held.decision if held is not None else None
        inner = {**scope, "state": {**scope.get("state", {}), STATE: decision}}
        if held is None:
            await self._app(inner, request.replay, outgoing.send)
            return
        try:
            async with held:
                await self._guard.arun_held(
                    held, None, lambda: self._app(inner, request.replay, outgoing.send)
                )
        except ToolDenied as denied:
            await outgoing.refuse(denied)

    async def _hold(self, scope: Scope, path: str, request: Incoming) -> Hold | None:
        is_websocket = scope["type"] == "websocket"
        method = WEBSOCKET if is_websocket else scope["method"]
        name = f"{method} {path}"
        headers = routes.header_values(scope["headers"])
        terms: CallTerms = {"token": bearer(headers.get(AUTHORIZATION, ()))}
        # A method of HTTP may have any name, that of a websocket's route too.
        found = self._routes.find(method, path) if is_websocket or method != WEBSOCKET else None
        if found is None or not terms["token"]:
            return await self._guard.ahold(name, **terms)
        route, values = found
        try:
            terms["proof"] = one_proof(headers.get(PROOF, ()))
            body = b""
            if route.judges_body and not is_websocket:
                body = await request.read()
                if body:
                    routes.require_json(headers)
            arguments = routes.route_arguments(scope.get("query_string", b""), body, route.places)
            call = routes.named_call(method, path, route.action, route.resource.fill(values))
        except (SessauthError, ValueError, RecursionError) as error:
            self._guard.refuse(name, BAD_CALL, cause=error)
            return None
        return await self._guard.ahold(call, arguments, **terms)


class Gone(Exception):
    """The client left before its body was complete."""


class TooLarge(UsageError):
    """A body is longer than permitted."""


class Incoming:
    """The events of one request: the body is read once, then replayed as it was."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        """Read from ``receive``, bodies of up to ``max_bytes``."""
        self._receive = receive
        self._max_bytes = max_bytes
        self._events: list[Event] = []
        # True once the application, or a refusal, was given an event.
        self.passed_on = False

    async def read(self) -> bytes:
        """Return the whole body.

        Raises Gone if the client left; TooLarge if it is too long; :meth:`replay` then gives the part already
        read, and the rest.
        """
        chunks: list[bytes] = []
        size = 0
        while True:
            event = await self._receive()
            if event["type"] != "http.request":
                raise Gone
            self._events.append(event)
            chunk = event.get("body", b"")
            size += len(chunk)
            if size > self._max_bytes:
                raise TooLarge(f"body: more than {self._max_bytes} bytes")
            chunks.append(chunk)
            if not event.get("more_body", False):
                return b"".join(chunks)

    async def replay(self) -> Event:
        """Return the next event: those that were read, then those to come."""
        self.passed_on = True
        return self._events.pop(0) if self._events else await self._receive()


def route_path(scope: Scope) -> str:
    """Return the path that the application routes by: without the prefix that it is mounted under."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    rest = path.removeprefix(root)
    return rest if path.startswith(root) and rest[:1] in ("", "/") else path


def refusal(error: Exception) -> tuple[int, list[tuple[str, str]], dict[str, str]]:
    """Return status, headers and content of the answer to a call that is not made."""
    denied = error if isinstance(error, ToolDenied) else None
    outward = denied.outward if denied is not None else Outward.UNAVAILABLE
    headers = [("cache-control", "no-store")]
    if outward.challenge:
        headers.append(("www-authenticate", outward.challenge))
    if outward in (Outward.APPROVAL, Outward.UNAVAILABLE):
        headers.append(("retry-after", str(RETRY_AFTER_S)))
    content = {"error": outward.name.lower(), "message": outward.text}
    if denied is not None and denied.decision_id:
        content["decision"] = denied.decision_id.hex()
        headers.append((DECISION, denied.decision_id.hex()))
    too_large = isinstance(error.__cause__, TooLarge)
    return _TOO_LARGE if too_large else outward.http, headers, content


class Outgoing:
    """The answer to one request: the application's, or a refusal, also of one that has begun."""

    def __init__(self, scope: Scope, incoming: Incoming, send: Send) -> None:
        """Answer by ``send``."""
        self._scope = scope
        self._incoming = incoming
        self._send = send
        self._begun = False

    async def send(self, event: Event) -> None:
        """Pass an event of the application on."""
        self._begun = True
        await self._send(event)

    async def refuse(self, error: Exception) -> None:
        """Answer that the call is not made. An answer that has begun is broken off."""
        websocket = self._scope["type"] == "websocket"
        status, headers, content = refusal(error)
        if websocket and not self._incoming.passed_on:
            await self._incoming.replay()
        if websocket and (self._begun or "websocket.http.response" not in self._scope.get("extensions", {})):
            await self._send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        elif not self._begun:
            kind = "websocket.http" if websocket else "http"
            body = json.dumps(content).encode()
            headers += [("content-type", "application/json"), ("content-length", str(len(body)))]
            encoded = [(name.encode(), value.encode()) for name, value in headers]
            await self._send({"type": f"{kind}.response.start", "status": status, "headers": encoded})
            await self._send({"type": f"{kind}.response.body", "body": body})
