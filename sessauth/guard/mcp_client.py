"""The token, and a new proof for each message, on a client's requests to an MCP server.

    auth = SessauthAuth(Credentials(token), origin=url)
    Client(streamable_http_client(url, http_client=httpx2.AsyncClient(auth=auth)))
    Client(authorized(stdio_client(parameters), Credentials(token)))

See docs/integrations/mcp.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2

from ..errors import UsageError
from .httpx import origin_of
from .mcp_terms import Credentials


class SessauthAuth(httpx2.Auth):
    """Authorizes requests over HTTP: ``Authorization: Bearer``, and a header for the proof."""

    requires_request_body = True

    def __init__(self, credentials: Credentials, *, origin: str) -> None:
        """Present ``credentials`` to the server of ``origin``; requests to another are not sent."""
        self._credentials, self._origin = credentials, origin_of(origin)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Add the headers. Raises UsageError for a request to another origin."""
        if origin_of(str(request.url)) != self._origin:
            raise UsageError("the request is for another origin than the token")
        request.headers.update(await self._credentials.headers(await request.aread()))
        yield request


@asynccontextmanager
async def authorized(transport: Any, credentials: Credentials) -> AsyncIterator[tuple[Any, Any]]:
    """Wrap a transport of the SDK: every message that is sent has the credentials in ``_meta``."""
    async with transport as (read, write):
        yield read, _Writer(write, credentials)


class _Writer(AbstractAsyncContextManager[Any]):
    def __init__(self, write: Any, credentials: Credentials) -> None:
        self._write, self._credentials = write, credentials

    async def send(self, item: Any) -> None:
        if method := getattr(item.message, "method", ""):
            params = await self._credentials.stamped(method, item.message.params)
            item = replace(item, message=item.message.model_copy(update={"params": params}))
        await self._write.send(item)

    async def __aexit__(self, *_: object) -> None:
        await self._write.aclose()
