"""Workloads shaped like those of real gateways: agents that call the tools of real or made-up catalogues."""

from __future__ import annotations

import json
import random
from typing import Any, Final

from benchmarks import catalogues, tokens
from benchmarks.catalog_generator import McpServer, ToolCall
from benchmarks.catalogues import Servers
from benchmarks.state_setup import SEED, World
from benchmarks.workloads import Call, Workload
from sessauth.decisions.tool_catalog import ToolCatalog

AGENTS: Final = 4
SERVERS_EACH: Final = 8


def large_server(world: World, servers: Servers) -> Workload:
    """Four agents in each of 64 sessions, each with a token of two blocks, on one server.

    An agent may read one repository, which two conditions say, with any other argument.
    """
    (server,) = servers.servers
    source = random.Random(SEED)
    catalogue = catalogues.pinned(server)
    reads = [tool for tool in server.read_tools if server.takes(tool, "owner", "repo")]
    calls = []
    for session_id in world.hot_session_ids:
        texts = [f"read,write:mcp/{server.name}/** free *", "read:mcp/jira/** free *"]
        parent = tokens.mint(world.issuer, session_id, texts, "open")
        for agent in range(AGENTS):
            owner, repo = f"org-{source.randrange(20)}", f"repo-{agent}"
            where = f'owner == "{owner}" and repo == "{repo}"'
            only = f"read:mcp/{server.name}/* where {where} free *"
            token = parent.attenuate(scopes=[only], label=f"agent-{agent}")
            made = server.call(source.choice(reads), source, owner=owner, repo=repo)
            calls.append(_call(token.data, catalogue, made))
    return Workload("mcp-large-server", tuple(calls), origin=servers.origin)


def small_servers(world: World, servers: Servers) -> Workload:
    """Four agents in each of 64 sessions, each with a token of two blocks, on eight of many servers.

    An agent may call one tool, with one of its arguments as it is, and with any other argument.
    """
    source = random.Random(SEED)
    pinned = {server.name: catalogues.pinned(server) for server in servers.servers}
    calls = []
    for session_id in world.hot_session_ids:
        chosen = source.sample(servers.servers, SERVERS_EACH)
        texts = [f"read,write:{_quoted('mcp', server.name)}/** free *" for server in chosen]
        parent = tokens.mint(world.issuer, session_id, texts, "open")
        for agent in range(AGENTS):
            server = source.choice(chosen)
            made = server.call(source.choice(server.tools)["name"], source)
            action, resource = pinned[server.name].request(made.tool)
            only = f"{action}:{_quoted(*resource.split('/'))}{_where(made)} free *"
            token = parent.attenuate(scopes=[only], label=f"agent-{agent}")
            calls.append(_call(token.data, pinned[server.name], made))
    return Workload("mcp-small-servers", tuple(calls), origin=servers.origin)


def _call(token: bytes, catalogue: ToolCatalog, made: ToolCall) -> Call:
    action, resource = catalogue.request(made.tool)
    return Call(token, action, resource, made.arguments, catalogue.describe(made.tool))


def _quoted(*segments: str) -> str:
    """Return a resource of these segments in the text of a scope: real servers have blanks in their names."""
    return "/".join(json.dumps(segment, ensure_ascii=False) for segment in segments)


def _where(made: ToolCall) -> str:
    """Return the condition that the first short scalar argument is what it is, if there is one."""
    arguments: dict[str, Any] = json.loads(made.arguments)
    for name, value in arguments.items():
        if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 100):
            return f" where {json.dumps(name)} == {json.dumps(value, ensure_ascii=False)}"
    return ""


def on_large_server(world: World) -> tuple[Workload, McpServer]:
    """Return the first workload on the catalogue that is at hand, with its server."""
    servers = catalogues.github(SEED)
    return large_server(world, servers), servers.servers[0]


def on_small_servers(world: World) -> Workload:
    """Return the second workload on the catalogues that are at hand."""
    return small_servers(world, catalogues.many(SEED))
