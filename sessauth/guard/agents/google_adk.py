"""Google ADK: ``App(..., plugins=[..., ToolGuardPlugin(guard)])`` checks tool calls and hides tools."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from google.adk.plugins.base_plugin import BasePlugin
from google.genai import types

from .adapter import GuardChoice, arun_or_refuse, attempt_id, choose


class ToolGuardPlugin(BasePlugin):
    """The last plugin of an app. A function that chooses the guard is given the call's context."""

    def __init__(self, guard: GuardChoice = None) -> None:
        """Take the guard of all calls."""
        super().__init__("sessauth")
        self._guard = guard

    async def before_agent_callback(self, *, agent: Any, callback_context: Any) -> None:
        """Hide the tools of a live connection, which is opened before the first request is shown."""
        invocation = callback_context._invocation_context
        if invocation.live_request_queue is not None and hasattr(agent, "canonical_live_model"):
            model = agent.canonical_live_model
            # Copies, since other invocations use the agent and its model.
            opened = model.model_copy(update={"connect": partial(self._connect, callback_context, model)})
            invocation.agent = agent.model_copy(update={"model": opened})

    @asynccontextmanager
    async def _connect(self, context: Any, model: Any, llm_request: Any) -> AsyncIterator[Any]:
        await self.before_model_callback(callback_context=context, llm_request=llm_request)
        async with model.connect(llm_request) as connection:
            yield connection

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        """Hide tools, and with them those that run at the provider, where no call is checked."""
        tools, config = llm_request.tools_dict, llm_request.config
        shown = await choose(self._guard, callback_context).avisible(list(tools))
        sets = [getattr(each, "function_declarations", None) or [] for each in config.tools or ()]
        declared = [each for some in sets for each in some if each.name in shown]
        config.tools = [types.Tool(function_declarations=declared)] if declared else None
        # A live session has one request for many callbacks.
        for name, tool in ((name, tool) for name, tool in tools.items() if not _is_guarded(tool)):
            # A copy, since apps share tools. Its check comes after all that may change or answer a call.
            tools[name] = copy.copy(tool)
            tools[name].run_async = partial(_run, self._guard, tool)

    async def before_tool_callback(self, *, tool: Any, tool_args: Any, tool_context: Any) -> Any:
        """Check a call of a tool of no request: a workflow's, an unknown one, one that a person confirmed."""
        if not _is_guarded(tool):
            # The tool runs next.
            return await _judged(partial(asyncio.sleep, 0), self._guard, tool, tool_args, tool_context)
        return None


class _WaitsError(Exception):
    """A tool that asks a person first, after which ADK calls it again."""


def _is_guarded(tool: Any) -> bool:
    return getattr(vars(tool).get("run_async"), "func", None) is _run


async def _run(guard: GuardChoice, tool: Any, *, args: Any, tool_context: Any) -> Any:
    async def do() -> Any:
        result, actions = await tool.run_async(args=args, tool_context=tool_context), tool_context.actions
        if actions.requested_tool_confirmations or actions.requested_auth_configs:
            raise _WaitsError(result)
        return result

    try:
        return await _judged(do, guard, tool, args, tool_context)
    except _WaitsError as waits:
        return waits.args[0]


async def _judged(do: Any, guard: GuardChoice, tool: Any, args: Any, context: Any) -> Any:
    asked = (guard, context, tool.name, args, lambda denied: {"error": str(denied)})
    return await arun_or_refuse(do, *asked, call_id=_call_id(context), interrupts=(_WaitsError,))


def _call_id(context: Any) -> str:
    # By the event that has the call: ADK keeps it when it resumes the invocation.
    for event in reversed(context.session.events):
        siblings = [call.id for call in event.get_function_calls()]
        if context.function_call_id in siblings:
            return attempt_id(event.id, context.function_call_id, siblings)
    return ""
