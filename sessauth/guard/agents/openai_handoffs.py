"""OpenAI Agents: the agents that a guarded agent hands off to, or has as tools. They must be guarded too."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import partial
from inspect import isawaitable
from typing import Any

from agents import Agent, Handoff, handoff

from ...errors import UsageError
from .adapter import GuardChoice, choose


class GuardedBase:
    """Base class that marks an agent with a guard."""

    guard: GuardChoice


def require_guarded_tools(tools: Iterable[Any]) -> None:
    """Raise UsageError for a tool that is an agent without a guard."""
    for tool in tools:
        if getattr(tool, "_is_agent_tool", False):
            _require_guarded(tool._agent_instance)


def own_handoffs(agent: Any) -> list[Any]:
    """Return the list of an agent's handoffs, each guarded, also one that was added since."""
    handoffs: list[Any] = vars(agent)["handoffs"]
    handoffs[:] = [_guarded_handoff(each, agent) for each in handoffs]
    return handoffs


def set_handoffs(agent: Any, handoffs: list[Any]) -> None:
    """Give an agent a list of its own: a clone, whose guard may be another, would share its origin's."""
    vars(agent)["handoffs"] = [_guarded_handoff(each, agent) for each in handoffs]


def _guarded_handoff(item: Any, agent: Any) -> Any:
    """Return a handoff that is checked as a call of a tool, if the catalogue has one of its name."""
    if isinstance(item, Agent):
        item = handoff(_require_guarded(item))
    invoke: Any = getattr(item, "on_invoke_handoff", None)
    if getattr(invoke, "func", None) is _transfer:
        if invoke.args[1] is agent:
            return item
        item = invoke.args[0]
    if target := item._agent_ref and item._agent_ref():
        _require_guarded(target)
    copied = copy.copy(item)
    copied.on_invoke_handoff = partial(_transfer, item, agent)
    copied.is_enabled = partial(_is_offered, item)
    return copied


async def _transfer(item: Handoff[Any, Any], agent: Any, context: Any, arguments: str) -> Any:
    name, do = item.tool_name, partial(item.on_invoke_handoff, context, arguments)
    guard = choose(agent.guard, context, name)
    return _require_guarded(await (guard.arun(name, arguments, do) if name in guard.catalogue else do()))


async def _is_offered(item: Handoff[Any, Any], context: Any, agent: Any) -> bool:
    enabled = item.is_enabled(context, agent) if callable(item.is_enabled) else item.is_enabled
    guard, names = choose(agent.guard, context), [item.tool_name]
    offered = item.tool_name not in guard.catalogue or await guard.avisible(names) == names
    return offered and bool(await enabled if isawaitable(enabled) else enabled)


def _require_guarded(agent: Any) -> Any:
    if isinstance(agent, GuardedBase):
        return agent
    raise UsageError(
        f"the agent {agent.name!a} has no guard: make it a GuardedAgent, or its tools run unchecked"
    )
