"""Approvals, bound tokens, methods and sub-servers through FastMCP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("fastmcp", reason="needs FastMCP: tests/guard/requirements/latest.txt")

import mcp_types
from fastmcp import Client, FastMCP
from mcp.shared.exceptions import MCPError
from starlette.middleware import Middleware

from sessauth import HolderKey, Prover
from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.guard.fastmcp import SessauthFastMCPMiddleware
from sessauth.guard.mcp_client import SessauthAuth
from sessauth.guard.mcp_terms import Credentials
from sessauth.guard.services.mcp_http import GuardedMcpApp
from tests.guard.test_fastmcp import server
from tests.guard.test_mcp import over_http, served
from tests.guard.test_mcp_stories import REFUSED_SIDE, http_side
from tests.guard.world import SERVER, World

pytestmark = pytest.mark.filterwarnings("default")

PAY = f"write:mcp/{SERVER}/pay where amount <= 100"
LINK = "https://console.example/approvals/{session}/{approval}"


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
def test_a_bound_token_is_proven_for_each_message(world: World, mode: str) -> None:
    """FastMCP's own client over HTTP, with a proof for each message; a token without its key fails."""
    holder = HolderKey.generate()
    token = world.token(ending="bound", to=holder.public)
    bound = Credentials(token, world.catalogue, Prover(holder, world.server.control.verifier_keys))

    async def main(credentials: Credentials) -> list[str]:
        async with (
            served(server(world, world.guard()).http_app(path="/mcp")) as url,
            Client(url, auth=SessauthAuth(credentials, origin=url), mode=mode) as client,
        ):
            calls = [client.call_tool("get_weather", {"city": "a"}, raise_on_error=False) for _ in "12"]
            return [str((await call).content[0].text) for call in calls]

    assert asyncio.run(main(bound)) == ["get_weather done"] * 2
    assert asyncio.run(main(Credentials(token))) == ["not allowed"] * 2
    assert len(world.ran) == 2


def test_an_approval_by_a_person_runs_the_call(world: World) -> None:
    """The client shows the address, the person signs, and the client repeats the call by itself."""
    key = ApproverKey.generate()
    token = world.token(f'{PAY} needs approval(1, "{key.text}")')
    shown = []

    async def elicit(_context: Any, params: Any) -> mcp_types.ElicitResult:
        shown.append(params.url)
        operator = world.server.operator
        [request] = (await asyncio.to_thread(operator.list_approvals, session_id=token.session_id)).approvals
        await asyncio.to_thread(operator.grant_approval, request, Approver(key))
        return mcp_types.ElicitResult(action="accept")

    async def main(mode: str) -> str:
        app = server(world, world.guard(), approval_url=LINK).http_app(path="/mcp")
        async with (
            served(app) as url,
            over_http(url, Credentials(token), mode, elicitation_callback=elicit) as client,
        ):
            result = await client.call_tool("pay", {"amount": 5})
            return str(result.content[0].text)

    assert asyncio.run(main("2026-07-28")) == "pay done"
    assert len(shown) == 1 and world.ran == [("pay", {"amount": 5})]
    assert "waits for a person's approval" in asyncio.run(main("legacy"))
    assert len(world.ran) == 1


def test_methods_need_a_scope(world: World) -> None:
    """Resources and prompts are judged with their parameters, and lists of them as methods."""
    scopes = (
        f'read:mcp/{SERVER}/@resources/read where uri == "data://a"',
        f"read:mcp/{SERVER}/@prompts/list",
    )
    made = FastMCP("tools", middleware=[SessauthFastMCPMiddleware(world.guard(token=world.token(*scopes)))])

    @made.resource("data://a")
    def one() -> str:
        return "of a"

    @made.resource("data://b")
    def two() -> str:
        return "of b"

    @made.prompt
    def greet(name: str) -> str:
        return f"hello {name}"

    async def main() -> tuple[str, list[str], list[str]]:
        async with Client(made, mode="2026-07-28") as client:
            read = (await client.read_resource("data://a"))[0].text
            prompts = [prompt.name for prompt in await client.list_prompts()]
            refused = []
            for call in (
                client.read_resource("data://b"),
                client.list_resources(),
                client.get_prompt("greet", {"name": "x"}),
            ):
                with pytest.raises(MCPError) as caught:
                    await call
                refused.append(str(caught.value))
            return read, prompts, refused

    assert asyncio.run(main()) == ("of a", ["greet"], ["not allowed"] * 3)


def test_tools_of_a_mounted_server_are_judged(world: World) -> None:
    """A server that is mounted under a prefix has its tools under other names, which nobody pinned."""
    parent = FastMCP("parent", middleware=[SessauthFastMCPMiddleware(world.guard(token=world.token()))])
    child = FastMCP("child")

    @child.tool
    def get_weather(city: str) -> str:
        return world.run("get_weather", city=city)

    parent.mount(child, namespace="sub")

    async def main() -> tuple[list[str], str]:
        async with Client(parent, mode="2026-07-28") as client:
            names = [tool.name for tool in await client.list_tools()]
            result = await client.call_tool("sub_get_weather", {"city": "a"}, raise_on_error=False)
            return names, str(result.content[0].text)

    assert asyncio.run(main()) == ([], "not allowed")
    assert world.ran == []


def test_each_request_over_http_needs_the_token_of_its_session(world: World) -> None:
    """Streams and sessions are those of the SDK, and so are the refusals."""
    guard = world.guard()
    app = server(world, guard).http_app(path="/mcp", middleware=[Middleware(GuardedMcpApp, guard=guard)])

    assert asyncio.run(http_side(world, app)) == (REFUSED_SIDE, ["broken off", "401", "401"])
