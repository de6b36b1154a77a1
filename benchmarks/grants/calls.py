"""Calls, sessions and servers, as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sessauth.decisions.tool_catalog import Tool, ToolCatalog

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One call of a server's tool."""

    tool: str
    arguments: Arguments

    @cached_property
    def encoded(self) -> bytes:
        """The arguments as JSON."""
        return json.dumps(self.arguments, sort_keys=True).encode()

    @property
    def key(self) -> tuple[str, bytes]:
        """Equal for equal calls."""
        return self.tool, self.encoded


@dataclass(frozen=True)
class Session:
    """The calls of one session of a task; ``facts`` of the session, as its opener would give them."""

    task: str
    calls: Sequence[Call]
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Argument:
    """An argument of a tool: a kind of :mod:`benchmarks.grants.values`, where its values come from.

    ``given``: the share of calls that have it. ``steady``: how often a session has the task's own value.
    ``members``: of the objects in a list of kind ``rows``.
    """

    kind: str
    pool: str = ""
    given: float = 1.0
    steady: float = 0.985
    members: Mapping[str, Argument] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolShape:
    """A tool: whether it reads, reaches the open world, and its arguments."""

    name: str
    reads: bool
    arguments: Mapping[str, Argument]
    open_world: bool = False


@dataclass(frozen=True)
class Server:
    """A server's tools. ``customers``: each session serves another person, with ids of their own."""

    name: str
    tools: Mapping[str, ToolShape]
    customers: bool = False

    @property
    def changing(self) -> list[ToolShape]:
        """The tools that change something."""
        return [tool for tool in self.tools.values() if not tool.reads]

    @property
    def reading(self) -> list[ToolShape]:
        """The tools that read."""
        return [tool for tool in self.tools.values() if tool.reads]

    @cached_property
    def catalogue(self) -> ToolCatalog:
        """The pinned catalogue."""
        tools = [
            Tool(t.name, "read" if t.reads else "write", not t.reads, t.reads, t.open_world, "00" * 32)
            for t in self.tools.values()
        ]
        return ToolCatalog(self.name, tools)
