"""The tool catalogues that the realistic workloads are made of: real ones at hand, else generated ones.

Real ones are read where ``SESSAUTH_SHARED_DATA`` says, or in ``shared/data`` beside the checkout: the tool
definitions of one large server in ``mcp-github/*.json``, and those of many small ones in
``livemcpbench/tools.json``. They are no part of this repository. Rows say which they were made of.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.catalog_generator import McpServer, large_server, small_servers
from benchmarks.host_info import ROOT
from sessauth.decisions.tool_catalog import ToolCatalog

GENERATED: Final = "seeded generator of the same shape"


@dataclass(frozen=True)
class Servers:
    """MCP servers, and where their definitions come from, in the words of the report."""

    servers: tuple[McpServer, ...]
    origin: str

    @property
    def tools(self) -> int:
        """The number of tools of all servers."""
        return sum(len(server.tools) for server in self.servers)


def data_folder() -> Path:
    """Return where real catalogues would be."""
    return Path(os.environ.get("SESSAUTH_SHARED_DATA", ROOT.parent / "shared" / "data"))


def pinned(server: McpServer) -> ToolCatalog:
    """Return the catalogue of a server as its operator pins it."""
    return ToolCatalog.from_mcp(server.name, server.tools)


def github(seed: int, data: Path | None = None) -> Servers:
    """Return one large server, each of whose tools is about a repository or is left out of calls."""
    folder = (data or data_folder()) / "mcp-github"
    tools = [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))]
    if not tools:
        return Servers((large_server("github", seed),), GENERATED)
    return Servers((McpServer("github", tools),), f"{len(tools)} tool definitions of mcp-github")


def many(seed: int, data: Path | None = None) -> Servers:
    """Return many small servers."""
    file = (data or data_folder()) / "livemcpbench" / "tools.json"
    if not file.is_file():
        return Servers(tuple(small_servers(seed)), GENERATED)
    servers = tuple(_servers(json.loads(file.read_text("utf-8"))))
    tools = sum(len(server.tools) for server in servers)
    return Servers(servers, f"{tools} tool definitions of livemcpbench")


def _servers(entries: list[Mapping[str, Any]]) -> list[McpServer]:
    """Return the servers of a benchmark's file, each under the name that its own configuration gives it.

    A name that is there twice, and a tool that its server defines twice, counts once.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in entries:
        for name, server in entry["tools"].items():
            tools = found.setdefault(name, {})
            tools.update({tool["name"]: tool for tool in server["tools"]})
    return [McpServer(name, list(tools.values())) for name, tools in found.items() if tools]
