"""Parts that the adapters for agent frameworks share."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Unpack

from ...decisions.tool_catalog import TOOLS_LIST
from ...scopes.call_arguments import Arguments
from ..call import FORGOTTEN_GUARD, NO_ANSWER, NO_GUARD, CallTerms, ToolDenied
from ..guard import Guard, current_guard

GuardChoice = Guard | Callable[[Any], Guard | None] | None
"""The guard of all calls; a function that returns the guard of a call, by the framework's own knowledge; or
None for the guard that is active where the call is made (:func:`~sessauth.guard.current_guard`)."""

_log: Final = logging.getLogger("sessauth.guard")


def choose(choice: GuardChoice, context: object, tool: str = TOOLS_LIST) -> Guard:
    """Return the guard of a call of ``tool``. Raises ToolDenied if there is none, or the function fails."""
    try:
        guard = choice if isinstance(choice, Guard) else choice(context) if choice else current_guard()
    except Exception as error:
        denied = ToolDenied(tool, NO_ANSWER)
        _log.warning("denied: tool %a, reason %s: %s", denied.tool, denied.reason, type(error).__name__)
        raise denied from error
    if not isinstance(guard, Guard):
        denied = ToolDenied(tool, NO_GUARD)
        _log.warning("denied: tool %a, reason %s: %s", denied.tool, denied.reason, FORGOTTEN_GUARD)
        raise denied
    return guard


def run_or_refuse(
    do: Callable[[], Any],
    guard: GuardChoice,
    context: object,
    tool: str,
    arguments: Arguments,
    refusal: Callable[[ToolDenied], Any],
    **terms: Unpack[CallTerms],
) -> Any:
    """Return the answer of ``do()`` if the call is allowed; else what ``refusal`` makes of the ToolDenied."""
    try:
        return choose(guard, context, tool).run(tool, arguments, do, **terms)
    except ToolDenied as denied:
        return refusal(denied)


async def arun_or_refuse(
    do: Callable[[], Awaitable[Any]],
    guard: GuardChoice,
    context: object,
    tool: str,
    arguments: Arguments,
    refusal: Callable[[ToolDenied], Any],
    **terms: Unpack[CallTerms],
) -> Any:
    """Do as :func:`run_or_refuse`, awaited."""
    try:
        return await choose(guard, context, tool).arun(tool, arguments, do, **terms)
    except ToolDenied as denied:
        return refusal(denied)


def shown(guard: Guard, tools: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those of ``tools``, each a name and its origin, that may be shown."""
    found = [(origin, guard.visible(each, origin=origin)) for origin, each in _by_origin(tools)]
    return {(name, origin) for origin, each in found for name in each}


async def ashown(guard: Guard, tools: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Do as :func:`shown`, awaited."""
    found = [(origin, await guard.avisible(each, origin=origin)) for origin, each in _by_origin(tools)]
    return {(name, origin) for origin, each in found for name in each}


def _by_origin(tools: Iterable[tuple[str, str]]) -> Iterable[tuple[str, list[str]]]:
    names: dict[str, list[str]] = {}
    for name, origin in tools:
        names.setdefault(origin, []).append(name)
    return names.items()


def jsonable(arguments: dict[str, Any]) -> Any:
    """Return the JSON values of arguments that pydantic validated: of a date its text, of a model its fields.

    Values that pydantic has no JSON for are returned as they are. A guard refuses them.
    """
    from pydantic_core import to_jsonable_python

    try:
        return to_jsonable_python(arguments)
    except Exception:  # noqa: BLE001 - whatever the serializer of a value raises
        return arguments


def attempt_id(attempt: object, call_id: str | None, siblings: Iterable[str | None]) -> str:
    """Return an id under which the same call, made again by the framework, is charged once; or "" for none.

    A model may choose the id of a call, and use it twice. So it counts within one attempt only.

    Args:
        attempt: the framework's own id of the step that makes the call, which a repeated step keeps.
        call_id: the call's id.
        siblings: the ids of all calls of the step, this one among them. An id that two of them share counts
            for neither.
    """
    if not attempt or not call_id or sum(sibling == call_id for sibling in siblings) != 1:
        return ""
    return f"{len(str(attempt))}/{attempt}/{call_id}"
