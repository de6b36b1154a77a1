"""Terms: parameters that several public functions take by name, described once by a TypedDict.

A function takes them as ``**terms: Unpack[OpenTerms]`` (PEP 692), which type checkers and editors expand.
``help`` and ``inspect.signature`` do not; :func:`shows_terms` makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, cleandoc, signature
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class _LeftOut:
    def __repr__(self) -> str:
        return "..."


_LEFT_OUT: Final = _LeftOut()


def shows_terms(terms: type) -> Callable[[F], F]:
    """Return a decorator: the signature that a function shows has each term, its docstring explains them.

    A term without a default (``Required``) must be given; of another, ``...`` stands for being left out.
    """

    def decorate(function: F) -> F:
        stated = signature(function)
        parameters = [each for each in stated.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        parameters += [_parameter(name, kind.__forward_arg__) for name, kind in terms.__annotations__.items()]
        # Those that must be given come first.
        parameters.sort(key=lambda each: (each.kind, each.default is not Parameter.empty))
        function.__signature__ = stated.replace(parameters=parameters)  # type: ignore[attr-defined]
        function.__doc__ = f"{cleandoc(function.__doc__ or '')}\n\n{cleandoc(terms.__doc__ or '')}"
        return function

    return decorate


def _parameter(name: str, kind: str) -> Parameter:
    if kind.startswith("Required["):
        return Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind[len("Required[") : -1])
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=_LEFT_OUT)


def check_terms(terms: Mapping[str, object], kind: type) -> None:
    """Raise TypeError for a name that a TypedDict lacks: a misspelt restriction would restrict nothing."""
    for name in terms:
        if name not in kind.__annotations__:
            raise TypeError(f"{name}: is not one of {', '.join(kind.__annotations__)}")
