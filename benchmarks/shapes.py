"""A seeded generator of MCP servers and calls, shaped like those that agents meet.

The shape is that of public tool catalogues: some sixty tools a server, named verb_noun, half of them
read-only, one to ten arguments with a median of five, most of them short strings, a few numbers,
lists and nested objects. The tools, names and texts are made up here.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, Final

READS: Final = ("get", "list", "search", "read", "find", "show")
WRITES: Final = ("create", "update", "delete", "merge", "close", "add", "set", "move")
NOUNS: Final = (
    *("commit", "branch", "issue", "label", "release", "comment", "review", "invoice", "ticket", "customer"),
    *("deployment", "pipeline", "artifact", "document", "folder", "calendar_event", "message", "channel"),
)
DETAILS: Final = ("", "_history", "_details", "_by_name")
NAMES: Final = (
    "path",
    "ref",
    "query",
    "sort",
    "order",
    "cursor",
    "title",
    "body",
    "state",
    "since",
    "author",
)
NUMBERS: Final = ("page", "per_page", "number", "limit")
WORDS: Final = (
    "main",
    "open",
    "updated",
    "desc",
    "src/app.py",
    "fix the build",
    "2026-11-01",
    "crash on start",
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, its arguments as JSON bytes."""

    tool: str
    arguments: bytes


class McpServer:
    """One made-up server. ``owner`` and ``repo`` are among every tool's arguments."""

    def __init__(self, name: str, seed: int, tools: int = 60) -> None:
        """Make ``tools`` tools from the seed."""
        self.name = name
        self._random = random.Random(seed)
        self._parameters: dict[str, list[str]] = {}
        self.tools: list[dict[str, Any]] = []
        while len(self.tools) < tools:
            self._add_tool()

    def _add_tool(self) -> None:
        reads = self._random.random() < 0.5
        verb = self._random.choice(READS if reads else WRITES)
        name = f"{verb}_{self._random.choice(NOUNS)}{self._random.choice(DETAILS)}"
        if name in self._parameters:
            return
        count = min(8, max(0, round(self._random.gauss(3, 2))))
        more = self._random.sample((*NAMES, *NUMBERS, "fields", "filter"), count)
        self._parameters[name] = ["owner", "repo", *more]
        properties = {parameter: {"type": _type(parameter)} for parameter in self._parameters[name]}
        self.tools.append(
            {
                "name": name,
                "description": f"{verb.capitalize()} what the arguments name, for one repository.",
                "inputSchema": {"type": "object", "properties": properties, "required": ["owner", "repo"]},
                "annotations": {"readOnlyHint": reads},
            }
        )

    @property
    def read_tools(self) -> list[str]:
        """The names of the tools that only read."""
        return [tool["name"] for tool in self.tools if tool["annotations"]["readOnlyHint"]]

    def call(self, tool: str, owner: str, repo: str) -> ToolCall:
        """Return a call of a tool, with random values for its other arguments."""
        arguments: dict[str, Any] = {"owner": owner, "repo": repo}
        for parameter in self._parameters[tool][2:]:
            arguments[parameter] = self._value(parameter)
        return ToolCall(tool, json.dumps(arguments, separators=(",", ":")).encode())

    def _value(self, parameter: str) -> Any:
        kind = _type(parameter)
        if kind == "integer":
            return self._random.randrange(1, 100)
        if kind == "array":
            return self._random.sample(NAMES, 3)
        if kind == "object":
            return {"labels": self._random.sample(NOUNS, 2), "range": {"from": 1, "to": 20}}
        return self._random.choice(WORDS)


def _type(parameter: str) -> str:
    if parameter in NUMBERS:
        return "integer"
    return {"fields": "array", "filter": "object"}.get(parameter, "string")
