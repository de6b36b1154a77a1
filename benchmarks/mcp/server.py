"""A server of MCP with one tool, behind a guard or not.

python -m benchmarks.mcp.server --port PORT [--state DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from benchmarks.tokens import AUDIENCE
from sessauth.decisions.tool_catalog import ToolCatalog
from sessauth.guard import Guard
from sessauth.verifier.verifier import Verifier

TOOL: Final = "get_issue"
CATALOGUE: Final = ToolCatalog.from_mcp("issues", [{"name": TOOL, "annotations": {"readOnlyHint": True}}])


def server(state_dir: Path | None) -> Any:
    """Return the server, behind a guard if it has a state folder to judge by."""
    from mcp.server import MCPServer

    middleware = []
    if state_dir is not None:
        from sessauth.guard.mcp import SessauthMiddleware

        verifier = Verifier.embedded(state_dir, audience=AUDIENCE)
        middleware.append(SessauthMiddleware(Guard(verifier, CATALOGUE)))
    made = MCPServer("issues", middleware=middleware, log_level="ERROR")

    @made.tool()
    def get_issue(owner: str, repo: str, per_page: int) -> str:
        return f"{owner}/{repo}: {per_page} issues"

    return made


def main() -> None:
    """Serve over HTTP until killed."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="python -m benchmarks.mcp.server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path)
    given = parser.parse_args()
    app = server(given.state).streamable_http_app(json_response=True)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="critical")


if __name__ == "__main__":
    main()
