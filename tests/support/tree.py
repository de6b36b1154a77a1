"""The source tree, as the rule tests read it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sessauth"

_SKIPPED = {".git", "build", "dist", "__pycache__", ".hypothesis", ".mypy_cache"}
# The environments that `make` makes: what lies in them is other people's.
_ENVIRONMENTS = ".venv"
_GENERATED = (
    *(PACKAGE / "v1", PACKAGE / "_fast" / "codec" / "schema.py"),
    *(PACKAGE / "client" / "_sync", PACKAGE / "verifier" / "_sync"),
    *sorted(PACKAGE.glob("gateways/*/v1")),
    *sorted(PACKAGE.glob("carriers/*/v1")),
)
_CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+(?P<module>[\w.]+)\s+c?import\b|c?import\s+(?P<names>[\w., ]+))")

# No expression holds an import.
_HOLDS_STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)
_CYTHON_INCLUDE = re.compile(r'^include "([\w./]+)"$', re.M)


def sources(folder: Path, *suffixes: str) -> list[Path]:
    """Return the hand-written files below ``folder`` that end in one of ``suffixes``, sorted."""
    return sorted(path for path in _hand_written(folder) if path.suffix in suffixes)


@cache
def _hand_written(folder: Path) -> list[Path]:
    found = []
    for name, folders, files in os.walk(folder):
        here = Path(name)
        # Environments have many times the files of the tree, so they are not walked through.
        folders[:] = [
            each
            for each in folders
            if each not in _SKIPPED
            and here / each not in _GENERATED
            and not (here == ROOT and each.startswith(_ENVIRONMENTS))
        ]
        found += [path for path in map(here.joinpath, files) if path not in _GENERATED and path.is_file()]
    return found


def module_name(path: Path) -> str:
    """Return the dotted name of the module that ``path`` holds."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imports(path: Path, *, type_only: bool = False) -> list[tuple[int, str]]:
    """Return ``(line, module)`` for each import that runs, and with ``type_only`` for all others too.

    ``TYPE_CHECKING`` blocks do not run. ``from a.b import c`` counts as ``a.b.c`` where that is a module of
    the package, else as ``a.b``. A file that Cython includes counts as imported.
    """
    return [(line, module) for line, module, runs in _all_imports(path) if runs or type_only]


@cache
def _all_imports(path: Path) -> list[tuple[int, str, bool]]:
    """Return each import with its line, and whether it runs."""
    text = path.read_text(encoding="utf-8")
    found: list[tuple[int, str, bool]] = []
    if path.suffix in {".pyx", ".pxd"}:
        found += [(line, module, True) for line, module in _cython_imports(text)]
        found += [
            (text.count("\n", 0, match.start()) + 1, module_name(path.parent / match[1]), True)
            for match in _CYTHON_INCLUDE.finditer(text)
        ]
    else:
        _python_imports(ast.parse(text).body, path, found, runs=True)
    return found


@cache
def import_graph(folder: Path) -> dict[str, set[str]]:
    """Return for each module below ``folder`` those that it imports: lazily, for types only, or in C too."""
    files = [path for path in folder.rglob("*") if path.suffix in {".py", ".pyx", ".pxd"}]
    graph: dict[str, set[str]] = {module_name(path): set() for path in files}
    for path in files:
        module = module_name(path)
        found = {target for _, target in imports(path, type_only=True)}
        graph[module] |= (found & graph.keys()) - {module}
    return graph


def _cython_imports(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        match = _CYTHON_IMPORT.match(line)
        if match is None:
            continue
        if match["module"]:
            yield number, match["module"]
        else:
            for name in match["names"].split(","):
                yield number, name.split(" as ")[0].strip()


def _python_imports(
    nodes: Iterable[ast.AST], path: Path, found: list[tuple[int, str, bool]], *, runs: bool
) -> None:
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, runs) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _resolve(node, path)
            found += [(node.lineno, _module_or_parent(base, alias.name), runs) for alias in node.names]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            _python_imports(node.body, path, found, runs=False)
            _python_imports(node.orelse, path, found, runs=runs)
        elif isinstance(node, _HOLDS_STATEMENTS):
            _python_imports(ast.iter_child_nodes(node), path, found, runs=runs)


def _resolve(node: ast.ImportFrom, path: Path) -> str:
    if node.level == 0:
        return node.module or ""
    package = list(path.relative_to(ROOT).parent.parts)
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


@cache
def _module_or_parent(base: str, name: str) -> str:
    candidate = ROOT.joinpath(*base.split("."), name)
    if any(candidate.with_suffix(suffix).exists() for suffix in (".py", ".pyx")) or candidate.is_dir():
        return f"{base}.{name}"
    return base
