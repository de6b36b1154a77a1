"""Habits of the source that a linter does not know."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import sessauth
from tests.support.tree import PACKAGE, ROOT, module_name, sources

MAX_LINES = 800
# An extension of many files has one stub.
STUBS = set((PACKAGE / "_fast").glob("*.pyi"))
CODE = [path for path in sources(ROOT, ".py", ".pyx", ".pxd", ".pyi", ".proto", ".sh") if path not in STUBS]

# The files that may read a wall clock: ours for Python, and the kernel's own. A time that gRPC takes or gives
# is of that clock.
CLOCK_FILES = {PACKAGE / "clock.py", PACKAGE / "server" / "transport" / "rpc.py"}
WALL_CLOCK = re.compile(
    r"\btime\.time(_ns)?\b|\bfrom time import\b.*\btime(_ns)?\b|\bdatetime\.(now|utcnow|today)\b"
    r"|\bdate\.today\b|\bgettimeofday\b|\bCLOCK_REALTIME\b|\blocaltime\(\)|\bgmtime\(\)"
)

# A package that must look at its surroundings when it is imported: it refuses a missing or stale build.
INIT_WITH_LOGIC = {PACKAGE / "_fast" / "__init__.py"}
INIT_FILES = [
    path for path in sources(PACKAGE, ".py") if path.name == "__init__.py" and path not in INIT_WITH_LOGIC
]


def test_no_file_is_longer_than_the_limit() -> None:
    """Every hand-written source file has at most 800 lines."""
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE
    }

    assert lengths, "no source found"
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_only_the_clock_files_read_the_wall_clock() -> None:
    """Time is an argument: outside clock.py and the kernel nothing asks the machine for it."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources(PACKAGE, ".py")
        if path not in CLOCK_FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if WALL_CLOCK.search(line)
    ]

    assert found == []


def test_the_wall_clock_pattern_knows_the_usual_calls() -> None:
    """The pattern finds what clock.py itself does, so an empty result above means something."""
    text = (PACKAGE / "clock.py").read_text(encoding="utf-8")

    assert WALL_CLOCK.search(text) is not None
    assert WALL_CLOCK.search("deadline = time.monotonic() + 1") is None


def _of_package(name: str) -> type:
    found = getattr(sessauth, name)
    assert isinstance(found, type)
    return found


@pytest.mark.parametrize("path", INIT_FILES, ids=lambda path: module_name(path))
def test_init_files_only_re_export(path: Path) -> None:
    """An ``__init__.py`` holds a docstring, imports and ``__all__``, and nothing that runs.

    That of the package also has the imports as a table: each is made at the name's first use.
    """
    body = ast.parse(path.read_text(encoding="utf-8")).body
    if path.parent == PACKAGE:
        stated = body.pop()
        assert isinstance(stated, ast.If)
        imported = {each.names[0].name for each in stated.body if isinstance(each, ast.ImportFrom)}
        assert imported == set(sessauth.__all__) == {type_.__name__ for type_ in map(_of_package, imported)}
        packages = {
            str(each.module).partition(".")[0] for each in stated.body if isinstance(each, ast.ImportFrom)
        }
        assert all(getattr(sessauth, name).__name__ == f"sessauth.{name}" for name in packages)

    logic = [
        ast.unparse(node)
        for node in body
        if not isinstance(node, ast.Import | ast.ImportFrom)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        and not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"__all__", "__version__"})
    ]

    assert logic == []


# Names of helpers that assert.
POWERFUL = ("assert_", "expect", "hold_", "_assert", "_hold", "run_state_machine")


def _can_fail(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert | ast.Raise):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in {"raises", "warns", "fail"} or name.startswith(POWERFUL):
                return True
    return False


def test_every_test_can_fail() -> None:
    """Each test function asserts, expects an exception, or calls a helper named for asserting."""
    powerless = [
        f"{path.relative_to(ROOT)}::{node.name}"
        for path in sources(ROOT / "tests", ".py")
        if path.name.startswith("test_")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not _can_fail(node)
    ]

    assert powerless == []
