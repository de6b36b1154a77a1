"""OpenAI Agents: judges the tool calls of an agent, and hides the tools that it can't call.

    agent = GuardedAgent(name="...", tools=[...], guard=guard)
    Runner.run(agent, "...", run_config=RunConfig(tool_not_found_behavior="return_error_to_model"))

Without this setting the SDK ends the whole run when a model calls a hidden tool.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from agents import Agent, FunctionTool
from agents.tool_context import ToolContext

from .adapter import GuardChoice, arun_or_refuse, choose


@dataclass
class GuardedAgent(Agent[Any]):
    """An agent with a guard. A function that chooses the guard is given the run's context.

    Tools that run at the provider are hidden, since their calls can't be judged. A handoff is no call of a
    tool: the agent that it leads to needs a guard of its own.
    """

    guard: GuardChoice = None

    async def get_all_tools(self, run_context: Any) -> list[Any]:
        """Return the tools that may be shown, those of MCP servers too, each judged when it is called."""
        tools = [tool for tool in await super().get_all_tools(run_context) if isinstance(tool, FunctionTool)]
        shown = await choose(self.guard, run_context).avisible([tool.qualified_name for tool in tools])
        return [guarded_tool(tool, self.guard) for tool in tools if tool.qualified_name in shown]


def guarded_tool(tool: FunctionTool, guard: GuardChoice = None) -> FunctionTool:
    """Return a copy of ``tool`` whose calls are judged by the JSON that the tool is given."""
    name, invoke = tool.qualified_name, tool.on_invoke_tool

    async def judged(context: ToolContext[Any], arguments: str) -> Any:
        # No call id: the model chooses it, and the SDK has no id of its own for what it would run again.
        return await arun_or_refuse(lambda: invoke(context, arguments), guard, context, name, arguments, str)

    copied = copy.copy(tool)
    copied.on_invoke_tool = judged
    return copied
