"""PydanticAI: ``Agent(..., capabilities=[ToolGuardCapability(guard)])`` checks tool calls and hides tools."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai import ApprovalRequired, ToolDenied
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.toolsets import WrapperToolset

from ...decisions.outward import Outward
from ...errors import UsageError
from ..call import OWN, UNNAMED, CallTerms
from .adapter import GuardChoice, arun_or_refuse, ashown, attempt_id, choose, jsonable


@dataclass
class ToolGuardCapability(AbstractCapability[Any]):
    """A capability with a guard. A function that chooses the guard is given the run's context.

    With ``defer_approvals`` a call that waits for a person ends the run with ``DeferredToolRequests``, which
    has to be among the agent's output types. The run that continues it checks the call again.
    """

    guard: GuardChoice = None
    defer_approvals: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError if PydanticAI would load it later: until then it would guard nothing."""
        if self.defer_loading:
            raise UsageError("defer_loading: a guard has to be there from the start")

    def get_ordering(self) -> CapabilityOrdering:
        """Wrap the tools innermost, so that a call is checked after anything else has changed it."""
        return CapabilityOrdering(position="innermost")

    def get_wrapper_toolset(self, toolset: Any) -> WrapperToolset[Any]:
        """Have all calls checked."""
        return GuardedToolset(toolset, self)

    async def prepare_model_request(self, ctx: Any, request_context: Any) -> Any:
        """Hide tools, and with them those that run at the provider, where no call is checked."""
        offer = request_context.model_request_parameters
        names = [*map(_origin, offer.function_tools), *((each.kind, OWN) for each in offer.native_tools)]
        shown = await ashown(choose(self.guard, ctx), names)
        tools = [tool for tool in offer.function_tools if _origin(tool) in shown]
        offer = replace(offer, function_tools=tools, native_tools=[])
        return replace(request_context, model_request_parameters=offer)


@dataclass
class GuardedToolset(WrapperToolset[Any]):
    """A toolset whose calls are checked by the values that its tools are given."""

    capability: ToolGuardCapability

    async def call_tool(self, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
        """Run a tool if the call is allowed."""

        def refusal(denied: Any) -> ToolDenied:
            if (
                self.capability.defer_approvals
                and denied.outward is Outward.APPROVAL
                and not ctx.tool_call_approved
            ):
                raise ApprovalRequired
            return ToolDenied(str(denied))

        call, asked = super().call_tool, (self.capability.guard, ctx, name, jsonable(tool_args), refusal)
        terms: CallTerms = {"call_id": _call_id(ctx), "interrupts": (ApprovalRequired,)}
        terms["origin"] = _origin(tool.tool_def)[1]
        return await arun_or_refuse(lambda: call(name, tool_args, ctx, tool), *asked, **terms)


def _origin(tool: Any) -> tuple[str, str]:
    # The keys that a toolset of an MCP server marks its tools with.
    of_server = {"annotations", "task"} <= (tool.metadata or {}).keys()
    return tool.name, (tool.toolset_id or UNNAMED) if of_server else OWN


def _call_id(ctx: Any) -> str:
    # By the response that has the call. Another run makes a call of it again only once it is approved.
    response = ctx.messages[-1]
    run_id = response.run_id if ctx.tool_call_approved else ctx.run_id
    siblings = [getattr(part, "tool_call_id", None) for part in response.parts]
    return attempt_id(f"{run_id}/{response.timestamp}", ctx.tool_call_id, siblings)
