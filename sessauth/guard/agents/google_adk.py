"""Google ADK: ``App(..., plugins=[..., ToolGuardPlugin(guard)])`` judges tool calls and hides tools."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from google.adk.plugins.base_plugin import BasePlugin
from google.genai import types

from ..denied import ToolDenied
from .adapter import GuardChoice, arun_or_refuse, attempt_id, choose


class ToolGuardPlugin(BasePlugin):
    """The last plugin of an app. A function that chooses the guard is given the call's context."""

    def __init__(self, guard: GuardChoice = None) -> None:
        """Take the guard of all calls."""
        super().__init__("sessauth")
        self._guard = guard

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        """Hide tools, and with them those that run at the provider, where no call is judged."""
        tools, config = llm_request.tools_dict, llm_request.config
        shown = await choose(self._guard, callback_context).avisible(list(tools))
        sets = [getattr(each, "function_declarations", None) or [] for each in config.tools or ()]
        declared = [each for some in sets for each in some if each.name in shown]
        config.tools = [types.Tool(function_declarations=declared)] if declared else None
        # A live session has one request for many callbacks.
        for name, tool in ((name, tool) for name, tool in tools.items() if not _is_guarded(tool)):
            # A copy, since apps share tools. Judged where it runs, behind all that may change or answer it.
            tools[name] = copy.copy(tool)
            tools[name].run_async = partial(_run, self._guard, tool)

    async def before_tool_callback(self, *, tool: Any, tool_args: Any, tool_context: Any) -> Any:
        """Judge a call of a tool of no request: a workflow's, an unknown one, one that a person confirmed."""
        if _is_guarded(tool):
            return None
        try:
            guard = choose(self._guard, tool_context, tool.name)
            await guard.acheck(tool.name, tool_args, call_id=_call_id(tool_context))
        except ToolDenied as denied:
            return {"error": str(denied)}
        return None


def _is_guarded(tool: Any) -> bool:
    return getattr(vars(tool).get("run_async"), "func", None) is _run


async def _run(guard: GuardChoice, tool: Any, *, args: Any, tool_context: Any) -> Any:
    do, call_id = partial(tool.run_async, args=args, tool_context=tool_context), _call_id(tool_context)
    asked = (guard, tool_context, tool.name, args)
    return await arun_or_refuse(do, *asked, lambda denied: {"error": str(denied)}, call_id)


def _call_id(context: Any) -> str:
    # By the event that has the call: ADK keeps it when it resumes the invocation.
    for event in reversed(context.session.events):
        siblings = [call.id for call in event.get_function_calls()]
        if context.function_call_id in siblings:
            return attempt_id(event.id, context.function_call_id, siblings)
    return ""
