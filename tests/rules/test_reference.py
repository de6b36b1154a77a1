"""The reference has every public name, each with a docstring."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator

import pytest

import sessauth
import sessauth.client
import sessauth.errors
import sessauth.guard
import sessauth.testing
import sessauth.usage
from tests.support.markdown import Document
from tests.support.tree import ROOT, sources

REFERENCE = ROOT / "docs" / "reference"
EXPORTING = (sessauth, sessauth.client, sessauth.guard, sessauth.testing, sessauth.usage)
# Generated stubs of other makers' protocols are described there.
_PACKAGE = re.compile(r"sessauth\b(?!.*\.v1\.)")
LISTED = sorted(
    name
    for page in REFERENCE.glob("*.md")
    for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.M)
)


def _exported() -> Iterator[str]:
    """Return what the public packages export: ``__all__``, or what they import under its own name."""
    for package in EXPORTING:
        names = getattr(package, "__all__", None)
        if names is None:
            tree = ast.parse(inspect.getsource(package))
            names = [
                alias.asname
                for node in tree.body
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
                if alias.asname
            ]
        yield from (f"{package.__name__}.{name}" for name in names)


def _imported() -> Iterator[str]:
    """Return what programs of pages and examples import from the package."""
    programs = [
        block
        for path in [ROOT / "README.md", *sources(ROOT / "docs", ".md")]
        for block in Document(path).blocks("python")
    ]
    programs += [path.read_text(encoding="utf-8") for path in sources(ROOT / "examples", ".py")]
    for program in programs:
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.ImportFrom) and _PACKAGE.match(node.module or ""):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _found(name: str) -> object:
    """Return the object of a dotted name, or the name where a framework that is not here is needed."""
    if name == sessauth.errors.__name__:
        return sessauth.errors
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("sessauth"):
            raise
        return name


SHOWN = [_found(name) for name in LISTED] + [
    each for each in vars(sessauth.errors).values() if inspect.isclass(each)
]


@pytest.mark.parametrize("name", sorted({*_exported(), *_imported()}))
def test_every_public_name_is_in_the_reference(name: str) -> None:
    """Each name that packages export, and that pages or examples import, is on a page of docs/reference."""
    assert _found(name) in SHOWN


def _members(shown: object) -> Iterator[tuple[str, object]]:
    """Return what the reference shows of a class: public functions and properties, inherited ones too."""
    for kind in shown.__mro__ if inspect.isclass(shown) else ():
        if kind.__module__.startswith("sessauth"):
            for name, member in vars(kind).items():
                function = getattr(member, "__func__", member)
                if not name.startswith("_") and (
                    inspect.isroutine(function) or isinstance(function, property)
                ):
                    yield name, function


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: getattr(shown, "__name__", shown))
def test_what_the_reference_shows_has_a_docstring(shown: object) -> None:
    """Each name of the reference is explained, and each function and property of a class."""
    bare = [name for name, member in _members(shown) if not inspect.getdoc(member)]

    assert inspect.getdoc(shown)
    assert bare == []
