"""A table of a service's calls, used by a guard in place of a catalogue of tools."""

from __future__ import annotations

from typing import NamedTuple

from ...decisions.tool_catalog import TOOLS_CALL, ToolCatalog
from ...errors import UnknownTool


class ServiceCall(NamedTuple):
    """A call as it is checked and proven: its arguments are JSON in the canonical form."""

    action: str
    resource: str
    arguments: bytes


class NamedCall(str):
    """The name of a call in logs and refusals, with its action and resource."""

    action: str
    resource: str

    def __new__(cls, name: str, action: str, resource: str) -> NamedCall:
        """Name a call."""
        named = super().__new__(cls, name)
        named.action = action
        named.resource = resource
        return named


class CallTable(ToolCatalog):
    """The catalogue of a guard that is given a :class:`NamedCall` for each tool; it knows no other."""

    __slots__ = ()

    def __init__(self) -> None:
        """Have no tools."""
        super().__init__("service", ())

    def ask(self, tool: str, method: str = TOOLS_CALL) -> tuple[str, str, bytes]:
        """Return action, resource and no facts. Raises UnknownTool for a name without a call."""
        if method != TOOLS_CALL or not isinstance(tool, NamedCall):
            raise UnknownTool(f"{tool!a} is not in the table of the service", tool)
        return tool.action, tool.resource, b""

    def __contains__(self, tool: object) -> bool:
        """Return True for a :class:`NamedCall`."""
        return isinstance(tool, NamedCall)
