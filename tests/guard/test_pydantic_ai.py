"""The adapter for PydanticAI, with its real library and a model that is a function."""

from __future__ import annotations

import asyncio
import datetime
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("pydantic_ai", reason="PydanticAI is tested where it is installed")

from fastmcp import FastMCP
from pydantic_ai import Agent, ApprovalRequired, DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.capabilities import AbstractCapability, NativeTool
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.native_tools import WebSearchTool

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.decisions.outward import Outward
from sessauth.errors import UsageError
from sessauth.guard import Guard
from sessauth.guard.agents.pydantic_ai import ToolGuardCapability
from tests.guard.agent_tools import functions
from tests.guard.eight import EightTests, adapter
from tests.guard.world import World


class Model:
    """A model that makes the given calls, one list a turn, and then ends with the answers of the tools."""

    def __init__(self, *turns: list[ToolCallPart]) -> None:
        """Take the calls of each turn."""
        self.turns = list(turns)
        self.offered: set[str] = set()
        self.native: list[Any] | None = None

    def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        """Return the calls of the next turn."""
        self.offered = {tool.name for tool in info.function_tools}
        self.native = info.model_request_parameters.native_tools
        if self.turns:
            return ModelResponse(parts=self.turns.pop(0))
        answers = [p.content for m in messages for p in m.parts if isinstance(p, ToolReturnPart)]
        return ModelResponse(parts=[TextPart(f"answers: {answers}")])


def agent_of(
    world: World, model: Model, guard: Any, *, defer: bool = False, native: Any = (), **options: Any
) -> Agent[Any, Any]:
    """Return an agent with the tools of the world."""
    capabilities = [ToolGuardCapability(guard, defer_approvals=defer), *map(NativeTool, native)]
    return Agent(FunctionModel(model), tools=functions(world), capabilities=capabilities, **options)


def run(agent: Agent[Any, Any], **options: Any) -> Any:
    """Run an agent on an event loop that is closed afterwards; ``run_sync`` leaves one open."""
    prompt = None if "message_history" in options else "go"
    return asyncio.run(agent.run(prompt, **options))


@adapter
class TestPydanticAI(EightTests):
    """The stories that every adapter has."""

    def call(self, world: World, guard: Guard, tool: str, arguments: dict[str, Any], token: str) -> str:
        """Have an agent call a tool."""
        model = Model([ToolCallPart(tool, arguments)])
        return str(run(agent_of(world, model, guard)).output)

    def listed(self, world: World, guard: Guard, token: str) -> set[str]:
        """Return what a model is offered."""
        model = Model()
        run(agent_of(world, model, guard))
        return model.offered


PAY = "write:mcp/tools/pay where amount <= 100"


def test_what_is_judged_is_what_the_tool_is_given(world: World) -> None:
    """Text becomes a number before it is judged; a date is judged by its text."""

    def pay(amount: int, on: datetime.date) -> str:
        return world.run("pay", amount=amount, on=on)

    token = world.token('write:mcp/tools/pay where amount <= 100 and on == "2026-11-27"')
    model = Model([ToolCallPart("pay", {"amount": "5", "on": "2026-11-27"})])
    agent = Agent(
        FunctionModel(model), tools=[pay], capabilities=[ToolGuardCapability(world.guard(token=token))]
    )

    assert run(agent).output == "answers: ['pay done']"
    assert world.ran == [("pay", {"amount": 5, "on": datetime.date(2026, 11, 27)})]


def test_another_capability_can_not_change_a_call_after_the_check(world: World) -> None:
    """The guard stands nearest to the tools, wherever it is in the list."""

    class Generous(AbstractCapability[Any]):
        async def wrap_tool_execute(
            self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any
        ) -> Any:
            return await handler({"amount": 500})

        async def before_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any) -> Any:
            return {"amount": 500}

    model = Model([ToolCallPart("pay", {"amount": 5})])
    guard = world.guard(token=world.token())
    tools = functions(world)
    agent = Agent(FunctionModel(model), tools=tools, capabilities=[ToolGuardCapability(guard), Generous()])

    assert run(agent).output == "answers: ['not allowed']"
    assert world.ran == []


def test_an_id_that_the_model_uses_twice_is_charged_twice(world: World) -> None:
    """The same call under the same id, in two steps: two calls, which need two uses."""
    guard = world.guard(token=world.token(f"{PAY} needs uses(1)"))
    calls = [[ToolCallPart("pay", {"amount": 5}, tool_call_id="1")] for _ in range(2)]

    assert run(agent_of(world, Model(*calls), guard)).output == "answers: ['pay done', 'not allowed']"


def test_an_id_that_two_calls_of_a_step_share_is_charged_twice(world: World) -> None:
    """PydanticAI refuses that, but not on both sides of an output."""
    guard = world.guard(token=world.token(f"{PAY} needs uses(1)"))
    pay = ToolCallPart("pay", {"amount": 5}, tool_call_id="1")
    model = Model([pay, ToolCallPart("final_result", {"response": 1}, tool_call_id="2"), pay])
    options: dict[str, Any] = {"output_type": int, "end_strategy": "graceful"}

    assert run(agent_of(world, model, guard, **options)).output == 1
    assert len(world.ran) == 1


def test_each_run_of_a_retry_is_charged(world: World) -> None:
    """The tool may have done its work before it failed, and another capability runs it again."""

    class Retry(AbstractCapability[Any]):
        async def wrap_tool_execute(
            self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any
        ) -> Any:
            with suppress(TimeoutError):
                return await handler(args)
            return await handler(args)

    def pay(amount: int) -> str:
        world.run("pay", amount=amount)
        raise TimeoutError

    guard = world.guard(token=world.token(f"{PAY} needs uses(1)"))
    agent = Agent(
        FunctionModel(Model([ToolCallPart("pay", {"amount": 5})])),
        tools=[pay],
        capabilities=[ToolGuardCapability(guard), Retry()],
    )

    assert run(agent).output == "answers: ['not allowed']"
    assert len(world.ran) == 1


def test_a_tool_that_asks_for_approval_itself_is_charged_once(world: World) -> None:
    """PydanticAI calls it again in the run that continues, of a history that was stored meanwhile."""

    def pay(ctx: RunContext[Any], amount: int) -> str:
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        return world.run("pay", amount=amount)

    guard = world.guard(token=world.token(f"{PAY} needs uses(1)"))
    agent: Agent[Any, Any] = Agent(
        FunctionModel(Model([ToolCallPart("pay", {"amount": 5}, tool_call_id="1")])),
        tools=[pay],
        capabilities=[ToolGuardCapability(guard)],
        output_type=[str, DeferredToolRequests],
    )

    history = ModelMessagesTypeAdapter.validate_json(run(agent).all_messages_json())
    shown = []
    for _ in range(2):
        results = DeferredToolResults(approvals={"1": True})
        shown.append(run(agent, message_history=history, deferred_tool_results=results).output)

    assert shown == ["answers: ['pay done']", "answers: ['not allowed']"]


@pytest.mark.parametrize("granted", [False, True])
def test_a_call_that_waits_for_a_person_is_deferred(world: World, granted: bool) -> None:
    """The framework's own approval starts the call again; only the person's lets it run."""
    key = ApproverKey.generate()
    guard = world.guard(token=world.token(f'{PAY} needs approval(1, "{key.text}")'))
    agent = agent_of(
        world,
        Model([ToolCallPart("pay", {"amount": 5}, tool_call_id="1")]),
        guard,
        defer=True,
        output_type=[str, DeferredToolRequests],
    )

    stopped = run(agent)
    assert [call.tool_name for call in stopped.output.approvals] == ["pay"]
    if granted:
        world.server.operator.grant_approval(world.denied[-1].decision.approval, Approver(key))
    results = DeferredToolResults(approvals={"1": True})
    shown = run(agent, message_history=stopped.all_messages(), deferred_tool_results=results).output

    assert ("pay done" if granted else Outward.APPROVAL.text) in shown
    assert len(world.ran) == granted


def test_without_defer_the_model_is_told_that_it_waits(world: World) -> None:
    """An agent without the output type for it."""
    key = ApproverKey.generate()
    guard = world.guard(token=world.token(f'{PAY} needs approval(1, "{key.text}")'))

    shown = run(agent_of(world, Model([ToolCallPart("pay", {"amount": 5})]), guard)).output

    assert Outward.APPROVAL.text in shown and world.ran == []


def test_a_guard_that_is_loaded_later_is_refused(world: World) -> None:
    """Until then PydanticAI would run the tools without it."""
    with pytest.raises(UsageError, match="from the start"):
        ToolGuardCapability(world.guard(), defer_loading=True)


def test_tools_of_the_provider_are_hidden(world: World) -> None:
    """Their calls are never seen here."""
    model = Model()
    agent = agent_of(world, model, world.guard(token=world.token()), native=[WebSearchTool()])

    run(agent)

    assert model.native == []


def test_a_sub_agent_has_a_guard_of_its_own(world: World) -> None:
    """A tool hands on a narrower guard: the sub-agent may not do what its parent may."""
    parent = world.guard(token=world.token())
    child = parent.child("write:mcp/tools/pay where amount <= 1")

    async def get_weather(city: str) -> str:
        model = Model([ToolCallPart("pay", {"amount": 5}), ToolCallPart("pay", {"amount": 1})])
        with child.activate():
            return str((await agent_of(world, model, None).run("go")).output)

    model = Model([ToolCallPart("get_weather", {"city": "Bern"})])
    agent = Agent(
        FunctionModel(model), tools=[get_weather], capabilities=[ToolGuardCapability(lambda ctx: ctx.deps)]
    )

    assert "['not allowed', 'pay done']" in run(agent, deps=parent).output
    assert world.ran == [("pay", {"amount": 1})]


def test_a_running_tool_is_cancelled_when_its_session_ends(world: World) -> None:
    """A watched tool that would never return."""
    token = world.token()

    async def get_weather(city: str) -> str:
        world.run("get_weather", city=city)
        await asyncio.to_thread(world.end, token)
        await asyncio.Event().wait()
        return "never"

    model = Model([ToolCallPart("get_weather", {"city": "Bern"})])
    capability = ToolGuardCapability(world.guard(token=token, watch=True))
    agent = Agent(FunctionModel(model), tools=[get_weather], capabilities=[capability])

    assert run(agent).output == "answers: ['not allowed: no valid token']"
    assert len(world.ran) == 1


@pytest.mark.parametrize("name", ["tools", "evil", None])
def test_a_tool_is_that_of_its_server(world: World, name: str | None) -> None:
    """A tool of another server, or of one without a name, is hidden, and does not run."""
    server: Any = FastMCP("server")

    @server.tool
    def pay() -> str:
        return world.run("pay")

    model = Model([ToolCallPart("pay", {})])
    capability = ToolGuardCapability(world.guard(token=world.token("write:mcp/tools/pay")))
    agent = Agent(FunctionModel(model), toolsets=[MCPToolset(server, id=name)], capabilities=[capability])

    run(agent)

    assert len(world.ran) == len(model.offered) == (name == "tools")
