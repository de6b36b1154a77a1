"""The logic of guarded plain functions, and of the guard that is active where they are called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

from .denied import BAD_CALL, NO_GUARD, ToolDenied

F = TypeVar("F", bound=Callable[..., Any])


class CallGuard(Protocol):
    """The part of a guard that calls functions: see :class:`~.guard.Guard`."""

    def run(self, tool: str, arguments: dict[str, Any], do: Callable[[], Any]) -> Any:
        """Judge a call and make it."""

    async def arun(self, tool: str, arguments: dict[str, Any], do: Callable[[], Awaitable[Any]]) -> Any:
        """Judge a call and make it, awaited."""


active: ContextVar[CallGuard | None] = ContextVar("sessauth_guard", default=None)


@contextmanager
def activated(guard: CallGuard) -> Iterator[None]:
    """Make ``guard`` the active one within the block."""
    before = active.set(guard)
    try:
        yield
    finally:
        active.reset(before)


def decorated(name: str, find: Callable[[], CallGuard | None]) -> Callable[[F], F]:
    """Return a decorator that judges each call by the guard that ``find`` returns then."""

    def decorate(function: F) -> F:
        tool = name or function.__name__
        signature = inspect.signature(function)

        def judged(args: tuple[Any, ...], values: dict[str, Any]) -> tuple[CallGuard, dict[str, Any]]:
            guard = find()
            if guard is None:
                raise ToolDenied(tool, NO_GUARD)
            return guard, _arguments(tool, signature, args, values)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **values: Any) -> Any:
                guard, arguments = judged(args, values)
                return await guard.arun(tool, arguments, lambda: function(*args, **values))

            return cast("F", awaited)

        @functools.wraps(function)
        def called(*args: Any, **values: Any) -> Any:
            guard, arguments = judged(args, values)
            return guard.run(tool, arguments, lambda: function(*args, **values))

        return cast("F", called)

    return decorate


def _arguments(
    tool: str, signature: inspect.Signature, args: tuple[Any, ...], values: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments by their parameters' names. Raises ToolDenied if they don't fit the function."""
    try:
        bound = signature.bind(*args, **values)
    except TypeError:
        raise ToolDenied(tool, BAD_CALL) from None
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    for position, (name, parameter) in enumerate(signature.parameters.items()):
        if position == 0 and name in ("self", "cls"):
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            # One may have the name of a positional-only parameter, and would hide its value.
            if arguments.keys() & bound.arguments[name].keys():
                raise ToolDenied(tool, BAD_CALL)
            arguments.update(bound.arguments[name])
        else:
            arguments[name] = bound.arguments[name]
    return arguments
