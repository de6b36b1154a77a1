"""LangChain and LangGraph: checks the tool calls of an agent, and hides the tools that it can't call."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import ToolMessage
from langgraph.errors import GraphInterrupt
from langgraph.types import interrupt

from ...approvals.request import ApprovalRequest
from ...model.approval import SignedApproval
from ..call import CallTerms, ToolDenied
from .adapter import GuardChoice, arun_or_refuse, attempt_id, choose, run_or_refuse


class ToolGuardMiddleware(AgentMiddleware[Any, Any, Any]):
    """An agent's last middleware. A function that chooses the guard is given LangGraph's runtime."""

    def __init__(self, guard: GuardChoice = None) -> None:
        """Take the guard of all calls."""
        super().__init__()
        self._guard = guard

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Run a tool if the call is allowed, and check each further run that a later middleware makes."""
        inner, call, terms = request.override(tool=_once(request, self._guard)), *_call(request)
        return run_or_refuse(lambda: handler(inner), self._guard, *call, **terms)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Do as :meth:`wrap_tool_call`, awaited."""
        inner, call, terms = request.override(tool=_once(request, self._guard)), *_call(request)
        return await arun_or_refuse(lambda: handler(inner), self._guard, *call, **terms)

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Hide tools, and with them those that run at the provider (dicts), where no call is checked."""
        tools = {tool.name: tool for tool in request.tools if not isinstance(tool, dict)}
        shown = choose(self._guard, request.runtime).visible(tools)
        return handler(request.override(tools=[tools[name] for name in shown]))

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Do as :meth:`wrap_model_call`, awaited."""
        tools = {tool.name: tool for tool in request.tools if not isinstance(tool, dict)}
        shown = await choose(self._guard, request.runtime).avisible(tools)
        return await handler(request.override(tools=[tools[name] for name in shown]))


def ask_by_interrupt(request: ApprovalRequest) -> SignedApproval | bool:
    """Interrupt the graph, to be resumed with True or a signed approval's text; for ``Guard(approve=)``."""
    answer = interrupt({"approval": request.record.id.hex(), "text": request.render()})
    return SignedApproval.from_text(answer) if isinstance(answer, str) else answer is True


def _once(request: Any, guard: GuardChoice) -> Any:
    """Return a copy of the request's tool: its first run was checked, each further one is."""
    if request.tool is None:
        return None
    tool, copied, checked = request.tool, copy.copy(request.tool), [True]
    call, _ = _call(request)

    def invoke(call_input: Any, *args: Any, **options: Any) -> Any:
        do = partial(tool.invoke, call_input, *args, **options)
        return do() if checked and checked.pop() else run_or_refuse(do, guard, *call)

    async def ainvoke(call_input: Any, *args: Any, **options: Any) -> Any:
        do = partial(tool.ainvoke, call_input, *args, **options)
        return await (do() if checked and checked.pop() else arun_or_refuse(do, guard, *call))

    # Of the instance: tools are models of pydantic, which refuses other names.
    vars(copied).update(invoke=invoke, ainvoke=ainvoke)
    return copied


def _call(request: Any) -> tuple[tuple[Any, str, Any, Callable[[ToolDenied], ToolMessage]], CallTerms]:
    call, context, state = request.tool_call, request.runtime, request.state
    refusal = {"name": call["name"], "tool_call_id": call["id"], "status": "error"}
    messages = state if isinstance(state, list) else dict(state).get("messages", [])
    siblings = [each["id"] for message in messages[-1:] for each in getattr(message, "tool_calls", ())]
    # A task that LangGraph runs again, after an interrupt or a crash, keeps its id.
    task = getattr(getattr(context, "execution_info", None), "task_id", "")
    terms: CallTerms = {"call_id": attempt_id(task, call["id"], siblings), "interrupts": (GraphInterrupt,)}

    def refused(denied: ToolDenied) -> ToolMessage:
        # The artifact is not for the model.
        return ToolMessage(str(denied), artifact={"decision": denied.decision_id.hex()}, **refusal)

    return (context, call["name"], call["args"], refused), terms
