"""The metadata of a protected resource: served to anyone, and named in each challenge."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from sessauth.errors import UsageError
from sessauth.guard.services.mcp_http import GuardedMcpApp
from sessauth.guard.services.resource_metadata import ProtectedResource
from tests.guard.test_mcp_http import app
from tests.guard.world import World

RESOURCE = "https://mcp.example/mcp"
SERVERS = ["https://idp.example", "https://idp.example/two"]
AT = "/.well-known/oauth-protected-resource/mcp"


def ask(wrapped: Any, method: str, path: str, **headers: str) -> httpx.Response:
    """Return the answer of an application in this process."""

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(wrapped)
        async with httpx.AsyncClient(transport=transport, base_url="https://mcp.example") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(main())


def challenging(*challenges: str, status: int = 401) -> Any:
    """Return an application that answers with these challenges."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"www-authenticate", each.encode()) for each in challenges]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return answer


def test_a_client_without_a_token_learns_where_to_log_in(world: World) -> None:
    """A 401 of the guard has the address of the document, which anyone may read; a good token passes."""
    guarded = GuardedMcpApp(app, world.guard())
    wrapped = ProtectedResource(
        guarded, resource=RESOURCE, authorization_servers=SERVERS, scopes=["tools"], name="Files"
    )
    refused = ask(wrapped, "POST", "/mcp")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == (
        f'Bearer error="invalid_token", resource_metadata="https://mcp.example{AT}"'
    )
    document = ask(wrapped, "GET", AT)
    assert document.json() == {
        "resource": RESOURCE,
        "authorization_servers": SERVERS,
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["tools"],
        "resource_name": "Files",
    }
    assert document.headers["content-type"] == "application/json"
    assert ask(wrapped, "HEAD", AT).content == b""
    assert ask(wrapped, "POST", AT).status_code == 405
    allowed = ask(wrapped, "POST", "/mcp", authorization=f"Bearer {world.token().present().text}")
    assert allowed.status_code == 200 and "www-authenticate" not in allowed.headers


def test_only_a_bearer_challenge_of_a_401_has_the_address() -> None:
    """Other schemes, and other answers, are passed on as they are."""
    address = 'resource_metadata="https://mcp.example/.well-known/oauth-protected-resource"'
    terms: dict[str, Any] = {"resource": "https://mcp.example/", "authorization_servers": SERVERS}
    bare = ask(ProtectedResource(challenging("Bearer", "Basic realm=x"), **terms), "GET", "/")
    assert bare.headers.get_list("www-authenticate") == [f"Bearer {address}", "Basic realm=x"]
    other = ask(ProtectedResource(challenging("Bearer", status=403), **terms), "GET", "/")
    assert other.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("terms", "key"),
    [
        ({"resource": "http://mcp.example/mcp"}, "resource"),
        ({"resource": "mcp.example"}, "resource"),
        ({"resource": "https://mcp.example/mcp?x=1"}, "resource"),
        ({"resource": 'https://mcp.example/"x'}, "resource"),
        ({"resource": "https://mcp.example:port/"}, "resource"),
        ({"authorization_servers": []}, "authorization_servers"),
        ({"authorization_servers": "https://idp.example"}, "authorization_servers"),
        ({"authorization_servers": ["http://idp.example"]}, "authorization_servers"),
        ({"documentation": "javascript:alert(1)"}, "documentation"),
    ],
)
def test_an_address_that_is_none_is_refused(terms: dict[str, Any], key: str) -> None:
    """The error names the parameter; loopback may be reached by http."""
    stated = {"resource": RESOURCE, "authorization_servers": SERVERS, **terms}
    with pytest.raises(UsageError, match=f"^{key}: "):
        ProtectedResource(app, **stated)
    assert ProtectedResource(app, resource="http://127.0.0.1:80/mcp", authorization_servers=SERVERS)


def test_a_client_of_the_mcp_sdk_finds_the_authorization_server(world: World) -> None:
    """The SDK reads the address in the challenge, and the document with its own model."""
    utils = pytest.importorskip("mcp.client.auth.utils")
    shared = pytest.importorskip("mcp.shared.auth")
    wrapped = ProtectedResource(
        GuardedMcpApp(app, world.guard()), resource=RESOURCE, authorization_servers=SERVERS
    )
    found = utils.extract_resource_metadata_from_www_auth(ask(wrapped, "POST", "/mcp"))
    assert found == f"https://mcp.example{AT}"
    metadata = shared.ProtectedResourceMetadata.model_validate_json(ask(wrapped, "GET", AT).content)
    assert [str(each).rstrip("/") for each in metadata.authorization_servers] == SERVERS
