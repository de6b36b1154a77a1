"""``sessauth mcp guard`` in front of a server that behaves."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from sessauth import HolderKey
from sessauth.approvals.approver import Approver, ApproverKey
from tests.guard.world import World
from tests.support.mcp_wire import MODERN, Wire, text_of
from tests.support.service import wait_until

PAY = "write:mcp/tools/pay where amount <= 100"
ERROR = "error"


@pytest.mark.parametrize("judge", [("--state",), ()], ids=["embedded", "server"])
def test_allowed_runs_and_denied_does_not(world: World, judge: tuple[str, ...]) -> None:
    """The server sees the allowed call alone; the client is told no more than "not allowed"."""
    with Wire(world, world.token(), judge=judge) as wire:
        wire.handshake()
        assert text_of(wire.call("get_weather", {"city": "Bern"})) == "get_weather done"
        denied = wire.call("pay", {"amount": 500})["result"]
        unknown = wire.call("drop_tables", {})["result"]
        listed = [tool["name"] for tool in wire.ask("tools/list")["result"]["tools"]]
        assert wire.end() == 0

        assert (denied["isError"], denied["content"][0]["text"]) == (True, "not allowed")
        assert len(denied["_meta"]["io.sessauth/decision"]) == 32
        assert unknown["content"][0]["text"] == "not allowed"
        assert listed == ["get_weather", "pay"]
        assert wire.called() == [{"name": "get_weather", "arguments": {"city": "Bern"}}]
        assert b"CONDITION_FAILED" in wire.errors


def test_methods_need_a_scope(world: World) -> None:
    """Resources and prompts are methods of the protocol, judged with their parameters."""
    scope = 'read:mcp/tools/@resources/read where uri == "file:///a"'
    with Wire(world, world.token(scope)) as wire:
        wire.handshake()
        allowed = wire.ask("resources/read", {"uri": "file:///a", "_meta": {"progressToken": 1}})
        other = wire.ask("resources/read", {"uri": "file:///b"})
        listed = wire.ask("resources/list")

        assert allowed["result"] == {}
        for refused in (other, listed):
            assert (refused[ERROR]["code"], refused[ERROR]["message"]) == (-31002, "not allowed")


@pytest.mark.parametrize("judge", [("--state",), ()], ids=["embedded", "server"])
def test_the_end_of_the_session_ends_the_connection(world: World, judge: tuple[str, ...]) -> None:
    """A call under way is answered, the server is ended, and the exit code says so."""
    token = world.token()
    with Wire(world, token, way="silent", judge=judge) as wire:
        wire.handshake()
        wire.send(id=3, method="tools/call", params={"name": "get_weather", "arguments": {"city": "a"}})
        assert wait_until(lambda: len(wire.called()) == 1)
        world.end(token)

        answer = wire.read(10)
        assert (answer["id"], text_of(answer)) == (3, "not allowed: no valid token")
        assert wire.wait(10) == 1
        assert ["notifications/cancelled", 3] in [[m, p.get("requestId")] for m, p in wire.received() if p]


def test_a_token_that_is_refused_starts_nothing(world: World) -> None:
    """The server is not started."""
    token = world.token()
    world.end(token)
    with Wire(world, token) as wire:
        assert wire.wait() == 1
        assert b"SESSION_ENDED" in wire.errors
        assert wire.received() == []


def test_a_suspended_session_goes_on_when_it_is_resumed(world: World) -> None:
    """Calls are refused meanwhile; the connection stays."""
    token = world.token()
    with Wire(world, token) as wire:
        wire.handshake()
        world.server.operator.suspend(token.session_id)
        time.sleep(0.6)
        assert text_of(wire.call("get_weather", {"city": "a"})) == "not allowed: no valid token"
        world.server.operator.resume(token.session_id)
        assert text_of(wire.call("get_weather", {"city": "a"})) == "get_weather done"


def test_lists_are_for_this_client_alone(world: World) -> None:
    """A client of 2026-07-28 could store a list and show it to others."""
    with Wire(world, world.token()) as wire:
        result = wire.ask("tools/list", {"_meta": MODERN})["result"]

        assert (result["ttlMs"], result["cacheScope"]) == (0, "private")


def test_nothing_of_the_token_reaches_the_server(world: World) -> None:
    """Neither its text nor the proxy's settings are in the server's environment or arguments, nor in logs."""
    token = world.token("read:mcp/tools/get_weather free *")
    with Wire(world, token, way="environment") as wire:
        wire.handshake()
        environment, argv = json.loads(text_of(wire.call("get_weather", {"city": "a"})))
        command_line = Path(f"/proc/{wire.process.pid}/cmdline").read_bytes().decode()
        wire.call("delete_repo", {})
        wire.end()

        text = token.present().text
        assert not [name for name in environment if name.startswith("SESSAUTH_")]
        assert "PATH" in environment
        for shown in (json.dumps(environment), json.dumps(argv), command_line, wire.errors.decode()):
            assert text[20:60] not in shown
        assert "token" in command_line


def test_an_approval_is_asked_of_a_person(world: World) -> None:
    """The client is given an address; the repeated call runs once a person has approved it."""
    key = ApproverKey.generate()
    token = world.token(f'{PAY} needs approval(1, "{key.text}")')
    options = ("--approval-url", "https://console.example/approvals/{session}/{approval}")
    with Wire(world, token, *options, judge=()) as wire:
        asked = wire.call("pay", {"amount": 5}, _meta=MODERN, requestState="s")["result"]
        older = wire.call("pay", {"amount": 5})["result"]
        [request] = world.server.operator.list_approvals(session_id=token.session_id).approvals
        link = f"https://console.example/approvals/{token.session_id.hex()}/{request.record.id.hex()}"

        assert (asked["resultType"], asked["requestState"]) == ("input_required", "s")
        assert asked["inputRequests"]["io.sessauth/approval"]["params"]["url"] == link
        assert older["isError"] and link in older["content"][0]["text"]
        assert wire.called() == []

        world.server.operator.grant_approval(request, Approver(key))
        responses = {"io.sessauth/approval": {"action": "accept"}}
        done = wire.call("pay", {"amount": 5}, _meta=MODERN, inputResponses=responses)
        assert text_of(done) == "pay done"
        [params] = wire.called()
        assert "inputResponses" not in params


def test_a_bound_token_is_proven_by_the_proxy(world: World, tmp_path: Path) -> None:
    """The proxy is the holder; without the key the token is worth nothing."""
    holder = HolderKey.generate()
    key = tmp_path / "holder.pem"
    holder.save(key)
    token = world.token(ending="bound", to=holder.public)
    for options, expected in ((("--holder-key", str(key)), "get_weather done"), ((), "not allowed")):
        with Wire(world, token, *options, judge=()) as wire:
            wire.handshake()
            assert [text_of(wire.call("get_weather", {"city": "a"})) for _ in range(2)] == [expected] * 2


def test_an_observing_proxy_lets_all_pass(world: World) -> None:
    """And logs what it would deny."""
    with Wire(world, world.token(), "--observe") as wire:
        wire.handshake()
        assert text_of(wire.call("pay", {"amount": 500})) == "pay done"
        assert len(wire.ask("tools/list")["result"]["tools"]) == 3
        wire.end()
        assert b"would be denied" in wire.errors


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--token-file", "-"), b"--token-file"),
        (("--approval-url", "javascript:x"), b"--approval-url"),
        (("--url", "http://example.com/mcp"), b"give a command"),
        (("--record-arguments", "/nowhere/file"), b"--record-arguments"),
        (("--record-arguments", "/dev/null"), b"only its owner may read"),
    ],
)
def test_wrong_options_are_named(world: World, options: tuple[str, ...], word: bytes) -> None:
    """The error names the option, and nothing is started."""
    with Wire(world, world.token(), *options) as wire:
        assert wire.wait() == 2
        assert word in wire.errors
        assert wire.received() == []


def test_a_command_that_is_none(world: World) -> None:
    """Named, with exit code 2."""
    with Wire(world, world.token(), server=("--", "/nowhere/server")) as wire:
        assert wire.wait() == 2
        assert b"/nowhere/server" in wire.errors


def test_the_proxy_dies_and_the_server_too(world: World) -> None:
    """A server that reads its input sees the end of it."""
    with Wire(world, world.token()) as wire:
        wire.handshake()
        children = Path(f"/proc/{wire.process.pid}/task/{wire.process.pid}/children").read_text().split()
        wire.process.kill()
        wire.process.wait()
        assert children
        assert wait_until(lambda: not any(_runs(int(pid)) for pid in children))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
