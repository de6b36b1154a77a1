"""CrewAI: checks the tool calls of agents, and hides the tools that they can't call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from crewai.hooks import register_before_tool_call_hook
from crewai.tools import BaseTool, ToolFailure
from crewai.utilities.string_utils import sanitize_tool_name as named
from pydantic import Field

from ..call import OWN, USED, ToolDenied
from .adapter import GuardChoice, choose, jsonable, run_or_refuse, shown


class GuardedTool(BaseTool):
    """A tool whose calls are checked by the values that it is given."""

    tool: BaseTool
    guard: Any = Field(default=None, exclude=True)

    def format_output_for_agent(self, raw_result: Any) -> Any:
        """Return the text that the tool makes of its result."""
        return self.tool.format_output_for_agent(raw_result)

    def _run(self, **values: Any) -> Any:
        def do() -> Any:
            result = self.tool._run(**values)
            return asyncio.run(result) if asyncio.iscoroutine(result) else result

        (name, origin), refusal = _origin(self.tool), lambda denied: ToolFailure(message=str(denied))
        return run_or_refuse(do, self.guard, self, name, jsonable(values), refusal, origin=origin)


def guarded_tools(tools: Sequence[BaseTool], guard: GuardChoice = None) -> list[GuardedTool]:
    """Return the tools that may be shown, guarded. A function that chooses the guard is given the tool."""
    visible, own = shown(choose(guard, None), map(_origin, tools)), {"guard": guard, "cache_function": _never}
    return [GuardedTool(**{**dict(tool), **own, "tool": tool}) for tool in tools if _origin(tool) in visible]


def guard_calls(guard: GuardChoice = None) -> Callable[[Any], bool | None]:
    """Check the calls of all other tools of this process; return CrewAI's hook, which can be unregistered."""

    def checked(call: Any) -> bool | None:
        try:
            if not isinstance(tool := getattr(call.tool, "_original_tool", None), GuardedTool):
                name, origin = _origin(tool, call.tool_name)
                choose(guard, call, name).check(name, jsonable(call.tool_input), origin=origin)
                _allow_one_run(call.tool)
        except Exception:  # noqa: BLE001 - CrewAI runs the tool if a hook raises
            return False
        return None

    register_before_tool_call_hook(checked)
    return checked


def _origin(tool: Any, name: str = "") -> tuple[str, str]:
    """Return the name of a tool and of the MCP server that it is of, as CrewAI's own client states them."""
    server = getattr(tool, "server_name", None)
    return (name or named(tool.name), OWN) if server is None else (tool.original_tool_name, server)


def _allow_one_run(tool: Any) -> None:
    """Let the tool of a checked call run once: CrewAI runs one that failed again, without its hooks."""
    func = getattr(tool, "func", None)
    if func is not None and not hasattr(func, "sessauth_runs"):
        runs: list[None] = []

        @wraps(func)
        def run(*args: Any, **values: Any) -> Any:
            if not runs:
                raise ToolDenied(tool.name, USED)
            runs.pop()
            return func(*args, **values)

        @wraps(func)
        async def arun(*args: Any, **values: Any) -> Any:
            return await run(*args, **values)

        tool.func = arun if asyncio.iscoroutinefunction(func) else run
        tool.func.sessauth_runs = runs
    if func is not None:
        tool.func.sessauth_runs[:] = [None]


def _never(*_: Any) -> bool:
    # CrewAI would give out a cached result without a check.
    return False
