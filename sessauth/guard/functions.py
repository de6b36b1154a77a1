"""The logic of guarded plain functions, and of the guard that is active where they are called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing, contextmanager
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
        runs, is_method = _run_by(function), _is_method(getattr(function, "func", function))
        whole, bound_args, bound_values = _unbound(function)
        signature = inspect.signature(whole)

        def judged(args: tuple[Any, ...], values: dict[str, Any]) -> tuple[CallGuard, dict[str, Any]]:
            guard = find()
            if guard is None:
                raise ToolDenied(tool, NO_GUARD)
            args, values = (*bound_args, *args), {**bound_values, **values}
            return guard, _arguments(tool, signature, args, values, is_method=is_method)

        if inspect.iscoroutinefunction(runs):

            @functools.wraps(function)
            async def awaited(*args: Any, **values: Any) -> Any:
                guard, arguments = judged(args, values)
                return await guard.arun(tool, arguments, lambda: function(*args, **values))

            return cast("F", awaited)

        # The body of a generator runs when it is iterated, so it is judged then.
        if inspect.isgeneratorfunction(runs):

            @functools.wraps(function)
            def iterated(*args: Any, **values: Any) -> Generator[Any, Any, Any]:
                guard, arguments = judged(args, values)
                return (yield from guard.run(tool, arguments, lambda: function(*args, **values)))

            return cast("F", iterated)

        if inspect.isasyncgenfunction(runs):

            @functools.wraps(function)
            async def generated(*args: Any, **values: Any) -> AsyncIterator[Any]:
                guard, arguments = judged(args, values)

                async def start() -> Any:
                    return function(*args, **values)

                async with aclosing(await guard.arun(tool, arguments, start)) as items:
                    async for item in items:
                        yield item

            return cast("F", generated)

        @functools.wraps(function)
        def called(*args: Any, **values: Any) -> Any:
            guard, arguments = judged(args, values)
            return guard.run(tool, arguments, lambda: function(*args, **values))

        return cast("F", called)

    return decorate


def _run_by(function: Any) -> Any:
    """Return the function that runs when ``function`` is called, by which its kind is known."""
    while isinstance(function, functools.partial | staticmethod):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function if inspect.isroutine(function) else type(function).__call__


def _unbound(function: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the function that a partial one completes, with the arguments that it has already."""
    args: tuple[Any, ...] = ()
    values: dict[str, Any] = {}
    while isinstance(function, functools.partial | staticmethod):
        if isinstance(function, functools.partial):
            args, values = (*function.args, *args), {**function.keywords, **values}
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function, args, values


def _is_method(function: Any) -> bool:
    """Return True for a function that was defined in a class."""
    within = getattr(function, "__qualname__", "").rpartition(".")[0]
    return inspect.isfunction(function) and bool(within) and not within.endswith("<locals>")


def _arguments(
    tool: str,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    values: dict[str, Any],
    *,
    is_method: bool,
) -> dict[str, Any]:
    """Return the arguments by their parameters' names. Raises ToolDenied if they don't fit the function."""
    try:
        bound = signature.bind(*args, **values)
    except TypeError:
        raise ToolDenied(tool, BAD_CALL) from None
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    for position, (name, parameter) in enumerate(signature.parameters.items()):
        if is_method and position == 0 and name in ("self", "cls"):
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            # One may have the name of a positional-only parameter, and would hide its value.
            if arguments.keys() & bound.arguments[name].keys():
                raise ToolDenied(tool, BAD_CALL)
            arguments.update(bound.arguments[name])
        else:
            arguments[name] = bound.arguments[name]
    return arguments
