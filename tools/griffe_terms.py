"""An extension of griffe: what docstrings and signatures of the package mean in the reference.

Parameters that a TypedDict states (``tokens/terms.py``) become parameters of the function, roles of names become links.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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


class Terms(Extension):
    """Completes each function and docstring once the package is loaded."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Complete ``pkg``; names in it can be resolved now."""
        for each in list(_objects(pkg)):
            if isinstance(each, Function):
                _expand(each)
            if each.docstring:
                each.docstring.value = _linked(each, each.docstring.value)


def _objects(parent: Object) -> Iterator[Object]:
    yield parent
    for member in parent.members.values():
        if isinstance(member, Object):
            yield from _objects(member)


def _expand(function: Function) -> None:
    """Give ``function`` the terms of its ``**terms: Unpack[…]`` as parameters, with their explanations."""
    packed = [each for each in function.parameters if each.kind is ParameterKind.var_keyword]
    if not packed or not isinstance(packed[0].annotation, ExprSubscript):
        return
    terms = packed[0].annotation
    if terms.canonical_path != "typing.Unpack":
        return
    kind = function.modules_collection[terms.slice.canonical_path]
    del function.parameters[packed[0].name]
    for name, attribute in kind.attributes.items():
        annotation, default = attribute.annotation, "..."
        if isinstance(annotation, ExprSubscript) and annotation.canonical_path == "typing.Required":
            annotation, default = annotation.slice, None
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
        try:
            target = place.resolve(name)
        except GriffeError:
            target = name
        return f'<autoref optional identifier="{target}"><code>{name}</code></autoref>'

    return _PAGE.sub(r"[\1](../\1.md\2)", _ROLE.sub(link, text))
