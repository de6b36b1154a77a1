"""Messages that hold requests or come late, line by line and without a process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sessauth.approvals.approver import ApproverKey
from sessauth.gateways.mcp_proxy.serve import ConnectionEnd, _from_client
from sessauth.gateways.mcp_proxy.upstream import Child, HttpError
from tests.guard.world import TOOLS, World
from tests.support.mcp_proxied import Proxied

CALL = {"name": "get_weather", "arguments": {"city": "a"}}
SAMPLING = {"a": {"method": "sampling/createMessage", "params": {}}}
ELICITATION = {"mode": "url", "elicitationId": "1", "url": "https://example.com", "message": "Sign in"}


def _answers(world: World, message: dict[str, Any], *scopes: str, **options: Any) -> list[Any]:
    """Return what the client gets when the server answers its call with ``message``."""

    async def main() -> list[Any]:
        proxied = Proxied(world, world.token("read:mcp/tools/get_weather free *", *scopes), **options)
        await proxied.asks(1, "tools/call", CALL)
        await proxied.answers(**message)
        if "id" in message:
            assert len(proxied.client) == 1
        return proxied.client

    return asyncio.run(main())


UNSCOPED = pytest.mark.parametrize(
    "message",
    [
        {"id": 1, "result": {"inputRequests": SAMPLING}},
        {"id": 1, "result": {"InputRequests": SAMPLING}},
        {"id": 1, "result": {"inputRequests": {"a": {"method": "ping", "Method": "sampling/createMessage"}}}},
        {"id": 1, "error": {"code": -32042, "message": "x", "data": {"elicitations": [ELICITATION]}}},
        {"id": 1, "error": {"code": -32042, "message": "x", "data": {"Elicitations": [ELICITATION]}}},
        {"id": 1, "error": {"code": -32042, "message": "x", "data": {"elicitations": ["x"]}}},
        {"method": "notifications/tasks", "params": {"taskId": "1", "inputRequests": SAMPLING}},
        {"method": "notifications/tasks/status", "params": {"taskId": "1", "InputRequests": SAMPLING}},
    ],
)


@UNSCOPED
def test_a_request_within_another_message_needs_a_scope(world: World, message: dict[str, Any]) -> None:
    """It does in a result, in an error and in a notification, however its name is written."""
    got = _answers(world, message)

    assert [each["result"]["content"][0]["text"] for each in got] == ["not allowed"] * ("id" in message)


@UNSCOPED
def test_a_guard_that_observes_passes_them_on(world: World, message: dict[str, Any]) -> None:
    """They reach the client unchanged."""
    assert _answers(world, message, mode="observe") == [{"jsonrpc": "2.0", **message}]


@pytest.mark.parametrize(
    ("message", "method"),
    [
        ({"method": "notifications/tasks", "params": {"inputRequests": SAMPLING}}, "sampling/createMessage"),
        ({"id": 1, "error": {"code": -32042, "message": "", "data": {"elicitations": [ELICITATION]}}}, ""),
        ({"id": 1, "error": {"code": 1, "message": "", "data": "elicitations"}}, ""),
    ],
)
def test_a_request_within_another_message_with_a_scope(
    world: World, message: dict[str, Any], method: str
) -> None:
    """It is judged by its own parameters, and passed on as it came."""
    scope = f"write:mcp/tools/@{method or 'elicitation/create'}"
    narrow = f'{scope} where mode == "url" free *' if not method else scope

    assert _answers(world, message, narrow) == [{"jsonrpc": "2.0", **message}]


def test_a_list_that_comes_late_is_filtered_too(world: World) -> None:
    """The id of a cancelled request may be used again before the server answers the first."""

    async def main() -> Any:
        proxied = Proxied(
            world, world.token("read:mcp/tools/get_weather free *", "read:mcp/tools/@resources/list")
        )
        await proxied.asks(1, "tools/list")
        cancel = {"method": "notifications/cancelled", "params": {"requestId": 1}}
        await proxied.sends(proxied.proxy.client_line, **cancel)
        await proxied.asks(1, "resources/list")
        await proxied.answers(id=1, result={"tools": list(TOOLS)})
        return proxied.client

    [answer] = asyncio.run(main())
    assert [tool["name"] for tool in answer["result"]["tools"]] == ["get_weather"]


@pytest.mark.parametrize(
    ("tools", "shown"),
    [
        ([{**TOOLS[0], "annotations": "x"}, TOOLS[1]], []),
        ([*TOOLS, *({"name": f"tool-{number}"} for number in range(100_000))], ["get_weather"]),
    ],
)
def test_lists_of_any_form_and_length_are_answered(world: World, tools: list[Any], shown: list[str]) -> None:
    """No server stops the proxy by its list."""

    async def main() -> Any:
        proxied = Proxied(world, world.token("read:mcp/tools/get_weather free *"))
        await proxied.asks(1, "tools/list")
        async with asyncio.timeout(20):
            await proxied.answers(id=1, result={"tools": tools})
        return proxied.client

    [answer] = asyncio.run(main())
    assert [tool["name"] for tool in answer["result"]["tools"]] == shown


def test_a_notification_is_judged_by_its_parameters(world: World) -> None:
    """A scope without arguments permits none."""

    async def main() -> list[Any]:
        proxied = Proxied(world, world.token("write:mcp/tools/@notifications/x where a == 1"))
        for params in ({"a": 1}, {"a": 1, "_meta": {}}, {"a": 2}, {"a": 1, "b": 1}, {}):
            line = {"method": "notifications/x", "params": params}
            await proxied.sends(proxied.proxy.client_line, **line)
        await proxied.sends(proxied.proxy.client_line, method="notifications/progress", params={"x": 1})
        return [each["params"] for each in proxied.server]

    assert asyncio.run(main()) == [{"a": 1}, {"_meta": {}, "a": 1}, {"x": 1}]


def test_a_server_that_gives_its_requests_up_can_make_others(world: World) -> None:
    """Nobody has to answer what was cancelled."""

    async def main() -> list[Any]:
        proxied = Proxied(world, world.token())
        for number in range(300):
            await proxied.sends(proxied.proxy.server_line, id=number, method="ping")
            cancel = {"method": "notifications/cancelled", "params": {"requestId": number}}
            await proxied.sends(proxied.proxy.server_line, **cancel)
        return proxied.server

    assert asyncio.run(main()) == []


def test_an_answer_of_a_server_that_reads_nothing(world: World) -> None:
    """It answers a call that could not be sent; the proxy ends all the same."""

    async def main() -> list[Any]:
        proxied = Proxied(world, world.token("read:mcp/tools/get_weather free *"), failure=BrokenPipeError())
        await proxied.asks(1, "tools/call", CALL)
        await asyncio.sleep(0.2)
        await proxied.answers(id=1, result={"content": []})
        async with asyncio.timeout(5):
            await proxied.proxy.close()
        return proxied.client

    assert [each["error"]["code"] for each in asyncio.run(main())] == [-32603]


def test_a_call_whose_guard_fails_is_answered(world: World) -> None:
    """The callback of a guard may raise anything."""

    def approve(_: object) -> None:
        raise LookupError

    async def main() -> list[Any]:
        waits = f'needs approval(1, "{ApproverKey.generate().text}")'
        token = world.token(f"read:mcp/tools/get_weather free * {waits}")
        proxied = Proxied(world, token, approve=approve)
        await proxied.asks(1, "tools/call", CALL)
        assert proxied.proxy.idle
        return proxied.client

    assert [each["error"]["code"] for each in asyncio.run(main())] == [-32603]


def test_a_message_that_does_not_arrive_ends_no_connection(world: World) -> None:
    """A server over HTTP may be away for one notification."""

    async def main() -> tuple[ConnectionEnd, int]:
        proxied = Proxied(world, world.token(), failure=HttpError("no connection"))
        reader = asyncio.StreamReader()
        reader.feed_data(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n' * 2)
        reader.feed_eof()
        upstream = await Child.start(["true"])
        ending = await _from_client(proxied.proxy, reader, upstream, asyncio.Event(), proxied._to_client)
        await upstream.close()
        return ending, proxied.attempts

    assert asyncio.run(main()) == (ConnectionEnd.CLIENT, 2)
