"""The metadata of a protected resource (RFC 9728), which says where a client logs in.

    app = ProtectedResource(
        GuardedMcpApp(server.streamable_http_app(), guard),
        resource="https://mcp.example/mcp",
        authorization_servers=["https://idp.example"],
    )

A client of MCP that is answered 401 reads the document, logs its user in at one of the authorization servers,
and gets an access token. That token opens a session (``docs/how-to/identity.md``); the guard takes tokens of
sessions, as before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from ...errors import UsageError
from ..asgi import App, Event, Receive, Scope, Send

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
_CHALLENGE: Final = b"www-authenticate"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class ResourceMetadata:
    """The metadata of one resource, and the parameter of challenges that says where it is.

    Attributes:
        path: of the document at the resource's host: the well-known one, then the resource's own (RFC 9728,
            section 3.1).
        document: JSON.
    """

    def __init__(
        self,
        resource: str,
        authorization_servers: Sequence[str],
        *,
        scopes: Sequence[str] = (),
        name: str = "",
        documentation: str = "",
    ) -> None:
        """Encode the document. The parameters, and what is raised, are those of ProtectedResource."""
        address = checked_address("resource", resource)
        if not authorization_servers or isinstance(authorization_servers, str):
            raise UsageError("authorization_servers: must be a list of at least one issuer")
        for issuer in authorization_servers:
            checked_address("authorization_servers", issuer)
        if documentation:
            checked_address("documentation", documentation)
        self.path = WELL_KNOWN + address.path.rstrip("/")
        self._added = f'resource_metadata="{address.scheme}://{address.netloc}{self.path}"'
        stated: dict[str, Any] = {
            "resource": resource,
            "authorization_servers": list(authorization_servers),
            "bearer_methods_supported": ["header"],
            "scopes_supported": list(scopes),
            "resource_name": name,
            "resource_documentation": documentation,
        }
        self.document = json.dumps({key: value for key, value in stated.items() if value}).encode()

    def challenge(self, value: str) -> str:
        """Return a value of ``WWW-Authenticate`` with the address added, if it is a Bearer challenge."""
        scheme, _, parameters = value.partition(" ")
        if scheme.lower() != "bearer":
            return value
        return "Bearer " + ", ".join(filter(None, (parameters.strip(), self._added)))


class ProtectedResource:
    """Serves the metadata of an application to anyone, and adds its address to each Bearer challenge."""

    def __init__(
        self,
        app: App,
        *,
        resource: str,
        authorization_servers: Sequence[str],
        scopes: Sequence[str] = (),
        name: str = "",
        documentation: str = "",
    ) -> None:
        """Wrap ``app``, which is a guarded application.

        Raises UsageError for an address that is none, or that is not ``https`` (``http`` is for loopback).

        Args:
            app: the application, with its guard inside.
            resource: the address that clients use, such as ``https://mcp.example/mcp``. Access tokens have
                it as their audience.
            authorization_servers: issuers of access tokens, at least one.
            scopes: of OAuth, for which a client asks; none are stated if it is empty.
            name: for people.
            documentation: the address of a page for developers.
        """
        self._app = app
        self._metadata = ResourceMetadata(
            resource, authorization_servers, scopes=scopes, name=name, documentation=documentation
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a question for the metadata, or have the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == self._metadata.path:
            await self._answer(scope["method"], send)
            return

        async def with_address(event: Event) -> None:
            if event["type"] == "http.response.start" and event["status"] == 401:
                event = {**event, "headers": [self._header(*each) for each in event.get("headers", ())]}
            await send(event)

        await self._app(scope, receive, with_address)

    def _header(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        """Return a header, with the address if it is a Bearer challenge."""
        if name.lower() != _CHALLENGE:
            return name, value
        return name, self._metadata.challenge(value.decode("latin-1")).encode("latin-1")

    async def _answer(self, method: str, send: Send) -> None:
        """Answer with the document. Pages of other origins may read it: it is public."""
        allowed = method in ("GET", "HEAD")
        body = self._metadata.document if allowed else b""
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"access-control-allow-origin", b"*"),
            *([] if allowed else [(b"allow", b"GET, HEAD")]),
        ]
        await send({"type": "http.response.start", "status": 200 if allowed else 405, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def checked_address(key: str, text: str) -> SplitResult:
    """Return the parts of an address. Raises UsageError, which names ``key``."""
    try:
        address = urlsplit(text)
        host, _ = address.hostname or "", address.port
    except ValueError:
        raise UsageError(f"{key}: is no address") from None
    is_safe = address.scheme == "https" or (address.scheme == "http" and host in _LOOPBACK)
    printable = text.isascii() and text.isprintable() and not set(text) & set('" \\')
    if not is_safe or not host or address.query or address.fragment or address.username or not printable:
        raise UsageError(f"{key}: must be https://HOST/…, without a query; http is for loopback")
    return address
