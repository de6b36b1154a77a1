"""An extension of griffe: completes signatures and docstrings for the reference.

Parameters that a TypedDict states (``tokens/terms.py``) become parameters of the function. The kernel's
docstrings are those of the compiled modules. Names and pages become links.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from griffe import (
    Class,
    Docstring,
    DocstringSectionKind,
    Expr,
    ExprSubscript,
    Extension,
    Function,
    GriffeError,
    Module,
    Object,
    Parameter,
    ParameterKind,
)

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?([\w.]+)`")
_PAGE = re.compile(r"\bdocs/([\w/-]+)\.md(#[\w-]+)?")
# Cython opens a docstring with the signature, and makes one of an attribute's type.
_EMBEDDED = re.compile(r"\A[\w.]+(?:\(.*\)(?: -> .*)?(?:\n\n|\Z)|: [\w.]+\Z)")


class Docstrings(Extension):
    """Completes each function and docstring of a package once it is loaded."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Complete ``pkg``; names in it can be resolved now."""
        objects = list(_objects(pkg))
        for each in objects:
            if str(each.filepath).endswith(".pyi") and ".v1." not in each.path:
                _take_compiled(each)
            if isinstance(each, Function):
                _expand(each)
            if each.docstring:
                each.docstring.value = _linked(each, each.docstring.value)
        for each in objects:
            if isinstance(each, Class):
                _inherit(each)


def _objects(parent: Object) -> Iterator[Object]:
    yield parent
    for member in parent.members.values():
        if isinstance(member, Object):
            yield from _objects(member)


def _take_compiled(stub: Object) -> None:
    """Give ``stub`` the docstring that it has in its compiled module."""
    module = stub.module.path
    name = stub.path.removeprefix(module).lstrip(".")
    try:
        compiled = attrgetter(name)(importlib.import_module(module)) if name else None
    except AttributeError:
        # A name of the stub alone: a protocol, an alias.
        return
    stated = _EMBEDDED.sub("", getattr(compiled, "__doc__", None) or "")
    stub.docstring = Docstring(stated, parent=stub) if stated else None


def _inherit(kind: Class) -> None:
    """Give each member of ``kind`` that has no docstring that of its base class."""
    for base in kind.mro():
        for name, member in kind.members.items():
            if not member.is_alias and not member.docstring and name in base.members:
                member.docstring = base.members[name].docstring


def _expand(function: Function) -> None:
    """Give ``function`` the terms of its ``**terms: Unpack[…]`` as parameters, with their explanations."""
    packed = [each for each in function.parameters if each.kind is ParameterKind.var_keyword]
    if not packed or not isinstance(packed[0].annotation, ExprSubscript):
        return
    terms = packed[0].annotation
    if terms.canonical_path != "typing.Unpack" or isinstance(terms.slice, str):
        return
    kind = function.modules_collection[terms.slice.canonical_path]
    del function.parameters[packed[0].name]
    for name, attribute in kind.attributes.items():
        annotation: str | Expr | None = attribute.annotation
        default: str | None = None
        if isinstance(annotation, ExprSubscript) and annotation.canonical_path == "typing.Required":
            annotation = annotation.slice
        else:
            default = "..."
        function.parameters.add(
            Parameter(name, annotation=annotation, kind=ParameterKind.keyword_only, default=default)
        )
    stated = function.docstring.value if function.docstring else ""
    text = [re.sub(rf"\n    {packed[0].name}: .*(\n     .*)*", "", stated), "Keyword Args:"]
    for each in [kind, *kind.mro()]:
        for section in each.docstring.parse("google") if each.docstring else ():
            if section.kind is DocstringSectionKind.attributes:
                explained = [f"{item.name}: {item.description}" for item in section.value]
                text[-1] += "".join("\n    " + each.replace("\n", "\n        ") for each in explained)
    function.docstring = Docstring("\n\n".join(text), parent=function)


def _linked(place: Object, text: str) -> str:
    """Return ``text`` with links for names that can be resolved at ``place``, and for pages."""

    def link(match: re.Match[str]) -> str:
        name = match[1]
        first, dot, rest = name.partition(".")
        try:
            target = place.resolve(first) + dot + rest
        except GriffeError:
            target = name
        return f'<autoref optional identifier="{target}"><code>{name}</code></autoref>'

    return _PAGE.sub(r"[\1](../\1.md\2)", _ROLE.sub(link, text))
