"""Real tools: one scope lets an agent read one repository, and nothing else of 117 tools."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sessauth.decisions.tool_catalog import ToolCatalog
from sessauth.errors import UnknownTool
from sessauth.reasons import Reason
from sessauth.tokens.token import Token
from tests.support.memory_fixture import MemoryFixture, memory_fixture

DEFAULT_DATA = Path(__file__).parents[3] / "shared" / "data"
TOOLS_DIR = Path(os.environ.get("SESSAUTH_SHARED_DATA", DEFAULT_DATA)) / "mcp-github"
SCOPE = 'read:mcp/github/* where owner == "acme" and repo == "web" free *'
TARGET = {"owner": "acme", "repo": "web"}

pytestmark = pytest.mark.skipif(
    not TOOLS_DIR.is_dir(),
    reason=f"the definitions of GitHub's MCP tools are not in {TOOLS_DIR}: set SESSAUTH_SHARED_DATA",
)
TOOLS: list[dict[str, Any]] = [json.loads(p.read_text()) for p in sorted(TOOLS_DIR.glob("*.json"))]
READING = [tool for tool in TOOLS if tool["annotations"].get("readOnlyHint") is True]
WRITING = [tool for tool in TOOLS if tool["annotations"].get("readOnlyHint") is not True]
ON_REPOSITORY = [tool for tool in READING if TARGET.keys() <= tool["inputSchema"]["properties"].keys()]
ELSEWHERE = [tool for tool in READING if tool not in ON_REPOSITORY]

# Every way in which one value of owner or repo can be another, or no text at all.
MUTATIONS: list[Any] = [
    *(
        "",
        "Acme",
        "acme ",
        " acme",
        "acme/",
        "acme\x00",
        "acmf",
        "acm",
        "acmee",
        "аcme",
        "acme*",
        "*",
        "../acme",
    ),
    *(None, True, 0, 1.5, [], ["acme"], ["web"], {}, {"acme": "acme"}, {"owner": "acme"}),
]


def names(tools: list[dict[str, Any]]) -> list[str]:
    """Name tools for parameters."""
    return [tool["name"] for tool in tools]


def sample(schema: dict[str, Any]) -> Any:
    """Give a value that a property's schema admits."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "array":
            return [sample(schema.get("items", {}))]
        case "object":
            return {name: sample(inner) for name, inner in schema.get("properties", {}).items()}
        case "number" | "integer":
            return 7
        case "boolean":
            return True
        case _:
            return "text"


def arguments(tool: dict[str, Any]) -> dict[str, Any]:
    """Fill every argument that a tool takes; those named owner and repo with the target."""
    filled = {name: sample(schema) for name, schema in tool["inputSchema"]["properties"].items()}
    return filled | {name: value for name, value in TARGET.items() if name in filled}


@pytest.fixture(scope="module")
def memory() -> MemoryFixture:
    """A session to check in."""
    return memory_fixture()


@pytest.fixture(scope="module")
def catalogue() -> ToolCatalog:
    """The tools that the operator pinned."""
    return ToolCatalog.from_mcp("github", TOOLS)


@pytest.fixture(scope="module")
def token(memory: MemoryFixture) -> Token:
    """A token with the one scope."""
    return memory.mint(SCOPE)


def test_the_tools_are_those_that_were_counted() -> None:
    """117 tools, 58 read and 59 write; so the parameters below are not empty by mistake."""
    assert (len(TOOLS), len(READING), len(WRITING)) == (117, 58, 59)
    assert len(ON_REPOSITORY) == 41 and len(ELSEWHERE) == 17


@pytest.mark.parametrize("name", names(ON_REPOSITORY))
def test_reading_the_repository_is_allowed(
    memory: MemoryFixture, catalogue: ToolCatalog, token: Token, name: str
) -> None:
    """Owner and repo alone are allowed, and every argument that the tool takes."""
    tool = next(t for t in TOOLS if t["name"] == name)

    for given in (TARGET, arguments(tool)):
        assert memory.check(token, *catalogue.request(name), json.dumps(given).encode())


@pytest.mark.parametrize("name", names(ON_REPOSITORY))
def test_owner_or_repo_changed_alone_is_denied(
    memory: MemoryFixture, catalogue: ToolCatalog, token: Token, name: str
) -> None:
    """Another value, another type, or no value: CONDITION_FAILED with the argument's name."""
    full = arguments(next(t for t in TOOLS if t["name"] == name))
    request = catalogue.request(name)

    for argument in TARGET:
        dropped = {n: v for n, v in full.items() if n != argument}
        changed = [{**full, argument: value} for value in MUTATIONS]
        for given in (dropped, *changed, {**dropped, argument.upper(): TARGET[argument]}):
            decision = memory.check(token, *request, json.dumps(given).encode())
            assert not decision, given
            assert (decision.reason, decision.argument) == (Reason.CONDITION_FAILED, argument), given


@pytest.mark.parametrize("name", names(ON_REPOSITORY))
def test_every_other_argument_changed_alone_stays_allowed(
    memory: MemoryFixture, catalogue: ToolCatalog, token: Token, name: str
) -> None:
    """The scope leaves them free, whatever they are."""
    full = arguments(next(t for t in TOOLS if t["name"] == name))

    for argument in full.keys() - TARGET.keys():
        for value in MUTATIONS:
            given = json.dumps({**full, argument: value}).encode()
            assert memory.check(token, *catalogue.request(name), given), (argument, value)


def test_arguments_said_twice_or_badly_are_denied(
    memory: MemoryFixture, catalogue: ToolCatalog, token: Token
) -> None:
    """A second owner, or what is no JSON object, never reaches the conditions."""
    request = catalogue.request("get_commit")

    for raw in (
        b'{"owner":"acme","repo":"web","owner":"evil"}',
        b'{"owner":"evil","repo":"web","\\u006fwner":"acme"}',
        b'[{"owner":"acme","repo":"web"}]',
        b'{"owner":"acme","repo":"web"',
        b'\xef\xbb\xbf{"owner":"acme","repo":"web"}',
        b'{"owner":"acme","repo":"web"}{}',
    ):
        assert memory.check(token, *request, raw).reason is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize("name", names(ELSEWHERE))
def test_reading_elsewhere_is_denied(
    memory: MemoryFixture, catalogue: ToolCatalog, token: Token, name: str
) -> None:
    """A read-only tool that takes no owner and repo has nothing that the conditions could hold for."""
    given = json.dumps(arguments(next(t for t in TOOLS if t["name"] == name))).encode()

    assert memory.check(token, *catalogue.request(name), given).reason is Reason.CONDITION_FAILED


@pytest.mark.parametrize("name", names(WRITING))
def test_every_writing_tool_is_denied(
    memory: MemoryFixture, catalogue: ToolCatalog, token: Token, name: str
) -> None:
    """Also on the repository itself."""
    given = json.dumps(arguments(next(t for t in TOOLS if t["name"] == name)) | TARGET).encode()

    assert memory.check(token, *catalogue.request(name), given).reason is Reason.OUT_OF_SCOPE


def test_a_tool_added_later_is_denied_until_it_is_pinned(
    memory: MemoryFixture, catalogue: ToolCatalog, token: Token
) -> None:
    """Though it calls itself read-only; and a pinned tool that now calls itself so stays a write."""
    later = {"name": "get_everything", "annotations": {"readOnlyHint": True}, "inputSchema": {}}
    turned = {**WRITING[0], "annotations": {"readOnlyHint": True}}
    now = [*(tool for tool in TOOLS if tool is not WRITING[0]), later, turned]
    given = json.dumps(TARGET).encode()

    with pytest.raises(UnknownTool):
        catalogue.request("get_everything")
    assert set(catalogue.changed(now)) == {"get_everything", turned["name"]}
    assert not memory.check(token, *catalogue.request(turned["name"]), given)
    pinned_again = ToolCatalog.from_mcp("github", [*TOOLS, later])
    assert memory.check(token, *pinned_again.request("get_everything"), given)


def test_other_methods_and_servers_are_denied(
    memory: MemoryFixture, catalogue: ToolCatalog, token: Token
) -> None:
    """``*`` is one segment below one server."""
    given = json.dumps(TARGET).encode()

    assert not memory.check(token, *catalogue.request("", "resources/read"), given)
    for outside in ("gitlab/get_commit", "github", "github/get_commit/x", "GitHub/get_commit"):
        assert memory.check(token, "read", f"mcp/{outside}", given).reason is Reason.OUT_OF_SCOPE
