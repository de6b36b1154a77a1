"""The MCP SDK's client through a real Envoy to an MCP server that knows nothing of sessauth."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the MCP SDK: tests/guard/requirements/latest.txt")

import httpx2
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError

from sessauth import HolderKey, Prover, ToolCatalog
from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.guard.mcp_client import SessauthAuth
from sessauth.guard.mcp_terms import Credentials
from tests.gateways.envoy import SCOPES, Gateway, Upstream
from tests.support.server_fixture import AUDIENCE, ServerFixture

pytestmark = pytest.mark.filterwarnings("default")

MODES = ["2026-07-28", "legacy", "auto"]
RAN: list[tuple[str, Any]] = []


def _tools() -> MCPServer:
    made = MCPServer("demo")

    @made.tool()
    def get_weather(city: str) -> str:
        RAN.append(("get_weather", city))
        return f"sun in {city}"

    @made.tool()
    def pay(amount: int) -> str:
        RAN.append(("pay", amount))
        return f"paid {amount}"

    @made.tool()
    def delete_repo() -> str:
        RAN.append(("delete_repo", None))
        return "deleted"

    return made


@pytest.fixture(scope="module")
def mcp_gateway(
    envoy: str, guard_server: ServerFixture, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Give Envoy in front of the MCP server."""
    app = _tools().streamable_http_app()
    serving = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=serving.run, daemon=True)
    thread.start()
    while not serving.started:
        time.sleep(0.05)
    upstream = Upstream(port=serving.servers[0].sockets[0].getsockname()[1])
    folder: Path = tmp_path_factory.mktemp("envoy")
    made = Gateway(guard_server, folder, upstream)
    try:
        made.start_authorizer()
        made.start_envoy()
        yield made
    finally:
        made.close()
        serving.should_exit = True
        thread.join(10)


def _session(gateway: Gateway, credentials: Credentials, mode: str, *calls: tuple[str, Any]) -> list[str]:
    """Connect, call tools in turn, and return what the client shows of each."""
    url = f"http://127.0.0.1:{gateway.port}/mcp"
    shown: list[str] = []

    async def main() -> None:
        async with (
            httpx2.AsyncClient(auth=SessauthAuth(credentials, origin=url), timeout=20) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            for call in calls:
                try:
                    result = await client.call_tool(*call)
                except MCPError as error:
                    shown.append(f"error: {error}")
                else:
                    shown.append(str(result.content[0].text))

    RAN.clear()
    asyncio.run(main())
    return shown


def _token(gateway: Gateway, *scopes: str, **terms: Any) -> Any:
    session = terms.pop("session", None) or gateway.session()
    return gateway.server.operator.mint(session.id, scopes, [AUDIENCE], **terms)


@pytest.mark.parametrize("mode", MODES)
def test_a_client_is_shown_what_it_may_not_do(mcp_gateway: Gateway, mode: str) -> None:
    """Allowed calls run; a denied one is an error with its text, and the connection goes on."""
    credentials = Credentials(_token(mcp_gateway, *SCOPES).present())
    calls = [("get_weather", {"city": "Bern"}), ("pay", {"amount": 500}), ("delete_repo", {})]
    shown = _session(mcp_gateway, credentials, mode, *calls, ("pay", {"amount": 50}))

    assert shown == ["sun in Bern", "error: not allowed", "error: not allowed", "paid 50"]
    assert RAN == [("get_weather", "Bern"), ("pay", 50)]


@pytest.mark.parametrize("mode", MODES)
def test_a_bound_token_is_proven_for_each_message(mcp_gateway: Gateway, mode: str) -> None:
    """Two equal calls have two proofs; without the key nothing runs."""
    holder = HolderKey.generate()
    token = _token(mcp_gateway, *SCOPES, ending="bound", to=holder.public)
    catalogue = ToolCatalog.from_json(mcp_gateway.catalogue.read_text())
    prover = Prover(holder, mcp_gateway.server.control.verifier_keys)
    calls = [("pay", {"amount": 5.0})] * 2

    assert _session(mcp_gateway, Credentials(token, catalogue, prover), mode, *calls) == ["paid 5"] * 2
    shown = _session(mcp_gateway, Credentials(token), mode, *calls)
    assert shown == ["error: not allowed"] * 2
    assert RAN == []


def test_an_approved_call_runs(mcp_gateway: Gateway) -> None:
    """The client is told that a person must approve; afterwards the same call runs."""
    key = ApproverKey.generate()
    session = mcp_gateway.session()
    scope = f'write:mcp/demo/pay needs approval(1, "{key.text}")'
    credentials = Credentials(_token(mcp_gateway, scope, session=session).present())
    call = ("pay", {"amount": 7})

    (shown,) = _session(mcp_gateway, credentials, MODES[0], call)
    assert shown == "error: not done: it waits for a person's approval"
    operator = mcp_gateway.server.operator
    (asked,) = operator.list_approvals(session_id=session.id).approvals
    operator.grant_approval(asked, Approver(key))
    assert _session(mcp_gateway, credentials, MODES[0], call) == ["paid 7"]
