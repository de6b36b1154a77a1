"""The source tree, as the rule tests read it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
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


@cache
def imports(path: Path, *, type_only: bool = False) -> list[tuple[int, str]]:
    """Return ``(line, module)`` for each import that runs, and with ``type_only`` for all others too.

    ``TYPE_CHECKING`` blocks do not run. ``from a.b import c`` counts as ``a.b.c`` where that is a module of
    the package, else as ``a.b``. A file that Cython includes counts as imported.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix in {".pyx", ".pxd"}:
        return [
            *_cython_imports(text),
            *(
                (text.count("\n", 0, match.start()) + 1, module_name(path.parent / match[1]))
                for match in _CYTHON_INCLUDE.finditer(text)
            ),
        ]
    found: list[tuple[int, str]] = []
    _python_imports(ast.parse(text), path, found, type_only)
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


def _python_imports(node: ast.AST, path: Path, found: list[tuple[int, str]], type_only: bool) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            found += [(child.lineno, alias.name) for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            base = _resolve(child, path)
            found += [(child.lineno, _module_or_parent(base, alias.name)) for alias in child.names]
        elif isinstance(child, ast.If) and not type_only and "TYPE_CHECKING" in ast.unparse(child.test):
            for alternative in child.orelse:
                _python_imports(alternative, path, found, type_only)
        else:
            _python_imports(child, path, found, type_only)


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
