"""Requests for the mapper of gateways, and a mapper of one catalogue and one API."""

from __future__ import annotations

import json
from typing import Any, Final

from sessauth.decisions.tool_catalog import ToolCatalog
from sessauth.gateways.request import Mapped, RequestMapper

TOKEN: Final = "sessauth_token_AbC-_123"
CATALOGUE: Final = ToolCatalog.from_mcp(
    "demo",
    [
        {"name": "get_weather", "annotations": {"readOnlyHint": True}},
        {"name": "delete_repo"},
        {"name": "wetter_für,alle", "annotations": {"readOnlyHint": True}},
    ],
)
MAPPER: Final = RequestMapper(mcp={"/mcp": CATALOGUE}, http="api")
BEARER: Final = ("authorization", f"Bearer {TOKEN}")
JSON: Final = ("content-type", "application/json")
LEGACY: Final = ("mcp-protocol-version", "2025-11-25")
MODERN: Final = ("mcp-protocol-version", "2026-07-28")
VERSION_META: Final = "io.modelcontextprotocol/protocolVersion"


def message(method: str | None = "tools/call", params: Any = None, **members: Any) -> dict[str, Any]:
    """Return a request; a member of None is left out."""
    made = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **members}
    return {name: value for name, value in made.items() if value is not None}


def call(name: str = "get_weather", arguments: Any = None, **params: Any) -> dict[str, Any]:
    """Return a ``tools/call``."""
    given = {} if arguments is None else {"arguments": arguments}
    return message(params={"name": name, **given, **params})


def post(body: Any, *headers: tuple[str, str | bytes], path: str = "/mcp", **options: Any) -> Mapped:
    """Map a POST of JSON by a bearer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return MAPPER.map("POST", path, [BEARER, JSON, *headers], data, **options)


def get(path: str, *headers: tuple[str, str | bytes], method: str = "GET") -> Mapped:
    """Map a request without a body by a bearer."""
    return MAPPER.map(method, path, [BEARER, *headers], None)
