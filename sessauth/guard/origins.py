"""Catalogues by the origin of tools: an MCP server that a framework knows, or the program itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..decisions.tool_catalog import ToolCatalog
from ..errors import UsageError

OWN: Final = ""
"""The origin of the program's own tools."""
UNNAMED: Final = "?"
"""The origin of the tools of a server that a framework has no name of: they are in no catalogue."""

Catalogues = ToolCatalog | Mapping[str, ToolCatalog]

_NO_TOOLS: Final = ToolCatalog("none", ())


class Origins:
    """The catalogue of each origin; a server that has none has no tools."""

    def __init__(self, catalogues: Catalogues) -> None:
        """Take the catalogues of servers by their names; or one, of its server and of the program.

        Raises:
            UsageError: if two have one server name, and so their tools one resource.
        """
        if isinstance(catalogues, ToolCatalog):
            catalogues = {OWN: catalogues, catalogues.server: catalogues}
        self._catalogues = {OWN: _NO_TOOLS, **catalogues}
        servers: dict[str, ToolCatalog] = {}
        for catalogue in catalogues.values():
            if servers.setdefault(catalogue.server, catalogue) is not catalogue:
                raise UsageError(
                    f"catalogue: two are of a server {catalogue.server!a}; name one of them otherwise"
                )

    def of(self, origin: str) -> ToolCatalog:
        """Return the catalogue of an origin."""
        return self._catalogues.get(origin, _NO_TOOLS)
