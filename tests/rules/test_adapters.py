"""Rules of the adapters for frameworks: short, and loaded only by those who use them."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from tests.support.tree import PACKAGE

GUARD = PACKAGE / "guard"
ADAPTERS = (
    *("agents/langchain", "agents/pydantic_ai", "agents/openai_agents", "agents/google_adk", "agents/crewai"),
    *("agents/openai_handoffs", "mcp", "mcp_client", "fastmcp"),
)
MAX_LINES = 60
# Packages that guards must not load. Most are not even installed where this runs; grpc is.
FOREIGN = (
    *("grpc", "google", "langchain", "langchain_core", "langgraph", "pydantic", "pydantic_core"),
    *("pydantic_ai", "agents", "crewai", "mcp", "fastmcp", "httpx", "httpx2", "starlette", "fastapi"),
)
_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}


def _lines_of_code(path: Path) -> int:
    """Count the lines of a file, without docstrings, comments and empty ones."""
    text = path.read_text(encoding="utf-8")
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_short(name: str) -> None:
    """A longer one would hold more than its framework's hooks, which belongs into the guard."""
    assert 10 < _lines_of_code(GUARD / f"{name}.py") <= MAX_LINES


def test_a_guard_loads_no_framework_and_no_grpc() -> None:
    """``import sessauth.guard`` costs what the verifier costs."""
    program = f"import sys, sessauth.guard; print([name for name in {FOREIGN!r} if name in sys.modules])"

    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )

    assert shown.stdout.strip() == "[]"
