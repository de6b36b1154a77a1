"""Tools, and tokens alone, by both clients against a real server, beside the verifier's own answers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessauth.client import AsyncClient, CheckItem, Client
from sessauth.decisions.decision import DecisionBase
from sessauth.decisions.tool_catalog import ToolCatalog
from sessauth.errors import UsageError
from sessauth.reasons import Reason, Stage
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.base import BaseVerifier
from sessauth.verifier.verifier import Verifier
from tests.support.service import Service

from .conftest import FakeServer, always

AUDIENCE = "gateway"
TOOLS = [
    {"name": "get", "annotations": {"readOnlyHint": True}},
    {"name": "put"},
    {"name": "drop", "annotations": {"destructiveHint": True}},
]
CATALOGUE = ToolCatalog.from_mcp("docs", TOOLS)
SCOPES = ["read:mcp/docs/*", 'write:mcp/docs/put where owner == "acme" free *']
Ask = Callable[..., Any]


@pytest.fixture(params=["blocking", "awaited"])
def ask(request: pytest.FixtureRequest, service: Service) -> Iterator[Ask]:
    """Give a function that calls a method of a client."""
    target = str(service.made.socket)
    if request.param == "blocking":
        with Client(target, timeout_ms=10_000) as client:
            yield lambda name, *args, **options: getattr(client, name)(*args, **options)
        return

    async def run(name: str, *args: Any, **options: Any) -> Any:
        async with AsyncClient(target, timeout_ms=10_000) as client:
            return await getattr(client, name)(*args, **options)

    yield lambda name, *args, **options: asyncio.run(run(name, *args, **options))


@pytest.fixture
def token(service: Service) -> Token:
    """A token of a live session."""
    with Client(str(service.made.socket), timeout_ms=10_000) as client:
        session = client.open_session(subject="agent", ceiling=["*:mcp/**"])
        return client.mint(session.id, SCOPES, [AUDIENCE])


def _embedded(service: Service) -> Verifier:
    """Return a verifier in this process, where the server runs too."""
    assert service.control is not None
    return Verifier(service.control.writer.source(), audience=AUDIENCE)


def _facts(decision: DecisionBase) -> dict[str, object]:
    own = ("decision_id", "revision", "view_age_ms")
    return {name: value for name, value in decision.to_dict().items() if name not in own}


@pytest.mark.parametrize(
    ("tool", "arguments", "method"),
    [
        ("get", b"{}", "tools/call"),
        ("put", b'{"owner":"acme"}', "tools/call"),
        ("put", b"{}", "tools/call"),
        ("drop", b"{}", "tools/call"),
        ("unknown", b"{}", "tools/call"),
        *(("", b"", method) for method in ("initialize", "notifications/initialized", "tools/list", "a//b")),
    ],
)
def test_a_client_answers_as_the_verifier_does(
    service: Service, ask: Ask, token: Token, tool: str, arguments: bytes, method: str
) -> None:
    """Allowed, denied, unknown and of the handshake; a decision that no server made has no id."""
    options = {"method": method, "audience": AUDIENCE, "proof": b""}
    remote = ask("check_tool", token, CATALOGUE, tool, arguments, **options)
    local = _embedded(service).check_tool(token, CATALOGUE, tool, arguments, **options)

    assert _facts(remote) == _facts(local)
    assert bool(remote.decision_id) is (remote.reason is not Reason.UNKNOWN_TOOL)
    if remote.reason is Reason.UNKNOWN_TOOL:
        assert (remote.stage, remote.allowed, bool(remote)) == (Stage.SCOPE, False, False)
        assert remote.explain() == local.explain()


def test_an_unknown_tool_reaches_no_server(server: FakeServer, client: Client) -> None:
    """The denial is made here, whatever a server would have said."""
    server.answers["AuthorizationService/Check"] = always(
        pb.CheckResponse(decision=pb.Decision(allowed=True, reason=pb.REASON_ALLOWED))
    )

    assert client.check_tool(b"t", CATALOGUE, "other").reason is Reason.UNKNOWN_TOOL
    assert server.seen == []
    assert client.check_tool(b"t", CATALOGUE, "get", b"{}")
    (sent,) = server.requests(pb.CheckRequest)
    assert (sent.item.action, sent.item.resource) == (b"read", b"mcp/docs/get")
    assert sent.item.tool == CATALOGUE.describe("get") and not sent.item.token_only


def test_tools_are_listed_as_the_verifier_lists_them(service: Service, ask: Ask, token: Token) -> None:
    """Those that could be called at all, in their order, with what the catalogue does not have left out."""
    offered: list[dict[str, Any]] = [{"name": "new"}, *reversed(TOOLS), {"name": 7}, {}]
    shown = ask("list_tools", token, CATALOGUE, offered, audience=AUDIENCE)
    assert shown == _embedded(service).list_tools(token, CATALOGUE, offered)
    assert [tool["name"] for tool in shown] == ["put", "get"]
    assert ask("list_tools", token, CATALOGUE, [{"name": "new"}], audience=AUDIENCE) == []
    assert ask("list_tools", token, CATALOGUE, offered, audience="another") == []


def test_more_tools_than_a_survey_takes_are_listed_in_parts(ask: Ask, token: Token) -> None:
    """A server takes 1,024 at once."""
    tools = [{"name": f"tool-{number}", "annotations": {"readOnlyHint": True}} for number in range(1_100)]
    catalogue = ToolCatalog.from_mcp("docs", tools)

    assert ask("list_tools", token, catalogue, tools, audience=AUDIENCE) == tools


def test_a_token_stands_or_not(ask: Ask, service: Service, token: Token) -> None:
    """Also one of no scopes for anything here, and none of another audience or of an ended session."""
    standing = ask("stands", token, audience=AUDIENCE)
    assert standing and standing.matched_index == -1
    assert standing.session_id == token.session_id and len(standing.decision_id) == 16
    assert ask("stands", token.text, audience="another").reason is Reason.WRONG_AUDIENCE
    assert ask("stands", "no token", audience=AUDIENCE).reason is Reason.MALFORMED_TOKEN
    with Client(str(service.made.socket), timeout_ms=10_000) as operator:
        operator.end(token.session_id)
    assert ask("stands", token, audience=AUDIENCE).reason is Reason.SESSION_ENDED


def test_a_bound_token_is_not_proven_for_it(service: Service) -> None:
    """A client with the holder's key makes no proof, since there is no call to prove."""
    holder = HolderKey.generate()
    with Client(str(service.made.socket), timeout_ms=10_000, holder=holder) as client:
        session = client.open_session(subject="agent", ceiling=["*:mcp/**"])
        token = client.mint(session.id, SCOPES, [AUDIENCE], to=holder.public)
        item = CheckItem.of_token(token)

        assert client.stands(token, audience=AUDIENCE)
        (batched,) = client.check_batch([item], audience=AUDIENCE)
        assert batched and batched.matched_index == -1
        with client.watch(audience=AUDIENCE) as watch:
            assert watch.ask(item)


def test_the_refusal_of_an_older_server_is_an_error_and_no_allow(server: FakeServer, client: Client) -> None:
    """It refuses the item for want of an action."""
    import grpc

    def refuse(request: bytes, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "item.action: is required")

    server.answers["AuthorizationService/Check"] = refuse
    with pytest.raises(UsageError, match="action"):
        client.stands(b"t", audience="gw")
    (sent,) = server.requests(pb.CheckRequest)
    assert sent.item.token_only and not sent.item.action


@pytest.mark.parametrize("name", ["check_tool", "list_tools", "stands"])
def test_the_signatures_are_the_verifiers(name: str) -> None:
    """The same names in the same order; a client's audience is a text."""
    ours = inspect.signature(getattr(AsyncClient, name)).parameters
    theirs = inspect.signature(getattr(BaseVerifier, name)).parameters

    assert [(each.name, each.kind) for each in ours.values()] == [
        (each.name, each.kind) for each in theirs.values()
    ]
