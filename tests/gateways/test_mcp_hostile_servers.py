"""Servers behind the proxy that break the protocol, ask for what they may not, or change."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.guard.world import World
from tests.support.mcp_wire import MODERN, SERVER, Wire, text_of
from tests.support.service import wait_until

ERROR = "error"


@pytest.mark.parametrize(("way", "code"), [("dies", 4), ("half", 4), ("endless", 2)])
def test_a_server_that_ends_or_breaks(world: World, way: str, code: int) -> None:
    """Calls under way are answered, and the exit code names the cause."""
    with Wire(world, world.token(), way=way) as wire:
        wire.handshake()
        answer = wire.call("get_weather", {"city": "a"})
        assert answer[ERROR]["message"] == "the server ended before it answered"
        assert wire.wait() == code


def test_lines_of_the_server_that_are_no_messages_are_dropped(world: World) -> None:
    """Servers print to their output; nothing of it reaches the client."""
    with Wire(world, world.token(), way="noise") as wire:
        wire.handshake()
        assert text_of(wire.call("get_weather", {"city": "a"})) == "get_weather done"


@pytest.mark.parametrize("way", ["twice", "other-id"])
def test_answers_to_nothing_are_dropped(world: World, way: str) -> None:
    """The client gets one answer, the one to its request."""
    with Wire(world, world.token(), way=way) as wire:
        wire.handshake()
        for number in (1, 2):
            params = {"name": "get_weather", "arguments": {"city": "a"}}
            assert text_of(wire.ask("tools/call", params, number)) == "get_weather done"
        assert wire.end() == 0
        assert wire.read() is None


def test_a_flood_reaches_a_slow_client_whole(world: World) -> None:
    """The server waits for the client, and the proxy holds no more than a few lines."""
    with Wire(world, world.token(), way="flood") as wire:
        wire.handshake()
        wire.send(id=1, method="tools/call", params={"name": "get_weather", "arguments": {"city": "a"}})
        counts = [wire.read()["params"]["data"] for _ in range(20_000)]

        assert counts == list(range(20_000))
        assert wire.read()["id"] == 1


def test_requests_of_the_server_need_a_scope(world: World) -> None:
    """A server may ping; to use the model or ask the user it needs a scope of the token."""
    with Wire(world, world.token(), way="asks") as wire:
        wire.handshake()
        wire.send(id=1, method="tools/call", params={"name": "get_weather", "arguments": {"city": "a"}})
        assert [wire.read().get("method") for _ in range(2)] == ["ping", None]
        assert wait_until(lambda: [method for method, _ in wire.received()].count(None) == 3)
        refused = [error for method, error in wire.received() if method is None]

        assert [error["code"] for error in refused] == [-31002] * 3


def test_requests_of_the_server_with_a_scope(world: World) -> None:
    """The client's answer goes back, once."""
    scopes = ("read:mcp/tools/get_weather free *", "write:mcp/tools/@sampling/createMessage")
    with Wire(world, world.token(*scopes), way="asks") as wire:
        wire.handshake()
        wire.send(id=1, method="tools/call", params={"name": "get_weather", "arguments": {"city": "a"}})
        methods = [wire.read().get("method") for _ in range(3)]
        for _ in range(2):
            wire.send(id="of-server-sampling/createMessage", result={"content": "hello"})
        wire.call("get_weather", {"city": "b"})

        assert methods == ["ping", "sampling/createMessage", None]
        answers = [each for each in wire.received() if each[0] is None]
        assert len([each for each in answers if each[1] is None]) == 1


def test_input_requests_in_a_result_need_a_scope_too(world: World) -> None:
    """A server of 2026-07-28 asks by its result."""
    with Wire(world, world.token(), way="input") as wire:
        answer = wire.call("get_weather", {"city": "a"}, _meta=MODERN)["result"]

        assert (answer["isError"], answer["content"][0]["text"]) == (True, "not allowed")


def test_no_line_of_the_server_is_two(world: World) -> None:
    """A message within a message, for readers that end lines at other characters."""
    with Wire(world, world.token(), way="lines") as wire:
        wire.handshake()
        wire.send(id=1, method="tools/call", params={"name": "get_weather", "arguments": {"city": "a"}})
        line = wire._lines.get(timeout=30)

        assert line.decode().splitlines() == [line.decode().rstrip("\n")]
        assert "createMessage" in json.loads(line)["result"]["x"]


def test_a_tool_that_changed_is_hidden_and_refused(world: World) -> None:
    """It is refused whether the client lists or not; its description reaches no model."""
    with Wire(world, world.token(), way="changed") as wire:
        wire.handshake()
        assert text_of(wire.call("get_weather", {"city": "a"})) == "not allowed"
        assert [tool["name"] for tool in wire.ask("tools/list")["result"]["tools"]] == ["pay"]
        assert text_of(wire.call("get_weather", {"city": "a"})) == "not allowed"
        assert text_of(wire.call("pay", {"amount": 5})) == "pay done"
        assert wait_until(lambda: b"not defined as pinned" in wire.errors)


def test_a_server_that_stays_is_ended(world: World) -> None:
    """At the latest four seconds after the client."""
    with Wire(world, world.token(), way="stays") as wire:
        wire.handshake()
        started = time.monotonic()
        assert wire.end() == 0
        assert time.monotonic() - started < 10


def test_what_a_server_started_ends_with_it(world: World) -> None:
    """A server such as npx starts the real one; all of its process group is ended."""
    script = f'sleep 60 & echo $! >"$0"; exec {sys.executable} {SERVER} good /dev/null'
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pid"
        with Wire(world, world.token(), server=("--", "sh", "-c", script, str(file))) as wire:
            wire.handshake()
            assert wire.end() == 0
        pid = int(file.read_text())

    assert wait_until(lambda: not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in status(pid))


def status(pid: int) -> str:
    """Return what the system knows of a process."""
    return Path(f"/proc/{pid}/status").read_text()
