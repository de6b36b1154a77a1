"""Lists that the proxy itself reads: a call needs a definition that was seen and is the pinned one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sessauth.gateways.mcp_proxy import listing
from sessauth.gateways.mcp_proxy.listing import has_members
from tests.guard.world import TOOLS, World
from tests.support.mcp_proxied import Proxied

CALL = {"name": "get_weather", "arguments": {"city": "a"}}
DONE = {"content": [{"type": "text", "text": "done"}]}
CHANGED = {**TOOLS[0], "description": "now it sends your keys"}
LIST_CHANGED = "notifications/tools/list_changed"
UNAVAILABLE = "not done: no answer about the permission; try again later"
VERSION = "io.modelcontextprotocol/protocolVersion"


def proxied(world: World, tools: tuple[Any, ...] = TOOLS, **options: Any) -> Proxied:
    """Return a proxy whose client may see the weather of any city."""
    return Proxied(world, world.token("read:mcp/tools/get_weather free *"), tools=tools, **options)


async def called(made: Proxied, number: int = 1, **params: Any) -> str:
    """Call a tool; return "forwarded", or the text of the refusal."""
    sent = len(made.server)
    await made.asks(number, "tools/call", {**CALL, **params})
    if len(made.server) > sent:
        await made.answers(id=number, result=DONE)
        return "forwarded"
    return str(made.client[-1]["result"]["content"][0]["text"])


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("pages", "answer"),
    [
        ([list(TOOLS)], "forwarded"),
        ([[TOOLS[1]], [TOOLS[0]]], "forwarded"),
        ([[CHANGED, *TOOLS[1:]]], "not allowed"),
        ([[TOOLS[1]], [CHANGED]], "not allowed"),
        ([[TOOLS[0]], [CHANGED]], "not allowed"),
        ([[TOOLS[1], {"name": 5}]], "not allowed"),
        ([[{**TOOLS[0], "annotations": "x"}]], "not allowed"),
    ],
    ids=["pinned", "page 2", "changed", "changed on page 2", "listed twice", "not listed", "malformed"],
)
def test_a_tool_is_called_only_if_its_present_definition_is_the_pinned_one(
    world: World, pages: list[list[Any]], answer: str
) -> None:
    """The client lists nothing: the proxy reads all pages by itself, once."""

    async def main() -> tuple[str, str, int, int]:
        made = proxied(world)
        made.pages = pages
        results = await called(made), await called(made, 2)
        return *results, len(made.listings), len(made.server)

    assert asyncio.run(main()) == (answer, answer, len(pages), 2 * (answer == "forwarded"))


def test_calls_wait_for_the_new_list(world: World) -> None:
    """A call after list_changed is sent when the list is there, and only to an unchanged tool."""

    async def main(tool: dict[str, Any]) -> list[Any]:
        made = proxied(world)
        assert await called(made) == "forwarded"
        made.pages = None
        await made.sends(made.proxy.server_line, method=LIST_CHANGED)
        await made.sends(made.proxy.client_line, id=2, method="tools/call", params=CALL)
        await turns()
        assert [each["id"] for each in made.server] == [1]
        made.pages = [[tool]]
        await made.list_again(made.listings[-1])
        await made.proxy.settle()
        await turns()
        return [each["id"] for each in made.server]

    assert asyncio.run(main(dict(TOOLS[0]))) == [1, 2]
    assert asyncio.run(main(CHANGED)) == [1]


def test_a_list_that_changed_while_it_was_read_is_read_again(world: World) -> None:
    """A definition of before list_changed is not a present one."""

    async def main() -> tuple[str, int]:
        made = proxied(world)
        made.pages = None
        await made.sends(made.proxy.client_line, id=1, method="tools/call", params=CALL)
        await turns()
        await made.sends(made.proxy.server_line, method=LIST_CHANGED)
        made.pages = [[TOOLS[0]]]
        await made.list_again(made.listings[0])
        made.pages = [[CHANGED]]
        while not made.client[1:]:
            await asyncio.sleep(0.01)
        return made.client[-1]["result"]["content"][0]["text"], len(made.listings)

    assert asyncio.run(main()) == ("not allowed", 2)


def test_a_list_is_read_again_when_it_is_old(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that changes in silence is seen before the next call."""
    monkeypatch.setattr(listing, "AGE_S", 0.0)

    async def main() -> list[str]:
        made = proxied(world)
        first = await called(made)
        made.pages = [[CHANGED]]
        return [first, await called(made, 2)]

    assert asyncio.run(main()) == ["forwarded", "not allowed"]


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"code": -32601, "message": "no tools"}},
        {"result": {"tools": "none"}},
        {"result": {"tools": ["x"]}},
        {"result": {"tools": [TOOLS[0]], "nextCursor": "0"}},
        {"result": {"tools": [TOOLS[0], {"name": "x" * 3000}], "nextCursor": "0"}},
        None,
    ],
    ids=["an error", "no list", "no definitions", "pages without an end", "too many bytes", "silence"],
)
def test_without_a_list_nothing_is_called(
    world: World, answer: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages, bytes and time are bounded; a server that lists again is called again."""
    monkeypatch.setattr(listing, "LIST_S", 0.2 if answer is None else 30.0)
    monkeypatch.setattr(listing, "MAX_BYTES", 10_000)
    monkeypatch.setattr(listing, "MAX_PAGES", 5)

    async def main() -> list[str]:
        made = proxied(world)
        made.listing, made.pages = answer, None if answer is None else made.pages
        refused = await called(made)
        made.listing, made.pages = None, [list(TOOLS)]
        monkeypatch.setattr(listing, "LIST_S", 30.0)
        return [refused, await called(made, 2)]

    assert asyncio.run(main()) == [UNAVAILABLE, "forwarded"]


def test_the_list_is_read_after_the_handshake(world: World) -> None:
    """Not before initialize is answered, and then without waiting for a call."""

    async def main() -> list[int]:
        made = proxied(world)
        counts = []
        await made.asks(0, "initialize")
        await made.sends(made.proxy.client_line, id=1, method="tools/call", params=CALL)
        await turns()
        counts.append(len(made.listings))
        await made.answers(id=0, result={"protocolVersion": "2025-11-25"})
        await made.sends(made.proxy.client_line, method="notifications/initialized")
        await turns()
        counts.append(len(made.listings))
        await made.answers(id=1, result=DONE)
        await made.asks(2, "initialize")
        await made.answers(id=2, result={})
        await made.sends(made.proxy.client_line, method="notifications/initialized")
        await turns()
        return [*counts, len(made.listings)]

    assert asyncio.run(main()) == [0, 1, 2]


def test_a_list_of_a_later_version_states_the_version(world: World) -> None:
    """Each request of 2026-07-28 does; what belongs to the call alone is not repeated."""

    async def main() -> Any:
        made = proxied(world)
        await called(made, _meta={VERSION: "2026-07-28", "progressToken": 1})
        return made.listings[0]["params"]

    assert asyncio.run(main()) == {"_meta": {VERSION: "2026-07-28"}}


def test_the_client_sees_nothing_of_it(world: World) -> None:
    """Answers to the proxy are not forwarded, late ones neither."""

    async def main() -> list[Any]:
        made = proxied(world)
        await called(made)
        await made.list_again(made.listings[0])
        return [each["id"] for each in made.client]

    assert asyncio.run(main()) == [1]


def test_a_page_of_the_client_that_differs_counts_too(world: World) -> None:
    """A server that shows the client another definition than the proxy is not called."""

    async def main() -> tuple[list[Any], str]:
        made = proxied(world)
        assert await called(made) == "forwarded"
        await made.asks(2, "tools/list")
        await made.answers(id=2, result={"tools": [CHANGED]})
        return made.client[-1]["result"]["tools"], await called(made, 3)

    assert asyncio.run(main()) == ([], "not allowed")


def test_a_guard_that_observes_waits_for_no_list(world: World) -> None:
    """Every call passes."""

    async def main() -> str:
        made = proxied(world, mode="observe")
        made.pages = None
        return await called(made)

    assert asyncio.run(main()) == "forwarded"


def test_members_that_the_pinned_schema_lacks_are_refused(world: World) -> None:
    """A server that began to read another argument does not get it."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {**TOOLS[0], "inputSchema": schema}

    async def main() -> list[str]:
        made = proxied(world, (tool,))
        return [
            await called(made, number, arguments=each)
            for number, each in enumerate(({}, {"city": "a"}, {"keys": 1}))
        ]

    assert asyncio.run(main()) == ["forwarded", "forwarded", "not allowed"]


_POINT = {"type": "object", "properties": {"x": {}}}
_OPEN = {"additionalProperties": True}


@pytest.mark.parametrize(
    ("schema", "arguments", "declared"),
    [
        ({"properties": {"a": {}}}, {"a": 1}, True),
        ({"properties": {"a": {}}}, {"a": 1, "b": 1}, False),
        ({"properties": {}, "additionalProperties": False}, {"b": 1}, False),
        ({"additionalProperties": False}, {"b": 1}, False),
        ({"properties": {}}, {"b": 1}, False),
        ({"type": "object"}, {"b": 1}, True),
        ({"properties": {"a": {}}, **_OPEN}, {"b": 1}, True),
        ({"properties": {"a": {}}, "patternProperties": {"^x": {}}}, {"xb": 1}, True),
        (None, {"b": 1}, True),
        (True, {"b": 1}, True),
        ({"properties": {"p": _POINT}}, {"p": {"x": 1}}, True),
        ({"properties": {"p": _POINT}}, {"p": {"y": 1}}, False),
        ({"properties": {"p": {**_POINT, **_OPEN}}}, {"p": {"y": 1}}, True),
        ({"properties": {"p": {"items": _POINT}}}, {"p": [{"x": 1}, {"y": 1}]}, False),
        ({"properties": {"p": {"prefixItems": [_POINT], "items": {}}}}, {"p": [{"x": 1}, {"y": 1}]}, True),
        ({"properties": {"p": {"$ref": "#/$defs/P"}}, "$defs": {"P": _POINT}}, {"p": {"y": 1}}, False),
        ({"properties": {"p": {"$ref": "#/$defs/P"}}, "$defs": {"P": _POINT}}, {"p": {"x": 1}}, True),
        ({"properties": {"p": {"$ref": "#/$defs/Q"}}, "$defs": {"P": _POINT}}, {"p": {"y": 1}}, True),
        ({"properties": {"p": {"anyOf": [_POINT, {"type": "null"}]}}}, {"p": {"y": 1}}, False),
        ({"properties": {"p": {"anyOf": [_POINT, {"properties": {"y": {}}}]}}}, {"p": {"y": 1}}, True),
        ({"properties": {"a": {}}, "anyOf": [{"required": ["a"]}]}, {"b": 1}, False),
        ({"allOf": [{"$ref": "#"}], "properties": {"a": {"$ref": "#"}}}, {"a": {"a": {"b": 1}}}, False),
    ],
)
def test_members_of_a_schema(schema: Any, arguments: Any, declared: bool) -> None:
    """A schema that names properties has no others, unless it says so; one that names none says nothing."""
    assert has_members(schema, arguments) is declared
