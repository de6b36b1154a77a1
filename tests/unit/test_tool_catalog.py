"""Catalogues: what is pinned is a read or a write, and nothing else is known."""

from __future__ import annotations

import json

import pytest

from sessauth.decisions.tool_catalog import Candidate, ToolCatalog
from sessauth.errors import UnknownTool, UsageError
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.vectors.world import AUDIENCE, NOW, root, token


def tool(name: str, **hints: object) -> dict[str, object]:
    """Give a tool as tools/list does."""
    return {"name": name, "description": "d", "inputSchema": {"type": "object"}, "annotations": hints}


TOOLS = [
    tool("get", readOnlyHint=True),
    tool("put", readOnlyHint=False, destructiveHint=False, idempotentHint=True, openWorldHint=False),
    tool("drop", destructiveHint=True),
    {"name": "bare"},
]


@pytest.fixture
def catalogue() -> ToolCatalog:
    """A pinned server."""
    return ToolCatalog.from_mcp("files", TOOLS)


@pytest.mark.parametrize(
    ("name", "action"), [("get", "read"), ("put", "write"), ("drop", "write"), ("bare", "write")]
)
def test_only_a_read_only_hint_makes_a_read(catalogue: ToolCatalog, name: str, action: str) -> None:
    """Without the hint a tool is a write."""
    assert catalogue.request(name) == (action, f"mcp/files/{name}")


@pytest.mark.parametrize(
    "hints", [{"readOnlyHint": "true"}, {"readOnlyHint": 1}, {"readOnlyHint": True, "destructiveHint": True}]
)
def test_a_doubtful_hint_is_a_write(hints: dict[str, object]) -> None:
    """Anything but a plain true, or a contradiction, does not make a read."""
    assert ToolCatalog.from_mcp("s", [tool("t", **hints)]).request("t")[0] == "write"


@pytest.mark.parametrize("name", ["other", "GET", "get ", "", "../get", "get/x", "*"])
def test_an_unknown_tool_has_no_request(catalogue: ToolCatalog, name: str) -> None:
    """It is UnknownTool, with the name that was asked for."""
    with pytest.raises(UnknownTool) as caught:
        catalogue.request(name)

    assert caught.value.tool == name
    assert name not in catalogue


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("tools/list", "handshake"),
        ("prompts/list", "read"),
        ("resources/read", "read"),
        ("logging/setLevel", "write"),
        ("made/up/later", "write"),
    ],
)
def test_other_methods_have_a_resource_of_their_own(catalogue: ToolCatalog, method: str, action: str) -> None:
    """They need no scope, look or write; one that this version doesn't know writes."""
    assert catalogue.request("", method) == (action, f"mcp/files/@{method}")


@pytest.mark.parametrize("method", ["a//b", "a/../b", "x*", "a\\b", "/tools/call", "a\n"])
def test_a_method_that_can_not_be_a_resource_is_unknown(catalogue: ToolCatalog, method: str) -> None:
    """No method is normalised into another."""
    with pytest.raises(UnknownTool):
        catalogue.request("get", method)


@pytest.mark.parametrize("name", ["a/b", "*", "", "..", "a%2fb", "@tools", "x\x00", None, 7])
def test_a_tool_that_can_not_be_a_segment_is_not_pinned(name: object) -> None:
    """A server's odd name is refused when it is pinned, by name."""
    with pytest.raises(UsageError, match="name"):
        ToolCatalog.from_mcp("files", [{"name": name}])


def test_a_server_name_is_one_segment_and_a_tool_is_there_once() -> None:
    """Neither can shadow another."""
    with pytest.raises(UsageError, match="server"):
        ToolCatalog.from_mcp("a/b", [])
    with pytest.raises(UsageError, match="twice"):
        ToolCatalog.from_mcp("files", [tool("get"), tool("get", readOnlyHint=True)])


def test_conditions_can_read_what_is_pinned(catalogue: ToolCatalog) -> None:
    """The facts of a tool, with the protocol's defaults where it gives no hint."""
    assert json.loads(catalogue.describe("put")) | {"digest": ""} == {
        **{"server": "files", "name": "put", "action": "write", "read_only": False, "digest": ""},
        **{"destructive": False, "idempotent": True, "open_world": False},
    }
    assert json.loads(catalogue.describe("bare"))["destructive"] is True
    with pytest.raises(UnknownTool):
        catalogue.describe("other")


def test_what_is_written_reads_back_the_same(catalogue: ToolCatalog) -> None:
    """The file is stable, whatever the order in which tools were listed."""
    text = catalogue.to_json()
    again = ToolCatalog.from_json(text)

    assert again.to_json() == text
    assert ToolCatalog.from_mcp("files", reversed(TOOLS)).to_json() == text
    assert list(again) == ["bare", "drop", "get", "put"] and len(again) == 4
    assert again.request("get") == ("read", "mcp/files/get")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": 1', '"format": 2'),
        ('"action": "read"', '"action": "*"'),
        ('"name"', '"nom"'),
        ('"open_world": true', '"open_world": 1'),
        ('"open_world": true', '"corrected": "no"'),
        ("{", ""),
    ],
)
def test_another_file_is_refused(catalogue: ToolCatalog, old: str, new: str) -> None:
    """A newer format, an action that is neither, or anything else is no catalogue."""
    with pytest.raises(UsageError):
        ToolCatalog.from_json(catalogue.to_json().replace(old, new, 1))


def test_what_a_server_changed_is_named(catalogue: ToolCatalog) -> None:
    """Added, dropped and redefined tools, so that an operator can look before pinning again."""
    now = [{**TOOLS[0], "description": "now it also writes"}, *TOOLS[1:3], tool("new")]

    assert catalogue.changed(TOOLS) == ()
    assert catalogue.changed(now) == ("bare", "get", "new")


def test_the_operators_word_stands_beside_the_digest(catalogue: ToolCatalog) -> None:
    """It changes action and hints, is kept in the file, and is no change of the server's."""
    corrected = catalogue.corrected({"bare": "read", "get": "write", "put": "write"})
    again = ToolCatalog.from_json(corrected.to_json())

    assert again.corrections() == {"bare": "read", "get": "write"}
    assert again.changed(TOOLS) == ()
    assert [again.request(name)[0] for name in again] == ["read", "write", "write", "write"]
    facts = json.loads(again.describe("get"))
    assert facts["destructive"] is True and facts["idempotent"] is False and "corrected" not in facts
    assert catalogue.corrections() == {} and catalogue.request("get")[0] == "read"
    for wrong in ({"other": "read"}, {"get": "delete"}):
        with pytest.raises(UsageError):
            catalogue.corrected(wrong)


def test_tools_that_a_token_could_call() -> None:
    """A tools/list shows the pinned tools that are not denied for all arguments."""
    catalogue = ToolCatalog.from_mcp("files", TOOLS)
    verifier = Verifier(bulk_sessions.source(), audience=AUDIENCE)
    chain = token(
        root("read:mcp/files/*", 'write:mcp/files/* where tool.destructive == false and path under "/tmp"')
    )
    offered = [*TOOLS, {"name": "new"}, {"name": 7}, {}]

    shown = verifier.list_tools(chain, catalogue, offered, now_ms=NOW)
    assert [each["name"] for each in shown] == ["get", "put"]
    assert catalogue.candidates(["get"]) == [
        Candidate("read", "mcp/files/get", None, catalogue.describe("get"))
    ]
    with pytest.raises(UnknownTool):
        catalogue.candidates(["get", "new"])
