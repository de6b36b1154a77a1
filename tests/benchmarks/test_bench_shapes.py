"""The generators of servers and calls, and the workloads that are made of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

pytest.importorskip("benchmarks.measure", reason="the benchmarks are not part of the installed package")

from benchmarks import catalogues, denied, realistic, state_setup, tokens, workloads
from benchmarks.arguments import DEEPEST, value
from benchmarks.catalog_generator import McpServer, large_server, small_servers
from benchmarks.catalogues import GENERATED, Servers
from benchmarks.state_setup import World
from benchmarks.workloads import Workload
from sessauth._fast.token.chain import Chain
from sessauth.reasons import Reason

NOWHERE = Path("no-such-folder")


@pytest.fixture(scope="module")
def live_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A state folder with live sessions, opened as a verifier does."""
    made = state_setup.build(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


def test_servers_come_from_their_seed() -> None:
    """One seed gives one set of tools and one series of calls, another seed others."""
    for make in (
        lambda seed: [large_server("github", seed)],
        lambda seed: small_servers(seed, 12),
    ):
        first, second, other = make(1), make(1), make(2)
        assert [server.tools for server in first] == [server.tools for server in second]
        assert [server.tools for server in first] != [server.tools for server in other]
        tool = first[0].tools[0]["name"]
        assert first[0].call(tool, random.Random(5)) == second[0].call(tool, random.Random(5))


def test_the_large_server_has_tools_about_one_repository() -> None:
    """Sixty tools; some only read, some do not; each takes owner and repo, and two to ten arguments."""
    server = large_server("github", 1)
    counts = [len(server.properties(tool["name"])) for tool in server.tools]

    assert 10 < len(server.read_tools) < len(server.tools) == 60
    assert all(server.takes(tool["name"], "owner", "repo") for tool in server.tools)
    assert min(counts) >= 2 and max(counts) <= 10 and 4 <= median(counts) <= 6


def test_small_servers_are_many_with_few_tools_of_few_arguments() -> None:
    """Seventy servers with a median of three to six tools, and a median of one to three arguments."""
    servers = small_servers(1)
    tools = [(server, tool["name"]) for server in servers for tool in server.tools]
    kinds = [schema.get("type") for server, tool in tools for schema in server.properties(tool).values()]

    assert len(servers) == 70
    assert 3 <= median(len(server.tools) for server in servers) <= 6
    assert 1 <= median(len(server.properties(tool)) for server, tool in tools) <= 3
    assert 0.35 < kinds.count("string") / len(kinds) < 0.6
    assert {"array", "object", "boolean", "integer"} <= set(kinds)
    assert sum(len(server.read_tools) for server in servers) < len(tools) / 4


def test_a_call_takes_what_is_given_and_fills_in_the_rest() -> None:
    """Every argument of the tool is there, those that were given with their values."""
    server = large_server("github", 1)
    tool = server.read_tools[0]

    arguments = json.loads(server.call(tool, random.Random(1), owner="acme", repo="web").arguments)

    assert arguments.keys() == server.properties(tool).keys()
    assert (arguments["owner"], arguments["repo"]) == ("acme", "web")


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, str),
        ({"type": "integer"}, int),
        ({"type": "number"}, float),
        ({"type": "boolean"}, bool),
        ({"type": ["null", "integer"]}, int),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, bool),
        ({"type": "null"}, type(None)),
        ({"type": "array", "items": {"type": "integer"}}, list),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, dict),
        ({}, str),
    ],
)
def test_values_are_what_their_schema_admits(schema: dict[str, Any], kind: type) -> None:
    """Each type of JSON, alternatives by the first that is not null, and a text where nothing is said."""
    made = value("x", schema, random.Random(1))

    assert type(made) is kind
    if kind is list:
        assert made and all(type(each) is int for each in made)
    assert value("x", {"enum": ["only"]}, random.Random(1)) == "only"


def test_a_schema_that_holds_itself_ends() -> None:
    """Values are at most so deep, whatever the schema says."""
    schema: dict[str, Any] = {"type": "object"}
    schema["properties"] = {"inner": schema}

    made, depth = value("x", schema, random.Random(1)), 0
    while isinstance(made, dict):
        made, depth = made["inner"], depth + 1

    assert depth == DEEPEST


def test_real_catalogues_are_read_where_they_are(tmp_path: Path) -> None:
    """Definitions in the folder are taken with their number; without them a generator's, and it says so."""
    tool = {"name": "get_it", "inputSchema": {"properties": {"owner": {"type": "string"}}}}
    (tmp_path / "mcp-github").mkdir()
    (tmp_path / "mcp-github" / "get_it.json").write_text(json.dumps(tool))
    (tmp_path / "livemcpbench").mkdir()
    entries = [
        {"tools": {"first server": {"tools": [tool, tool]}, "empty": {"tools": []}}},
        {"tools": {"first server": {"tools": [{**tool, "name": "other"}]}}},
    ]
    (tmp_path / "livemcpbench" / "tools.json").write_text(json.dumps(entries))

    github, many = catalogues.github(1, tmp_path), catalogues.many(1, tmp_path)

    assert github.servers[0].tools == [tool] and github.origin.startswith("1 tool definitions")
    assert [server.name for server in many.servers] == ["first server"]
    assert many.tools == 2 and many.origin.startswith("2 tool definitions")
    assert catalogues.github(1, NOWHERE).origin == catalogues.many(1, NOWHERE).origin == GENERATED


def test_realistic_calls_are_allowed_and_no_others(live_world: World) -> None:
    """Generated or real, every call is allowed, and none with another agent's token."""
    large = realistic.large_server(live_world, catalogues.github(3, NOWHERE))
    small = realistic.small_servers(live_world, catalogues.many(3, NOWHERE))
    at_hand = [realistic.on_large_server(live_world)[0], realistic.on_small_servers(live_world)]
    verifier = live_world.verifier()

    for workload in (large, small, *at_hand):
        assert len(workload.calls) == len({call.token for call in workload.calls}) == 256
        workload.require_decisions(verifier)
        first = workload.calls[0]
        others = [call for call in workload.calls if call.resource != first.resource]
        swapped = [verifier.check(call.token, *first[1:4], tool=first.tool) for call in others[:50]]
        assert not all(swapped)


def test_a_servers_name_may_be_any_segment(live_world: World) -> None:
    """Real servers have blanks and other letters in their names."""
    tool = {"name": "search", "inputSchema": {"properties": {"q": {"type": "string"}}}}
    servers = tuple(McpServer(name, [tool]) for name in ("Design Tools", "百度-map", *"abcdef"))

    made = realistic.small_servers(live_world, Servers(servers, "here"))

    made.require_decisions(live_world.verifier())
    assert made.origin == "here"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (denied.garbage, Reason.MALFORMED_TOKEN),
        (denied.torn, Reason.MALFORMED_TOKEN),
        (denied.oversized, Reason.TOKEN_TOO_LARGE),
        (denied.unknown_session, Reason.UNKNOWN_SESSION),
        (denied.ended_session, Reason.SESSION_ENDED),
        (denied.expired, Reason.EXPIRED),
        (denied.revoked_deep, Reason.REVOKED),
        (denied.forged, Reason.BAD_SIGNATURE),
        (denied.out_of_scope, Reason.OUT_OF_SCOPE),
        (denied.condition_failed, Reason.CONDITION_FAILED),
    ],
)
def test_what_is_refused_is_refused_for_its_own_reason(make: Any, reason: Reason, live_world: World) -> None:
    """Each workload of denials ends in the reason that its name says."""
    workload: Workload = make(live_world)

    assert workload.reason is reason
    workload.require_decisions(live_world.verifier())


def test_the_revoked_block_lies_in_the_middle_of_the_chain(live_world: World) -> None:
    """The eighth of sixteen blocks: the seven above it and the eight below it are not revoked themselves."""
    (call,) = denied.revoked_deep(live_world).calls

    decision = live_world.verifier().check(*call[:4])

    assert Chain.parse(call.token).block_count == 16
    assert decision.index == 7


def test_chains_and_scopes_have_the_sizes_that_their_names_say(live_world: World) -> None:
    """Blocks and scopes are as numerous as their names say, and each call is allowed."""
    verifier = live_world.verifier()
    for blocks in (1, 2, 4, 8, 16):
        (call,) = workloads.chain(live_world, blocks).calls
        assert Chain.parse(call.token).block_count == blocks
        assert verifier.check(*call[:4])
    for count in (1, 8, 64):
        assert len(tokens.scopes(count)) == count
        workloads.scopes(live_world, count).require_decisions(verifier)


def test_each_nested_condition_can_fail(live_world: World) -> None:
    """Each condition refuses the call once its nested argument is changed."""
    (call,) = workloads.nested(live_world).calls
    verifier = live_world.verifier()
    changes: list[tuple[str, Any]] = [
        ("repository", {"owner": "evil", "name": "web"}),
        ("repository", {"owner": "acme", "name": "other"}),
        ("filter", {**workloads.NESTED["filter"], "labels": ["bug", "other"]}),
        ("filter", {**workloads.NESTED["filter"], "range": {"to": {"day": {"year": 2027}}}}),
        ("filter", {**workloads.NESTED["filter"], "any": [0] * 21}),
        ("files", ["src/app.py", "etc/passwd"]),
        ("callback", "https://evil.example.org/"),
        ("page", {"number": 3, "size": 101}),
    ]

    assert verifier.check(*call[:4]) and len(changes) == len(workloads.NESTED_CONDITIONS)
    for clause, (name, other) in enumerate(changes):
        arguments = json.dumps({**workloads.NESTED, name: other}).encode()
        decision = verifier.check(call.token, call.action, call.resource, arguments)
        assert (decision.reason, decision.clause) == (Reason.CONDITION_FAILED, clause)
