"""The token, and a proof for each message, on the way to a server of MCP.

    auth = SessauthAuth(Credentials(token))
    Client(streamable_http_client(url, http_client=httpx2.AsyncClient(auth=auth)))
    Client(authorized(stdio_client(parameters), Credentials(token)))

A message that is sent again has a new proof. See docs/integrations/mcp.md.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
from mcp.shared.message import SessionMessage

from .mcp_terms import PROOF, PROOF_HEADER, TOKEN, Credentials


class SessauthAuth(httpx2.Auth):
    """Authorizes requests over HTTP: ``Authorization: Bearer``, and a header for the proof."""

    requires_request_body = True

    def __init__(self, credentials: Credentials) -> None:
        """Present ``credentials``."""
        self._credentials = credentials

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Add the headers. A request without a message has no call to prove."""
        message = json.loads(await request.aread() or b"{}")
        request.headers["Authorization"] = f"Bearer {self._credentials.token}"
        if proof := await self._credentials.proof(message.get("method", ""), message.get("params")):
            request.headers[PROOF_HEADER] = proof
        yield request


@asynccontextmanager
async def authorized(
    transport: AbstractAsyncContextManager[Any], credentials: Credentials
) -> AsyncIterator[tuple[Any, Any]]:
    """Wrap a transport of the SDK: every message that is sent has the credentials in ``_meta``."""
    async with transport as (read, write):
        yield read, _Writer(write, credentials)


class _Writer:
    def __init__(self, write: Any, credentials: Credentials) -> None:
        self._write, self._credentials = write, credentials

    async def send(self, item: SessionMessage) -> None:
        message: Any = item.message
        if method := getattr(message, "method", ""):
            params = message.params or {}
            own = {TOKEN: self._credentials.token, PROOF: await self._credentials.proof(method, params)}
            meta = {**(params.get("_meta") or {}), **{name: text for name, text in own.items() if text}}
            item = replace(item, message=message.model_copy(update={"params": {**params, "_meta": meta}}))
        await self._write.send(item)

    async def aclose(self) -> None:
        await self._write.aclose()

    async def __aenter__(self) -> _Writer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
