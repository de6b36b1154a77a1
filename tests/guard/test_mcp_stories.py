"""Bound tokens, approvals and ends of sessions through the MCP SDK, by its own client and transports."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the MCP SDK: tests/guard/requirements/latest.txt")

import httpx2
import mcp_types
from mcp import Client, StdioServerParameters
from mcp.client._memory import InMemoryTransport
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from sessauth import AsyncProver, HolderKey, Prover
from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.guard.mcp import SessauthMiddleware
from sessauth.guard.mcp_client import SessauthAuth, authorized
from sessauth.guard.mcp_terms import PROOF, TOKEN, Credentials, call_terms
from sessauth.guard.services.mcp_http import GuardedMcpApp
from tests.guard.test_mcp import connected, over_http, served, server
from tests.guard.world import SERVER, TOOLS, World
from tests.support.server_fixture import AUDIENCE

pytestmark = pytest.mark.filterwarnings("default")

MODES = ["2026-07-28", "legacy", "auto"]
PAY = f"write:mcp/{SERVER}/pay where amount <= 100"
LINK = "https://console.example/approvals/{session}/{approval}"


async def texts(client: Client, *calls: tuple[str, dict[str, Any]]) -> list[str]:
    """Call tools one after the other; return what is shown."""
    return [str((await client.call_tool(*call)).content[0].text) for call in calls]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["http", "streams"])
@pytest.mark.parametrize("awaited", [False, True], ids=["Prover", "AsyncProver"])
def test_a_bound_token_is_proven_for_each_message(world: World, mode: str, way: str, awaited: bool) -> None:
    """Two equal calls have two proofs; without the key the token is worth nothing."""
    holder = HolderKey.generate()
    token = world.token(ending="bound", to=holder.public)
    keys = world.server.control.verifier_keys
    prover: Any = AsyncProver(holder, keys) if awaited else Prover(holder, keys)
    made = server(world, world.guard())

    async def main(credentials: Credentials) -> list[str]:
        calls = [("get_weather", {"city": "Bern"})] * 2
        if way == "streams":
            async with Client(authorized(InMemoryTransport(made), credentials), mode=mode) as client:
                return await texts(client, *calls)
        async with (
            served(made.streamable_http_app()) as url,
            over_http(url, credentials, mode) as client,
        ):
            return await texts(client, *calls)

    assert asyncio.run(main(Credentials(token, world.catalogue, prover))) == ["get_weather done"] * 2
    made = server(world, world.guard())
    assert asyncio.run(main(Credentials(token))) == ["not allowed"] * 2
    assert world.denied[-1].reason == "PROOF_REQUIRED"
    assert len(world.ran) == 2


def test_a_message_that_is_replayed_is_refused(world: World) -> None:
    """A thief who reads a message can't send it again, nor another call with its proof."""
    holder = HolderKey.generate()
    token = world.token(ending="bound", to=holder.public)
    credentials = Credentials(token, world.catalogue, Prover(holder, world.server.control.verifier_keys))
    seen: list[httpx2.Request] = []

    async def main() -> tuple[int, list[str]]:
        made = server(world, world.guard())
        async with served(made.streamable_http_app(json_response=True)) as url:
            async with (
                httpx2.AsyncClient(
                    auth=SessauthAuth(credentials, origin=url), event_hooks={"request": [_noted(seen)]}
                ) as http,
                Client(streamable_http_client(url, http_client=http), mode=MODES[0]) as client,
            ):
                await texts(client, ("get_weather", {"city": "Bern"}))
            thief = httpx2.AsyncClient()
            call = next(request for request in seen if b"tools/call" in request.content)
            answers = []
            for content in (call.content, call.content.replace(b"Bern", b"Rome")):
                headers = {k: v for k, v in call.headers.items() if k != "content-length"}
                answer = await thief.post(url, content=content, headers=headers)
                answers.append(answer.text)
            await thief.aclose()
            return len(world.ran), answers

    ran, answers = asyncio.run(main())

    assert ran == 1
    assert all("not allowed" in answer for answer in answers), answers
    assert [each.reason for each in world.denied] == ["REPLAYED", "BAD_PROOF"]


def _noted(seen: list[httpx2.Request]) -> Any:
    async def hook(request: httpx2.Request) -> None:
        seen.append(request)

    return hook


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

    async def main(mode: str) -> list[str]:
        made = server(world, world.guard(), approval_url=LINK)
        async with connected(made, token.present().text, mode, elicitation_callback=elicit) as client:
            return await texts(client, ("pay", {"amount": 5}))

    assert asyncio.run(main("2026-07-28")) == ["pay done"]
    assert len(shown) == 1 and shown[0].startswith(
        f"https://console.example/approvals/{token.session_id.hex()}/"
    )
    assert world.ran == [("pay", {"amount": 5})]
    [text] = asyncio.run(main("legacy"))
    assert "waits for a person's approval" in text and "https://console.example/approvals/" in text
    assert len(world.ran) == 1


def test_a_person_who_declines_stops_the_call(world: World) -> None:
    """The client gives up, and nothing runs."""
    key = ApproverKey.generate()
    token = world.token(f'{PAY} needs approval(1, "{key.text}")')

    async def elicit(_context: Any, _params: Any) -> mcp_types.ElicitResult:
        return mcp_types.ElicitResult(action="decline")

    async def main() -> None:
        made = server(world, world.guard(), approval_url=LINK)
        options = {"elicitation_callback": elicit, "input_required_max_rounds": 2}
        async with connected(made, token.present().text, "2026-07-28", **options) as client:
            await texts(client, ("pay", {"amount": 5}))

    with pytest.raises((MCPError, RuntimeError, BaseExceptionGroup)):
        asyncio.run(main())
    assert world.ran == []


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
def test_the_end_of_a_session_cancels_a_running_tool(world: World, mode: str) -> None:
    """A watched tool stops, and the agent is told no more than that its token is not valid."""
    token = world.token()
    made = server(world, world.guard(watch=True))
    started = asyncio.Event()

    @made.tool(name="get_weather")
    async def slow(city: str) -> str:
        started.set()
        await asyncio.sleep(30)
        return world.run("get_weather", city=city)

    async def main() -> list[str]:
        made._tool_manager.remove_tool("get_weather")
        made.tool(name="get_weather")(slow)
        async with connected(made, token.present().text, mode) as client:
            call = asyncio.create_task(texts(client, ("get_weather", {"city": "Bern"})))
            await started.wait()
            await asyncio.to_thread(world.end, token)
            return await call

    assert asyncio.run(main()) == ["not allowed: no valid token"]
    assert world.ran == []


STDIO = f"""
import sys
from mcp.server import MCPServer
from sessauth import ToolCatalog, Verifier
from sessauth.guard import Guard
from sessauth.guard.mcp import SessauthMiddleware

catalogue = ToolCatalog.from_mcp({SERVER!r}, {list(TOOLS)!r})
verifier = Verifier.embedded(sys.argv[1], audience={AUDIENCE!r})
guard = Guard(verifier, catalogue, audience={AUDIENCE!r})
server = MCPServer("tools", middleware=[SessauthMiddleware(guard)])

@server.tool()
def get_weather(city: str) -> str:
    return "get_weather done"

@server.tool()
def pay(amount: int) -> str:
    return "pay done"

server.run()
"""


@pytest.mark.parametrize("mode", MODES)
def test_over_stdio_the_token_is_in_each_message(world: World, mode: str, tmp_path: Path) -> None:
    """A server that is a process of its own, with an embedded verifier."""
    script = tmp_path / "server.py"
    script.write_text(STDIO)
    parameters = StdioServerParameters(
        command=sys.executable,
        args=[str(script), str(world.server.made.state_dir)],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )

    async def main() -> tuple[set[str], list[str]]:
        transport = authorized(stdio_client(parameters), Credentials(world.token()))
        async with Client(transport, mode=mode) as client:
            listed = {tool.name for tool in (await client.list_tools()).tools}
            calls = (("get_weather", {"city": "Bern"}), ("pay", {"amount": 50}), ("pay", {"amount": 500}))
            return listed, await texts(client, *calls)

    assert asyncio.run(main()) == (
        {"get_weather", "pay"},
        ["get_weather done", "pay done", "not allowed"],
    )


class _Request:
    def __init__(self, *headers: tuple[str, str]) -> None:
        self.headers = self
        self._pairs = headers

    def getlist(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for header, value in self._pairs if header == name]


@pytest.mark.parametrize(
    ("headers", "meta", "expected"),
    [
        ((), {}, {"token": ""}),
        ((("authorization", "Bearer t"),), {}, {"token": "t"}),
        ((("authorization", "bearer  t "),), {}, {"token": "t"}),
        ((("authorization", "Basic t"),), {}, {"token": ""}),
        ((("authorization", "Bearer t"), ("authorization", "Bearer u")), {}, {"token": ""}),
        ((), {TOKEN: "t"}, {"token": "t"}),
        ((("authorization", "Bearer t"),), {TOKEN: "t"}, {"token": ""}),
        ((), {TOKEN: 5}, {"token": ""}),
        ((), {TOKEN: None}, {"token": ""}),
        ((), {TOKEN: "t", PROOF: "p"}, {"token": "t", "proof": "p"}),
        ((), {TOKEN: "t", PROOF: ["p"]}, {"token": "t", "proof": "-"}),
        ((("authorization", "Bearer t"), ("x-sessauth-proof", "p")), {}, {"token": "t", "proof": "p"}),
        (
            (("authorization", "Bearer t"), ("x-sessauth-proof", "p")),
            {PROOF: "q"},
            {"token": "t", "proof": "-"},
        ),
    ],
)
def test_two_tokens_are_none(headers: Any, meta: dict[str, Any], expected: dict[str, Any]) -> None:
    """A token that stands in two places could be read as either."""
    assert call_terms({"_meta": meta}, _Request(*headers)) == expected


def test_the_guards_own_token_counts_without_http_alone() -> None:
    """Over HTTP anyone may call, who would have it all."""
    assert call_terms({}, None) == {}
    assert call_terms({}, _Request()) == {"token": ""}


def test_a_list_of_another_middleware_is_filtered_too(world: World) -> None:
    """It may be a model, where the SDK's own is a dict."""

    async def answer(_: Any) -> Any:
        tools = [{"name": tool["name"], "inputSchema": {"type": "object"}} for tool in TOOLS]
        return mcp_types.ListToolsResult.model_validate({"tools": tools})

    context: Any = SimpleNamespace(method="tools/list", params={}, meta=None, request=None, request_id=1)
    judged = SessauthMiddleware(world.guard(token=world.token()))(context, answer)
    result: Any = asyncio.run(judged)

    assert [tool["name"] for tool in result["tools"]] == ["get_weather", "pay"]


INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"elicitation": {}},
    "clientInfo": {"name": "test", "version": "1"},
}
ANSWER = {"jsonrpc": "2.0", "id": 77, "result": {"action": "accept"}}


async def http_side(world: World, app: Any) -> tuple[dict[str, list[int]], list[str]]:
    """Return the status of a session's requests with each token, and how its stream ended with it."""
    token, other = world.token(), world.token()
    accept = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
    statuses: dict[str, list[int]] = {}
    async with served(app) as url, httpx2.AsyncClient(timeout=30, headers=accept) as http:

        def bearer(each: Any) -> dict[str, str]:
            return {"authorization": f"Bearer {each.present().text}"} if each else {}

        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
        opened = await http.post(url, json=message, headers=bearer(token))
        mcp_id = {"mcp-session-id": opened.headers["mcp-session-id"]}
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await http.post(url, json=ready, headers={**mcp_id, **bearer(token)})
        for name, each in (("none", None), ("other", other), ("own", token)):
            headers = {**mcp_id, **bearer(each)}
            answered = await http.post(url, json=ANSWER, headers=headers)
            async with http.stream("GET", url, headers=headers) as stream:
                statuses[name] = [answered.status_code, stream.status_code]
            if each is not token:
                statuses[name].append((await http.delete(url, headers=headers)).status_code)
        ends: list[str] = []
        # Of the stream before this one the server may not know yet that it was closed.
        second = await http.post(url, json=message, headers=bearer(token))
        mcp_id = {"mcp-session-id": second.headers["mcp-session-id"]}
        try:
            async with http.stream("GET", url, headers={**mcp_id, **bearer(token)}) as stream:
                await asyncio.to_thread(world.end, token)
                async for _ in stream.aiter_bytes():
                    pass
        except httpx2.RemoteProtocolError:
            ends.append("broken off")
        for method in ("GET", "DELETE"):
            ended = await http.request(method, url, headers={**mcp_id, **bearer(token)})
            ends.append(str(ended.status_code))
    return statuses, ends


REFUSED_SIDE = {"none": [401] * 3, "other": [404] * 3, "own": [202, 200]}


def test_each_request_over_http_needs_the_token_of_its_session(world: World) -> None:
    """The stream, answers to the server and the end; the stream is broken off when the session ends."""
    guard = world.guard()
    app = GuardedMcpApp(server(world, guard).streamable_http_app(), guard)

    assert asyncio.run(http_side(world, app)) == (REFUSED_SIDE, ["broken off", "401", "401"])
