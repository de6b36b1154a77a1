"""OpenAI Agents: checks the tool calls of an agent, and hides the tools that it can't call.

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

from ..call import OWN
from .adapter import GuardChoice, arun_or_refuse, ashown, choose
from .openai_handoffs import GuardedBase, own_handoffs, require_guarded_tools, set_handoffs


@dataclass
class GuardedAgent(Agent[Any], GuardedBase):
    """An agent with a guard. A function that chooses the guard is given the run's context.

    Tools that run at the provider are hidden, since their calls can't be checked. Agents that it hands off
    to, or has as tools, must be guarded too.
    """

    guard: GuardChoice = None

    def __post_init__(self) -> None:
        """Raise UsageError for an agent without a guard among the tools and handoffs."""
        super().__post_init__()
        require_guarded_tools(self.tools)

    async def get_all_tools(self, run_context: Any) -> list[Any]:
        """Return the tools that may be shown, those of MCP servers too, each checked when it is called.

        Raises UsageError for a tool that is an agent without a guard.
        """
        every = await super().get_all_tools(run_context)
        tools = [tool for tool in every if isinstance(tool, FunctionTool)]
        require_guarded_tools(tools)
        names = [_origin(tool) if isinstance(tool, FunctionTool) else (tool.name, OWN) for tool in every]
        shown = await ashown(choose(self.guard, run_context), names)
        return [guarded_tool(tool, self.guard) for tool in tools if _origin(tool) in shown]


GuardedAgent.handoffs = property(own_handoffs, set_handoffs)


def guarded_tool(tool: FunctionTool, guard: GuardChoice = None) -> FunctionTool:
    """Return a copy of ``tool`` whose calls are checked by the JSON that the tool is given."""
    (name, origin), invoke = _origin(tool), tool.on_invoke_tool

    async def checked(context: ToolContext[Any], arguments: str) -> Any:
        # No call id: the model chooses it, and the SDK has no id of its own for a call that it repeats.
        asked = (guard, context, name, arguments, str)
        return await arun_or_refuse(lambda: invoke(context, arguments), *asked, origin=origin)

    copied = copy.copy(tool)
    copied.on_invoke_tool = checked
    return copied


def _origin(tool: FunctionTool) -> tuple[str, str]:
    """Return the name of a tool and of the MCP server that it is of, both as the server has them."""
    server, name = (tool._mcp_tool_binding or (OWN, tool.qualified_name))[:2]
    return name, server
