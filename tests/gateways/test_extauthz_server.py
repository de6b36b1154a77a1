"""The authorizer's server on both transports, asked as Envoy asks."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessauth.errors import ConfigError, UsageError
from sessauth.gateways.extauthz.authorizer import CHECK, HEALTH, REPEATING, AuthorizerServer, ExtAuthz
from sessauth.gateways.extauthz.v1 import check_pb2 as pb
from sessauth.gateways.request import RequestMapper
from sessauth.guard.services.resource_metadata import ResourceMetadata
from tests.guard.world import SERVER, Broken, World

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"%s"}}'


def request(token: str, tool: str = "get_weather", method: str = "POST", mcp_id: str = "") -> bytes:
    """Return Envoy's question about a tool call, or about a stream or the end of a session."""
    body = CALL % tool.encode() if method == "POST" else b""
    made = pb.CheckRequest()
    http = made.attributes.request.http
    http.method, http.path, http.size, http.raw_body = method, "/mcp", len(body), body
    lines = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    if body:
        lines["x-envoy-auth-partial-body"] = "false"
    if mcp_id:
        lines["mcp-session-id"] = mcp_id
    for name, value in lines.items():
        http.header_map.headers.add(key=name, raw_value=value.encode())
    return bytes(made.SerializeToString())


class Asked:
    """A running authorizer; ``ask`` returns its answer to encoded questions."""

    def __init__(self, world: World, path: Path, verifier: Any = None) -> None:
        """Start it."""
        mapper = RequestMapper(mcp={"/mcp": world.catalogue})
        verifier = world.server.verifier if verifier is None else verifier
        self.server = AuthorizerServer(ExtAuthz(verifier, mapper), world.server.verifier)
        self.address = self.server.listen(str(path))
        self.server.start()
        self.channel = grpc.insecure_channel(f"unix:{path}", options=[("grpc.use_local_subchannel_pool", 1)])

    def ask(self, data: bytes, method: str = CHECK) -> Any:
        """Return the answer."""
        answer = self.channel.unary_unary(method)(data, timeout=10, wait_for_ready=True)
        return pb.CheckResponse.FromString(answer) if method == CHECK else answer

    def close(self) -> None:
        """Stop."""
        self.channel.close()
        self.server.stop(0.2)


@pytest.fixture
def start(world: World, tmp_path: Path) -> Iterator[Callable[..., Asked]]:
    """Give a function that starts an authorizer."""
    running: list[Asked] = []

    def start(**options: Any) -> Asked:
        made = Asked(world, tmp_path / f"{len(running)}.sock", **options)
        running.append(made)
        return made

    yield start
    for each in running:
        each.close()


def test_calls_are_judged(start: Callable[..., Asked], world: World) -> None:
    """Allowed, denied, unknown, without a token that stands, after the end; each twice: cold and warm."""
    asked, token = start(), world.token()
    text = token.present().text
    for _ in range(2):
        allowed = asked.ask(request(text))
        assert allowed.status.code == 0
        set_by_us = {line.header.key: line.append_action for line in allowed.ok_response.headers}
        assert set_by_us == {"x-sessauth-session": 2, "x-sessauth-decision": 2}
        assert set(allowed.ok_response.headers_to_remove) == {
            *("authorization", "x-sessauth-token", "x-sessauth-proof", "x-sessauth-refusal", *REPEATING)
        }
        for tool in ("delete_repo", "drop_tables"):
            denied = asked.ask(request(text, tool))
            assert (denied.status.code, denied.denied_response.status.code) == (7, 403)
        for tool in ("get_weather", "drop_tables"):
            assert asked.ask(request("sessauth_token_x", tool)).denied_response.status.code == 401
    world.end(token)
    assert asked.ask(request(text)).denied_response.status.code == 401


def test_an_id_of_mcp_is_of_the_session_that_used_it_first(world: World) -> None:
    """Other tokens of that session have it too; to another session's it is not found, for any method."""
    authorizer = ExtAuthz(world.server.verifier, RequestMapper(mcp={"/mcp": world.catalogue}))
    session = world.session()
    mine, also, other = world.token(session=session), world.token(session=session), world.token()

    def status(token: Any, method: str, mcp_id: str) -> int:
        data = request(token.present().text, method=method, mcp_id=mcp_id)
        answer = pb.CheckResponse.FromString(authorizer.answer_now(data) or authorizer.answer(data))
        return answer.denied_response.status.code

    assert status(mine, "GET", "s-1") == 0
    for method in ("GET", "POST", "DELETE"):
        # The second answer is of the loop, which knows the token by then.
        assert [status(also, method, "s-1") for _ in range(2)] == [0, 0]
        assert [status(other, method, "s-1") for _ in range(2)] == [404, 404]
        assert status(other, method, "s-2") == 0
        assert status(mine, method, "s-2") == 404
    world.end(mine)
    assert status(also, "GET", "s-1") == 401


def test_the_challenge_of_a_path_has_the_address_of_its_metadata(world: World) -> None:
    """Each resource has its own; the document itself takes no token, and is shown for reads only."""
    metadata = {
        path: ResourceMetadata(f"https://api.example{path}", ["https://idp.example"]) for path in ("/mcp", "")
    }
    mapper = RequestMapper(mcp={"/mcp": world.catalogue}, http="api")
    authorizer = ExtAuthz(world.server.verifier, mapper, metadata)

    def ask(method: str, path: str, token: str = "") -> Any:
        made = pb.CheckRequest.FromString(request(token, method=method))
        made.attributes.request.http.path = path
        if not token:
            lines = made.attributes.request.http.header_map
            kept = [line for line in lines.headers if line.key != "authorization"]
            lines.ClearField("headers")
            lines.headers.extend(kept)
        data = made.SerializeToString()
        answer = pb.CheckResponse.FromString(authorizer.answer_now(data) or authorizer.answer(data))
        assert answer.status.code == 7
        lines = {line.header.key: line.header.value for line in answer.denied_response.headers}
        return answer.denied_response.status.code, lines.get("www-authenticate"), answer.denied_response.body

    at = "/.well-known/oauth-protected-resource"
    for path, document in (("/mcp", f"{at}/mcp"), ("/v1/notes", at), ("/v1/notes?page=2", at)):
        address = f'resource_metadata="https://api.example{document}"'
        assert ask("GET", path)[:2] == (401, f"Bearer {address}")
        assert ask("GET", path, "sessauth_token_x")[:2] == (401, f'Bearer error="invalid_token", {address}')
        status, _, body = ask("GET", document)
        assert status == 200
        assert json.loads(body)["resource"] == "https://api.example" + document.removeprefix(at)
        for method in ("POST", "DELETE"):
            assert ask(method, document)[0] == 401
    token = world.token().present().text
    assert ask("GET", "/v1/notes", token)[:2] == (403, 'Bearer error="insufficient_scope"')
    for path in (f"{at}?x=1", f"{at}/other"):
        assert ask("GET", path)[0] == 401


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x0a\x00", b"x" * 100_000])
def test_any_bytes_are_a_denial(start: Callable[..., Asked], data: bytes) -> None:
    """A message that is no request of Envoy."""
    answer = start().ask(data)
    assert answer.status.code == 7 and not answer.HasField("ok_response")


def test_a_broken_verifier_is_a_denial(start: Callable[..., Asked], world: World) -> None:
    """Nothing of its error is told."""
    answer = start(verifier=Broken()).ask(request(world.token().present().text))
    assert (answer.status.code, answer.denied_response.status.code) == (7, 503)
    assert "broken" not in answer.denied_response.body


def test_health_is_served_and_nothing_else(start: Callable[..., Asked]) -> None:
    """SERVING, in the bytes of the health protocol; other methods are unimplemented."""
    asked = start()
    assert asked.ask(b"", HEALTH) == b"\x08\x01"
    with pytest.raises(grpc.RpcError) as refused:
        asked.ask(b"", "/sessauth.v1.AuthorizationService/Check")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_many_tokens_at_once_are_answered(start: Callable[..., Asked], world: World) -> None:
    """More new tokens than threads, all in flight."""
    asked, session = start(), world.session()
    texts = [world.token(session=session).present().text for _ in range(40)]
    check = asked.channel.unary_unary(CHECK)
    futures = [check.future(request(text), timeout=20, wait_for_ready=True) for text in texts]
    codes = {pb.CheckResponse.FromString(future.result()).status.code for future in futures}
    assert codes == {0}


def test_an_address_must_be_free_and_of_the_loopback(world: World, tmp_path: Path) -> None:
    """TCP without TLS is for this host, unless somebody insists."""
    mapper = RequestMapper(mcp={"/mcp": world.catalogue})
    server = AuthorizerServer(ExtAuthz(world.server.verifier, mapper), world.server.verifier)
    try:
        with pytest.raises(UsageError, match="insecure_tcp"):
            server.listen("0.0.0.0:0")
        host, _, port = server.listen("127.0.0.1:0").rpartition(":")
        assert host == "127.0.0.1" and int(port)
        assert server.listen("0.0.0.0:0", insecure_tcp=True)
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError):
            server.listen(str(tmp_path / "file"))
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="Address"):
            server.listen(f"127.0.0.1:{taken.getsockname()[1]}")
    finally:
        server.stop(0)


def test_the_catalogues_server_is_in_the_resource(world: World) -> None:
    """Scopes of the fixtures name it."""
    assert world.catalogue.server == SERVER
