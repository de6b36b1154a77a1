"""A workload shaped like that of a gateway: agents of many sessions that call the tools of one MCP server."""

from __future__ import annotations

import json
import random
from typing import Any, Final

from benchmarks import tokens
from benchmarks.state_setup import SEED, World
from benchmarks.workloads import Call, Workload
from sessauth.decisions.tool_catalog import ToolCatalog

AGENTS: Final = 4
SERVER: Final = "github"
VERBS: Final = ("get", "list", "search")
NOUNS: Final = (
    *("commit", "branch", "issue", "label", "release", "comment", "review", "deployment", "pipeline", "tag"),
    *("artifact", "file", "folder", "team", "milestone", "project", "discussion", "alert", "webhook", "gist"),
)
SCHEMA: Final[dict[str, Any]] = {
    **{name: {"type": "string"} for name in ("owner", "repo", "query", "since")},
    "labels": {"type": "array", "items": {"type": "string"}},
    "page": {"type": "integer"},
}


def catalogue() -> ToolCatalog:
    """Return the catalogue of sixty tools that only read, each about one repository."""
    inputs = {"type": "object", "properties": SCHEMA, "required": ["owner", "repo"]}
    return ToolCatalog.from_mcp(
        SERVER,
        [
            {"name": f"{verb}_{noun}", "inputSchema": inputs, "annotations": {"readOnlyHint": True}}
            for verb in VERBS
            for noun in NOUNS
        ],
    )


def agents(world: World, tools: ToolCatalog) -> Workload:
    """Four agents in each of 64 sessions, each with a token of two blocks.

    An agent may read one repository, which two conditions say, with any other argument.
    """
    source = random.Random(SEED)
    calls = []
    for session_id in world.hot_session_ids:
        texts = [f"read,write:mcp/{SERVER}/** free *", "read:mcp/jira/** free *"]
        parent = tokens.mint(world.issuer, session_id, texts, "open")
        for agent in range(AGENTS):
            owner, repo = f"org-{source.randrange(20)}", f"repo-{agent}"
            where = f'owner == "{owner}" and repo == "{repo}"'
            only = f"read:mcp/{SERVER}/* where {where} free *"
            token = parent.attenuate(scopes=[only], label=f"agent-{agent}")
            tool = f"{source.choice(VERBS)}_{source.choice(NOUNS)}"
            action, resource = tools.request(tool)
            arguments = {
                **{"owner": owner, "repo": repo, "query": "crash on start", "since": "2026-11-01"},
                **{"labels": ["bug", "p1"], "page": source.randrange(1, 100)},
            }
            whole = json.dumps(arguments, separators=(",", ":")).encode()
            calls.append(Call(token.data, action, resource, whole, tools.describe(tool)))
    return Workload("agents", tuple(calls))
