"""Finds words that may not stand in names, and docstrings that open with a relative clause."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.support.tree import ROOT

# A name with one of these describes a scene instead of a thing or an act.
WORDS = {
    *("tell", "tells", "told", "telling", "teller", "say", "says", "said", "hear", "heard"),
    *("seen", "keeping", "kept", "many", "using", "wish", "wishes", "ground", "outlook", "foresight"),
    *("believed", "remembered", "pulse", "tap", "theatre", "somebody", "whose", "asked", "asking", "looked"),
    *("taken", "given", "noting", "noted", "enrol", "enroll", "enrolled", "enrolment", "enrolling"),
}
# A docstring opens with a verb in the imperative or a noun, not with one of these.
OPENS = re.compile(
    r"(What|Who|Whom|Whose|Whoever|Whatever|Which|Where|Whether|When|Whenever|How|That|If|Of|Why|As|For|In|On"
    r"|By|To|With|From|Beside|Behind|Before|After)\b"
)
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CY_DOC = re.compile(
    r"^[ ]*(?:cdef |cpdef )?(?:(?:class|struct|enum) +(\w+)[^\n]*"
    r"|(?:cdef|cpdef|def)\b[^\n=]*?\b(\w+) *\([^)]*\)[^\n:]*):[ ]*(?:#[^\n]*)?\n[ ]*\"\"\"([^\n]*)",
    re.M,
)
_CY_NAME = re.compile(
    r"^[ ]*(?:cdef|cpdef|def) +(?:(?:inline|public|readonly|const|object|class|struct|enum|packed) +)*"
    r"(?:[\w\[\], *]+[ *])?(\w+) *[(:]",
    re.M,
)
_CY_CLASS = re.compile(r"^\s*cdef class\s+(\w+)", re.M)


def words_of(name: str) -> set[str]:
    """Return the words of a name in lower case, as ``told`` and ``by`` of ``ToldBy`` and ``told_by``."""
    return {part.lower() for part in _PART.findall(name)}


@cache
def _has_such_word(name: str) -> bool:
    return not WORDS.isdisjoint(words_of(name))


def findings(path: Path) -> set[str]:
    """Return the faults of a source file, each after its path."""
    return {f"{path.relative_to(ROOT)}: {fault}" for fault in _in_file(path)[0]}


def classes(path: Path) -> list[str]:
    """Return the names of the classes that a Python or Cython file defines."""
    return _in_file(path)[1]


def faults(file: str, text: str) -> list[str]:
    """Return the faults in the source of ``file``: names by their kind, docstrings by their owner."""
    return _faults_and_classes(file, text)[0]


@cache
def _in_file(path: Path) -> tuple[list[str], list[str]]:
    return _faults_and_classes(path.name, path.read_text(encoding="utf-8"))


def _faults_and_classes(file: str, text: str) -> tuple[list[str], list[str]]:
    stem, _, suffix = file.partition(".")
    names, docstrings = (_python if suffix in ("py", "pyi") else _cython)(text)
    lines = [f"{kind} {name}" for kind, name in [("module", stem), *names] if _has_such_word(name)]
    for owner, docstring in docstrings:
        if match := OPENS.match(docstring.strip()):
            lines.append(f"docstring of {owner} opens with {match[0]}")
    return lines, [name for kind, name in names if kind == "class"]


def _python(text: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    tree = ast.parse(text)
    names: list[tuple[str, str]] = []
    docstrings = [("the module", ast.get_docstring(tree, clean=False) or "")]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(("class" if isinstance(node, ast.ClassDef) else "function", node.name))
            docstrings.append((node.name, ast.get_docstring(node, clean=False) or ""))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names += [("parameter", argument.arg) for argument in arguments]
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append(("attribute", node.attr))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(("field", node.target.id))
    return names, docstrings


def _cython(text: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    docstrings = [(match[1] or match[2], match[3]) for match in _CY_DOC.finditer(text)]
    if module := re.match(r'\s*"""(.+)', text):
        docstrings.append(("the module", module[1]))
    defined = [("definition", name) for name in _CY_NAME.findall(text)]
    return [*defined, *(("class", name) for name in _CY_CLASS.findall(text))], docstrings
