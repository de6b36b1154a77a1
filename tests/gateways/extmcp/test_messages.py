"""Messages of agentgateway's policy protocol, over a real socket. There is no binary to test with."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessauth import ToolCatalog
from sessauth.clock import SystemClock
from sessauth.crypto.armor import proof_text
from sessauth.errors import ConfigError, UsageError
from sessauth.gateways.extmcp.policy import SERVICE, ExtMcpPolicy, ExtMcpServer
from sessauth.gateways.extmcp.v1 import ext_mcp_pb2 as messages
from sessauth.tokens.prover import HolderKey
from tests.guard.world import SERVER, Broken, World
from tests.support.server_fixture import AUDIENCE

OTHER = ToolCatalog.from_mcp("other", [{"name": "look", "annotations": {"readOnlyHint": True}}])
METHODS = ("read:mcp/other/**", "write:mcp/tools/@logging/setLevel")


class Door:
    """The policy server, as agentgateway calls it."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target)

    def request(
        self, method: str, params: Any, headers: list[tuple[str, str]], services: tuple[str, ...] = (SERVER,)
    ) -> messages.McpRequestAnswer:
        """Ask for a client's message."""
        encoded = params if isinstance(params, bytes) else json.dumps(params).encode()
        message = messages.McpRequest(
            service_names=services,
            method=method,
            params=encoded,
            headers=[messages.HttpHeader(key=key, value=value.encode()) for key, value in headers],
        )
        call = self.channel.unary_unary(
            f"/{SERVICE}/CheckRequest",
            messages.McpRequest.SerializeToString,
            messages.McpRequestAnswer.FromString,
        )
        return call(message, timeout=20)  # type: ignore[no-any-return]

    def response(
        self, method: str, result: Any, metadata: dict[str, Any], services: tuple[str, ...] = (SERVER,)
    ) -> messages.McpResponseAnswer:
        """Ask for a server's result."""
        encoded = result if isinstance(result, bytes) else json.dumps(result).encode()
        message = messages.McpResponse(service_names=services, method=method, result=encoded)
        message.metadata_context.update(metadata)
        call = self.channel.unary_unary(
            f"/{SERVICE}/CheckResponse",
            messages.McpResponse.SerializeToString,
            messages.McpResponseAnswer.FromString,
        )
        return call(message, timeout=20)  # type: ignore[no-any-return]


@pytest.fixture
def make_door(world: World, tmp_path: Path) -> Iterator[Any]:
    """Give a function that serves a policy by a verifier."""
    running: list[tuple[ExtMcpServer, Door]] = []

    def make(verifier: Any = None) -> Door:
        policy = ExtMcpPolicy(verifier or world.server.verifier, [world.catalogue, OTHER], audience=AUDIENCE)
        server = ExtMcpServer(policy)
        path = server.listen(str(world.server.home / f"extmcp{len(running)}.sock"))
        server.start()
        door = Door(f"unix:{path}")
        running.append((server, door))
        return door

    yield make
    for server, door in running:
        door.channel.close()
        server.stop(0.2)


@pytest.fixture
def door(make_door: Any) -> Door:
    """The policy server."""
    return make_door()  # type: ignore[no-any-return]


@pytest.fixture
def token(world: World) -> Any:
    """A token for some tools and methods."""
    scopes = ("read:mcp/tools/get_weather", "write:mcp/tools/pay where amount <= 100", *METHODS)
    session = world.session(ceiling=("read,write:mcp/**",))
    return world.token(*scopes, session=session)


def bearer(token: Any) -> list[tuple[str, str]]:
    """Return the header of a token."""
    return [("Authorization", f"Bearer {token.present().text}")]


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """Return the parameters of tools/call."""
    return {"name": name, "arguments": arguments}


def refusal(answer: Any) -> tuple[int, str]:
    """Return the code and word of a refusal."""
    assert answer.WhichOneof("answer") == "refused"
    assert not answer.HasField("header_changes") if hasattr(answer, "header_changes") else True
    return answer.refused.code, json.loads(answer.refused.data)["error"]


DENIED = (messages.Refused.CODE_PERMISSION_DENIED, "denied")
INVALID = (messages.Refused.CODE_INVALID, "denied")
UNAUTHENTICATED = (messages.Refused.CODE_PERMISSION_DENIED, "unauthenticated")
UNAVAILABLE = (messages.Refused.CODE_UNSPECIFIED, "unavailable")


def test_an_allowed_call_is_passed_on_without_its_token(door: Door, token: Any) -> None:
    """The server is told the session instead, and a client's own header of that name is replaced."""
    answer = door.request("tools/call", call("pay", amount=100), bearer(token))

    assert answer.WhichOneof("answer") == "allowed"
    changes = answer.header_changes
    assert set(changes.remove) == {"authorization", "x-sessauth-proof", "x-sessauth-token"}
    values = {header.key: header.value.decode() for header in changes.set}
    assert values["x-sessauth-session"] == token.session_id.hex()
    assert answer.metadata["decision"] == values["x-sessauth-decision"] != ""


@pytest.mark.parametrize(
    ("method", "params", "services", "refused"),
    [
        ("tools/call", call("pay", amount=101), (SERVER,), DENIED),
        ("tools/call", call("delete_repo"), (SERVER,), DENIED),
        ("tools/call", call("drop_tables"), (SERVER,), DENIED),
        ("tools/call", call("look"), (SERVER,), DENIED),
        ("tools/call", call("get_weather"), ("other",), DENIED),
        ("tools/call", call("get_weather"), ("nobody",), INVALID),
        ("tools/call", call("get_weather"), (), INVALID),
        ("tools/call", call("get_weather"), (SERVER, "other"), INVALID),
        ("tools/call", call("get_weather"), (SERVER, SERVER), INVALID),
        ("tools/call", {}, (SERVER,), INVALID),
        ("tools/call", {"name": 7}, (SERVER,), INVALID),
        ("tools/call", b'{"name":"get_weather","name":"delete_repo"}', (SERVER,), INVALID),
        ("tools/call", b'{"name":"pay","arguments":{"amount":1,"amount":2}}', (SERVER,), INVALID),
        ("tools/call", b'{"name":"get_weather"},"method":"ping","x":{}', (SERVER,), INVALID),
        ("tools/call", b"[]", (SERVER,), INVALID),
        ("tools/call", {**call("get_weather"), "_meta": {"io.sessauth/token": "x"}}, (SERVER,), INVALID),
        ("prompts/list", {}, (SERVER,), DENIED),
        ("new/method", {}, (SERVER,), DENIED),
        ('x","params":{},"y":"', {}, (SERVER,), DENIED),
        ("tools/list", {}, (SERVER, "nobody"), INVALID),
    ],
)
def test_messages_that_are_refused(
    door: Door, token: Any, method: str, params: Any, services: tuple[str, ...], refused: tuple[int, str]
) -> None:
    """The token does not permit them, nobody pinned them, or they can be read in two ways."""
    assert refusal(door.request(method, params, bearer(token), services)) == refused


@pytest.mark.parametrize(
    ("method", "services"),
    [
        ("initialize", (SERVER,)),
        ("initialize", (SERVER, "other")),
        ("tools/list", (SERVER, "other")),
        ("logging/setLevel", (SERVER,)),
    ],
)
def test_other_methods_that_are_permitted(
    door: Door, token: Any, method: str, services: tuple[str, ...]
) -> None:
    """The handshake needs a token that stands, a list the permission for each server."""
    assert door.request(method, {}, bearer(token), services).WhichOneof("answer") == "allowed"
    assert refusal(door.request(method, {}, [], services)) == UNAUTHENTICATED
    proof = ("x-sessauth-proof", "sessauth_proof_x")
    assert door.request(method, {}, [*bearer(token), proof], services).WhichOneof("answer") == "allowed"


def test_a_call_needs_exactly_one_token(door: Door, token: Any) -> None:
    """Not none, not two."""
    for headers in ([], [*bearer(token), *bearer(token)], [("authorization", "Basic x")]):
        assert refusal(door.request("tools/call", call("get_weather"), headers)) == UNAUTHENTICATED


def test_after_the_end_of_the_session_nothing_passes(world: World, door: Door, token: Any) -> None:
    """Calls, the handshake and lists."""
    world.end(token)

    assert refusal(door.request("tools/call", call("get_weather"), bearer(token))) == UNAUTHENTICATED
    assert refusal(door.request("initialize", {}, bearer(token))) == UNAUTHENTICATED
    metadata = {"token": token.present().text}
    assert refusal(door.response("tools/list", {"tools": []}, metadata)) == UNAUTHENTICATED


def test_without_an_answer_nothing_passes(world: World, make_door: Any, token: Any) -> None:
    """A verifier that raises, and a server that is not there."""
    with world.dead_client() as dead:
        for verifier in (Broken(), dead):
            door = make_door(verifier)
            assert refusal(door.request("tools/call", call("get_weather"), bearer(token))) == UNAVAILABLE
            assert refusal(door.request("tools/list", {}, bearer(token))) == UNAVAILABLE
            answer = door.response("tools/list", {"tools": []}, {"token": token.present().text})
            assert refusal(answer) == UNAVAILABLE


def test_a_bound_token_needs_a_proof_of_the_canonical_form(world: World, door: Door) -> None:
    """White space and order don't count, since agentgateway writes the parameters anew."""
    holder = HolderKey.generate()
    session = world.session()
    token = world.server.operator.mint(
        session.id, ["write:mcp/tools/pay"], [AUDIENCE], ending="bound", to=holder.public, may_seal=False
    )
    key = world.server.operator.verifier_keys().current(SystemClock().now_ms())
    assert key is not None
    proof = proof_text(holder.prove(token, "write", "mcp/tools/pay", {"amount": 5, "to": "x"}, key))
    headers = [("authorization", f"Bearer {token.text}"), ("x-sessauth-proof", proof)]
    params = b'{ "arguments" : {"to":"x", "amount":5}, "name":"pay" }'

    assert refusal(door.request("tools/call", params, headers[:1])) == DENIED
    assert refusal(door.request("tools/call", params, [*headers, headers[1]])) == INVALID
    assert door.request("tools/call", params, headers).WhichOneof("answer") == "allowed"
    assert refusal(door.request("tools/call", params, headers)) == DENIED


def listed(answer: messages.McpResponseAnswer) -> list[str]:
    """Return the names in a filtered list."""
    assert answer.WhichOneof("answer") == "result"
    return [tool["name"] for tool in json.loads(answer.result)["tools"]]


def test_a_list_shows_what_the_token_could_call(door: Door, token: Any) -> None:
    """The token comes in the metadata, in either form."""
    tools = [{"name": name, "inputSchema": {"maximum": 1.5}} for name in ("get_weather", "pay")]
    hidden = [{"name": "delete_repo"}, {"name": "drop_tables"}]
    result = {
        "tools": [hidden[0], *tools, hidden[1]],
        "ttlMs": 60_000,
        "cacheScope": "public",
        "nextCursor": "x",
    }
    text = token.present().text

    for metadata in ({"token": text}, {"authorization": f"Bearer {text}"}):
        answer = door.response("tools/list", result, metadata)
        assert listed(answer) == ["get_weather", "pay"]
        assert json.loads(answer.result) == {
            **{"tools": tools, "ttlMs": 0, "cacheScope": "private", "nextCursor": "x"}
        }


def test_a_list_of_several_servers_has_their_names_in_front(door: Door, token: Any) -> None:
    """A name without one, or of another server, is hidden."""
    names = ("tools_get_weather", "other_look", "get_weather", "look", "tools_look", "nobody_look", "other_")
    result = {"tools": [{"name": name} for name in names]}

    answer = door.response("tools/list", result, {"token": token.present().text}, (SERVER, "other"))

    assert listed(answer) == ["tools_get_weather", "other_look"]


@pytest.mark.parametrize(
    "result",
    [
        *(
            b"",
            b"{}",
            b"[]",
            b'{"tools":{}}',
            b'{"tools":[7]}',
            b'{"tools":[{}]}',
            b'{"tools":[],"tools":[]}',
        ),
        *(b'{"tools":[{"name":"pay","x":1e400}]}', b'{"tools":[{"name":"pay","x":NaN}]}', b"[" * 50_000),
    ],
    ids=lambda result: repr(result[:24]),
)
def test_a_list_that_can_not_be_read_is_refused(door: Door, token: Any, result: bytes) -> None:
    """It is not passed on as it is."""
    answer = door.response("tools/list", result, {"token": token.present().text})

    assert answer.WhichOneof("answer") in ("refused", "result")
    if answer.WhichOneof("answer") == "result":
        assert listed(answer) == []


@pytest.mark.parametrize("metadata", [{}, {"token": ""}, {"token": 7}, {"token": "a", "authorization": "b"}])
def test_a_list_needs_the_token_in_the_metadata(door: Door, metadata: dict[str, Any]) -> None:
    """Without one nothing is listed."""
    assert refusal(door.response("tools/list", {"tools": []}, metadata)) == UNAUTHENTICATED


def test_methods_without_a_request_phase_are_judged_by_their_answer(door: Door, token: Any) -> None:
    """Other answers pass: their requests were judged."""
    metadata = {"token": token.present().text}

    for method in ("resources/subscribe", "resources/unsubscribe", "completion/complete"):
        assert refusal(door.response(method, {}, metadata)) == DENIED
        assert door.response(method, {}, metadata, ("other",)).WhichOneof("answer") == "allowed"
        assert refusal(door.response(method, {}, {}, ("other",))) == UNAUTHENTICATED
    assert door.response("tools/call", {}, {}).WhichOneof("answer") == "allowed"


def test_the_numbers_on_the_wire_are_agentgateways() -> None:
    """Field numbers of its public API, written out here a second time."""
    request = messages.McpRequest(service_names=["s"], method="m", params=b"p")
    request.headers.add(key="k", value=b"v")
    assert request.SerializeToString() == b"\x0a\x01s\x12\x01m\x22\x01p\x2a\x06\x0a\x01k\x12\x01v"
    answer = messages.McpRequestAnswer(allowed=messages.Allowed())
    answer.header_changes.remove.append("a")
    answer.header_changes.set.add(key="k")
    assert answer.SerializeToString() == b"\x0a\x00\x22\x08\x0a\x03\x0a\x01k\x12\x01a"
    refused = messages.Refused(code=messages.Refused.CODE_INVALID, message="m", data=b"d")
    expected = b"\x1a\x08\x08\x03\x12\x01m\x1a\x01d"
    assert messages.McpRequestAnswer(refused=refused).SerializeToString() == expected
    assert messages.McpResponseAnswer(result=b"r").SerializeToString() == b"\x12\x01r"


def test_a_socket_is_closed_to_others(world: World, tmp_path: Path) -> None:
    """An address that others reach needs a word."""
    server = ExtMcpServer(ExtMcpPolicy(world.server.verifier, [world.catalogue]))
    path = Path(server.listen(str(world.server.home / "mode.sock")))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with pytest.raises(UsageError, match="others reach"):
        server.listen("0.0.0.0:0")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="Address"):
        server.listen(f"127.0.0.1:{taken.getsockname()[1]}")
    server.stop(0.2)
    with pytest.raises(UsageError, match="two of tools"):
        ExtMcpPolicy(world.server.verifier, [world.catalogue, world.catalogue])
