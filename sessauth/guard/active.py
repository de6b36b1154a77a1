"""The guard that is active in this task or thread, and plain functions that it guards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from .functions import active, decorated
from .guard import Guard

F = TypeVar("F", bound=Callable[..., Any])


def current_guard() -> Guard | None:
    """Return the guard that is active in this task or thread; None without one."""
    return cast("Guard | None", active.get())


def guarded(name: str = "") -> Callable[[F], F]:
    """Return a decorator: each call of the function is judged by the guard that is active then.

    The arguments are judged under the names of the parameters, defaults included; the leading ``self`` or
    ``cls`` of a method is left out. A generator is judged when it is iterated first, a watched
    one again before each item. Without an active guard each call is denied.

        @guarded()
        def delete_repo(owner: str, name: str) -> None: ...

        with guard.activate():
            delete_repo("acme", "web")           # raises ToolDenied unless it is allowed

    Args:
        name: the name of the tool; empty: the function's.
    """
    return decorated(name, current_guard)
