"""Seeded generators of MCP servers, shaped like those that agents meet; all names and texts are made up.

Two shapes. One large server: some sixty tools named verb_noun, half of them read-only, two to ten arguments,
each about one repository. Many small servers: seventy of them with a median of four tools, few of which say
whether they only read, with a median of two arguments. In both most arguments are short strings; some are
numbers, truths, lists, and nested objects.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.arguments import value

READS: Final = ("get", "list", "search", "read", "find", "show")
WRITES: Final = ("create", "update", "delete", "merge", "close", "add", "set", "move")
NOUNS: Final = (
    *("commit", "branch", "issue", "label", "release", "comment", "review", "invoice", "ticket", "customer"),
    *("deployment", "pipeline", "artifact", "document", "folder", "calendar_event", "message", "channel"),
)
DETAILS: Final = ("", "_history", "_details", "_by_name")
TEXTS: Final = (
    *("path", "ref", "query", "sort", "order", "cursor", "title", "body", "state", "since", "author", "url"),
    *("name", "content", "format", "language", "model", "symbol", "city", "category", "user_id", "file"),
)
NUMBERS: Final = ("page", "per_page", "number", "limit", "offset", "count", "max_results")
LABELS: Final = {"type": "array", "items": {"type": "string"}}
RANGE: Final = {"type": "object", "properties": {"from": {"type": "integer"}, "to": {"type": "integer"}}}
FILTER: Final = {"type": "object", "properties": {"labels": LABELS, "range": RANGE}}
# What the arguments of many small servers are, and how often.
KINDS: Final = (
    ({"type": "string"}, 47),
    ({"type": "number"}, 15),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 14),
    ({"type": "integer"}, 10),
    ({"type": "boolean"}, 7),
    (LABELS, 4),
    ({"type": "array", "items": RANGE}, 2),
    (FILTER, 1),
)
SERVERS: Final = 70
MOST_TOOLS: Final = 35
MOST_ARGUMENTS: Final = 20


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, its arguments as JSON bytes."""

    tool: str
    arguments: bytes


class McpServer:
    """One server: its name, and its tools as ``tools/list`` gives them."""

    def __init__(self, name: str, tools: list[dict[str, Any]]) -> None:
        """Take the definitions."""
        self.name = name
        self.tools = tools
        self._by_name = {tool["name"]: tool for tool in tools}

    @property
    def read_tools(self) -> list[str]:
        """The names of the tools that say that they only read."""
        return [
            tool["name"] for tool in self.tools if (tool.get("annotations") or {}).get("readOnlyHint") is True
        ]

    def takes(self, tool: str, *arguments: str) -> bool:
        """Return True if a tool has all of these arguments."""
        return set(arguments) <= self.properties(tool).keys()

    def properties(self, tool: str) -> Mapping[str, Any]:
        """Return the schemas of a tool's arguments, by name."""
        properties: Mapping[str, Any] = self._by_name[tool]["inputSchema"].get("properties") or {}
        return properties

    def call(self, tool: str, source: random.Random, **given: object) -> ToolCall:
        """Return a call with these arguments and values for the others that their schemas admit."""
        arguments = {name: value(name, schema, source) for name, schema in self.properties(tool).items()}
        whole = json.dumps(arguments | given, separators=(",", ":"))
        return ToolCall(tool, whole.encode())


def large_server(name: str, seed: int, tools: int = 60) -> McpServer:
    """Return a server of the first shape; ``owner`` and ``repo`` are among every tool's arguments."""
    source = random.Random(seed)
    made: dict[str, dict[str, Any]] = {}
    while len(made) < tools:
        reads = source.random() < 0.5
        verb = source.choice(READS if reads else WRITES)
        tool = f"{verb}_{source.choice(NOUNS)}{source.choice(DETAILS)}"
        count = min(8, max(0, round(source.gauss(3, 2))))
        names = ["owner", "repo", *source.sample((*TEXTS[:11], *NUMBERS[:4], "fields", "filter"), count)]
        special = {"fields": LABELS, "filter": FILTER, **{key: {"type": "integer"} for key in NUMBERS}}
        properties = {name: special.get(name, {"type": "string"}) for name in names}
        definition = _tool(tool, properties, ["owner", "repo"], {"readOnlyHint": reads})
        made.setdefault(tool, definition)
    return McpServer(name, list(made.values()))


def small_servers(seed: int, count: int = SERVERS) -> list[McpServer]:
    """Return servers of the second shape."""
    source = random.Random(seed)
    return [McpServer(f"server-{number}", _few_tools(source)) for number in range(count)]


def _few_tools(source: random.Random) -> list[dict[str, Any]]:
    count = min(MOST_TOOLS, max(1, round(math.exp(source.gauss(1.5, 0.95)))))
    made: dict[str, dict[str, Any]] = {}
    while len(made) < count:
        reads = source.random() < 0.7
        verb = source.choice(READS if reads else WRITES)
        tool = f"{verb}_{source.choice(NOUNS)}{source.choice(DETAILS)}"
        arguments = min(MOST_ARGUMENTS, round(source.expovariate(1 / 2.9)))
        names = source.sample((*TEXTS, *NUMBERS), arguments)
        kinds = source.choices([kind for kind, _ in KINDS], [often for _, often in KINDS], k=arguments)
        hints = {"readOnlyHint": reads} if source.random() < 0.1 else None
        required = names[: arguments // 2]
        made.setdefault(tool, _tool(tool, dict(zip(names, kinds, strict=True)), required, hints))
    return list(made.values())


def _tool(
    name: str, properties: dict[str, Any], required: list[str], hints: dict[str, bool] | None
) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"{name.replace('_', ' ').capitalize()}, as the arguments say.",
        "inputSchema": {"type": "object", "properties": properties, "required": required},
        "annotations": hints,
    }
