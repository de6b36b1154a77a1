"""The gate in front of every page: host names, logins, forms of other sites, and headers.

Pages are for one person on this machine. A host name rebound to this address, a frame, a form or a script of
another site gets nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .logins import Login, Logins
from .pages import FORM_TOKEN, Pages

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    # Not "no-referrer": a browser would then hide the origin of our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
# Scopes of a narrowing are the longest text that a form carries, and a token to inspect.
MAX_FORM_BYTES: Final = 262_144
MAX_FIELDS: Final = 20
# Paths that need no login.
_OPEN: Final = ("/static/", "/login/")


class PageGate:
    """The outermost part of the application."""

    def __init__(self, app: ASGIApp, *, logins: Logins, pages: Pages, hosts: Sequence[str]) -> None:
        """Let requests to ``hosts`` (HOST:PORT) through, to those who are logged in."""
        self._app = app
        self._logins = logins
        self._pages = pages
        self._address = hosts[0]
        self._hosts = frozenset(hosts)
        self._origins = frozenset(f"http://{host}" for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        headers = Headers(scope=scope)
        if headers.getlist("host") == [] or any(h not in self._hosts for h in headers.getlist("host")):
            refusal = PlainTextResponse(
                f"this console answers to its own address only: {self._address}\n", 421
            )
            await refusal(scope, receive, guarded_send)
            return
        if _is_part_of_another_page(headers):
            refusal = PlainTextResponse("this console is no part of another page\n", 403)
            await refusal(scope, receive, guarded_send)
            return
        app, inner = self._routed(scope, headers)
        await app(inner, receive, guarded_send)

    def _routed(self, scope: Scope, headers: Headers) -> tuple[ASGIApp, Scope]:
        """Return the answering application, and the request without the login's prefix."""
        login = None
        if not scope["path"].startswith(_OPEN):
            prefix, _, rest = scope["path"].removeprefix("/").partition("/")
            cookies = _cookies(headers, cookie_name(Request(scope)))
            login = self._logins.find(cookies, prefix, peer_uid(scope))
            if login is None:
                return self._pages.expired(Request(scope)), scope
            state = {**scope.get("state", {}), "login": login}
            scope = {**scope, "path": f"/{rest}", "state": state}
            if scope["path"].startswith(_OPEN):
                return self._pages.refused(Request(scope), "There is no such page.", 404), scope
        if scope["method"] in ("GET", "HEAD"):
            return self._app, scope
        if headers.get("origin") not in self._origins:
            foreign = "This form was sent by another site; nothing was done."
            return self._pages.refused(Request(scope), foreign), scope
        return _OwnForm(self._app, self._pages, login) if login else self._app, scope


class _OwnForm:
    """Reads a form, within bounds, and hands it on only with the token of the login."""

    def __init__(self, app: ASGIApp, pages: Pages, login: Login) -> None:
        self._app, self._pages, self._login = app, pages, login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_FORM_BYTES:
                answer = self._pages.refused(Request(scope), "This form is too long; nothing was done.", 413)
                await answer(scope, receive, send)
                return

        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            # After the form comes what the connection has: an answer in parts waits for its end.
            return whole.pop() if whole else await receive()

        form = _fields(body)
        stated = form.get(FORM_TOKEN, "").encode("utf-8", "replace")
        if not hmac.compare_digest(stated, self._login.form_token.encode()):
            answer = self._pages.refused(
                Request(scope), "This form is not of your login; go back, load the page anew, and try again."
            )
            await answer(scope, receive, send)
            return
        scope["state"]["form"] = form
        await self._app(scope, replay, send)


def _is_part_of_another_page(headers: Headers) -> bool:
    """Return True if a browser says that another place's page loads this as an image, a frame or a fetch.

    A page of another port of this host is of the same site: it gets no answer to read, but its requests come
    with the cookie, and a search of the whole log is work. A link from there is followed.
    """
    foreign = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
    return foreign and headers.get("sec-fetch-dest") != "document"


def _fields(body: bytes) -> dict[str, str]:
    """Return the fields of a form as browsers send them, ``a=b&c=d``; none of anything else."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return {}
    return dict(pairs)


def _cookies(headers: Headers, name: str) -> list[str]:
    """Return the values of every cookie of a name: another port of this host may set one, too."""
    pairs = [part.strip().partition("=") for each in headers.getlist("cookie") for part in each.split(";")]
    return [value for key, _, value in pairs if key == name]


def peer_uid(scope: Scope) -> int | None:
    """Return the user at the other end of a request's connection, None if the system does not say."""
    uid: int | None = scope.get("state", {}).get("peer_uid")
    return uid


def cookie_name(request: Request) -> str:
    """Return the name of the login's cookie. Browsers don't tell the ports of a host apart."""
    return f"sessauth_console_{request.url.port or 80}"
