"""The adapter for LangChain and LangGraph, with the real libraries and a scripted model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("langchain", reason="LangChain is tested where it is installed")

from langchain.agents import create_agent
from langchain.agents.middleware import ToolRetryMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from pydantic import Field

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.guard import Guard
from sessauth.guard.agents.langchain import ToolGuardMiddleware, ask_by_interrupt
from tests.guard.agent_tools import functions
from tests.guard.eight import EightTests, adapter
from tests.guard.world import SCOPES, World

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

PAY = "write:mcp/tools/pay where amount <= 100"
THREAD = {"configurable": {"thread_id": "1"}}
GO: dict[str, Any] = {"messages": [("user", "go")]}


class Model(BaseChatModel):
    """A model that makes these calls, one list a turn, and then ends."""

    turns: list[list[tuple[str, dict[str, Any]]]] = Field(default_factory=list)
    offered: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "fake"

    def bind_tools(self, tools: Any, **_: Any) -> Model:
        """Note what is offered."""
        self.offered[:] = tools
        return self

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        made = self.turns.pop(0) if self.turns else []
        # Always the same ids, as a model may choose them.
        calls = [{"name": n, "args": a, "id": "call_1", "type": "tool_call"} for n, a in made]
        return ChatResult(generations=[ChatGeneration(message=AIMessage("", tool_calls=calls))])


def agent_of(world: World, model: Model, guard: Any, *more: Any, **options: Any) -> Any:
    """Return an agent with the tools of the world, and ``more``."""
    tools = [StructuredTool.from_function(function) for function in functions(world)]
    return create_agent(model, [*tools, *more], middleware=[ToolGuardMiddleware(guard)], **options)


def answers(result: dict[str, Any]) -> list[str]:
    """Return what tools answered, in order."""
    return [message.text for message in result["messages"] if isinstance(message, ToolMessage)]


@adapter
class TestLangChain(EightTests):
    """The stories that every adapter has, with ``invoke``."""

    def call(self, world: World, guard: Guard, tool: str, arguments: dict[str, Any], token: str) -> str:
        """Have an agent call a tool."""
        return " ".join(answers(self.run(agent_of(world, Model(turns=[[(tool, arguments)]]), guard))))

    def listed(self, world: World, guard: Guard, token: str) -> set[str]:
        """Return what a model is offered, in a place where it is offered a tool of its provider, too."""
        model = Model(offered=[])
        self.run(agent_of(world, model, guard, {"type": "web_search"}))
        return {tool["type"] if isinstance(tool, dict) else tool.name for tool in model.offered}

    def run(self, agent: Any) -> Any:
        """Run an agent."""
        return agent.invoke(GO)


@adapter
class TestLangChainAwaited(TestLangChain):
    """The same stories with ``ainvoke``."""

    def run(self, agent: Any) -> Any:
        """Run an agent on an event loop."""
        return asyncio.run(agent.ainvoke(GO))


def graph_of(world: World, guard: Guard, calls: list[tuple[str, dict[str, Any]]]) -> Any:
    """Return a graph of one's own with a ToolNode, in whose one step all calls are made."""
    middleware = ToolGuardMiddleware(guard)
    tools = [StructuredTool.from_function(function) for function in functions(world)]
    node = ToolNode(
        tools, wrap_tool_call=middleware.wrap_tool_call, awrap_tool_call=middleware.awrap_tool_call
    )
    model = Model(turns=[calls])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", node)
    for start, end in ((START, "model"), ("model", "tools"), ("tools", END)):
        graph.add_edge(start, end)
    return graph.compile()


@pytest.mark.parametrize("awaited", [False, True])
def test_a_tool_node_of_ones_own_is_guarded(world: World, awaited: bool) -> None:
    """Two calls in one step: the allowed one runs."""
    graph = graph_of(
        world, world.guard(token=world.token()), [("pay", {"amount": 5}), ("pay", {"amount": 500})]
    )

    result = asyncio.run(graph.ainvoke(GO)) if awaited else graph.invoke(GO)

    assert answers(result) == ["pay done", "not allowed"]
    assert world.ran == [("pay", {"amount": 5})]


def test_a_refusal_has_the_id_of_its_decision(world: World) -> None:
    """The artifact of the message has it, which no model sees."""
    agent = agent_of(world, Model(turns=[[("pay", {"amount": 500})]]), world.guard(token=world.token()))

    messages = agent.invoke(GO)["messages"]

    artifacts = [message.artifact for message in messages if isinstance(message, ToolMessage)]
    assert artifacts == [{"decision": world.denied[-1].decision_id.hex()}]


@pytest.mark.parametrize("turns", [[2], [1, 1]], ids=["in one step", "in two steps"])
def test_an_id_that_the_model_uses_twice_is_charged_twice(world: World, turns: list[int]) -> None:
    """The same call under the same id: two calls, which need two uses."""
    guard = world.guard(token=world.token(f"{PAY} needs uses(1)"))
    call = ("pay", {"amount": 5})

    if turns == [2]:
        result = graph_of(world, guard, [call, call]).invoke(GO)
    else:
        result = agent_of(world, Model(turns=[[call], [call]]), guard).invoke(GO)

    assert sorted(answers(result)) == ["not allowed", "pay done"]


def test_a_step_that_is_run_again_is_charged_once(world: World) -> None:
    """A tool that interrupts the graph is called again when it is resumed."""

    def pay(amount: int) -> str:
        """Pay, after a question."""
        return world.run("pay", amount=interrupt("how much?"))

    guard = world.guard(token=world.token(f"{PAY} needs uses(1)"))
    tool, model = StructuredTool.from_function(pay), Model(turns=[[("pay", {"amount": 5})]])
    agent = create_agent(model, [tool], middleware=[ToolGuardMiddleware(guard)], checkpointer=InMemorySaver())

    assert agent.invoke(GO, THREAD)["__interrupt__"][0].value == "how much?"
    assert answers(agent.invoke(Command(resume=7), THREAD)) == ["pay done"]
    assert world.ran == [("pay", {"amount": 7})]


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("retry_first", [False, True])
@pytest.mark.parametrize("uses", [1, 2])
def test_each_run_of_a_retry_is_charged(world: World, awaited: bool, retry_first: bool, uses: int) -> None:
    """The tool may have done its work before it failed, wherever the middleware that runs it again stands."""

    def pay(amount: int) -> str:
        """Pay, and lose the answer of the bank."""
        world.run("pay", amount=amount)
        raise TimeoutError

    guard = ToolGuardMiddleware(world.guard(token=world.token(f"{PAY} needs uses({uses})")))
    retry = ToolRetryMiddleware(max_retries=3, initial_delay=0, jitter=False)
    agent = create_agent(
        Model(turns=[[("pay", {"amount": 5})]]),
        [StructuredTool.from_function(pay)],
        middleware=[retry, guard] if retry_first else [guard, retry],
    )

    result = asyncio.run(agent.ainvoke(GO)) if awaited else agent.invoke(GO)

    assert answers(result) == ["not allowed"]
    assert len(world.ran) == uses


@pytest.mark.parametrize("answer", ["signed", "granted", "refused"])
@pytest.mark.parametrize("awaited", [False, True])
def test_a_call_that_waits_for_a_person_interrupts(world: World, answer: str, awaited: bool) -> None:
    """The graph is resumed with a signed approval, or with the word that the server has one."""
    key = ApproverKey.generate()
    token = world.token(f'{PAY} needs approval(1, "{key.text}")')
    asked: list[Any] = []

    def ask(request: Any) -> Any:
        asked.append(request)
        return ask_by_interrupt(request)

    guard = world.guard(token=token, approve=ask)
    agent = agent_of(world, Model(turns=[[("pay", {"amount": 5})]]), guard, checkpointer=InMemorySaver())

    def run(given: Any) -> Any:
        return asyncio.run(agent.ainvoke(given, THREAD)) if awaited else agent.invoke(given, THREAD)

    stopped = run(GO)["__interrupt__"][0].value
    assert stopped["approval"] == asked[0].record.id.hex() and '"amount": 5' in stopped["text"]
    assert world.ran == []

    resume: Any = False
    if answer == "signed":
        resume = Approver(key).grant(asked[0]).text
    elif answer == "granted":
        world.server.operator.grant_approval(asked[0], Approver(key))
        resume = True
    shown = answers(run(Command(resume=resume)))

    assert shown == (["not done: it waits for a person's approval"] if answer == "refused" else ["pay done"])
    assert len(world.ran) == (answer != "refused")


@pytest.mark.parametrize("way", ["active", "context"])
def test_a_sub_agent_has_a_guard_of_its_own(world: World, way: str) -> None:
    """A tool hands on a narrower guard: the sub-agent may not do what its parent may."""
    parent = world.guard(token=world.token(*SCOPES))
    child = parent.child("write:mcp/tools/pay where amount <= 1")
    choice = None if way == "active" else lambda runtime: runtime.context

    def get_weather(city: str) -> str:
        """Ask another agent."""
        sub = agent_of(world, Model(turns=[[("pay", {"amount": 5})], [("pay", {"amount": 1})]]), choice)
        if way == "context":
            return str(answers(sub.invoke(GO, context=child)))
        with child.activate():
            return str(answers(sub.invoke(GO)))

    tool = StructuredTool.from_function(get_weather)
    model = Model(turns=[[("get_weather", {"city": "Bern"})]])
    agent = create_agent(model, [tool], middleware=[ToolGuardMiddleware(choice)])

    if way == "context":
        result = agent.invoke(GO, context=parent)
    else:
        with parent.activate():
            result = agent.invoke(GO)

    assert answers(result) == ["['not allowed', 'pay done']"]
    assert world.ran == [("pay", {"amount": 1})]


UNANSWERED = "not done: no answer about the permission; try again later"


@pytest.mark.parametrize(
    ("choice", "text"),
    [(None, "not allowed"), (lambda runtime: None, "not allowed"), (lambda runtime: 1 / 0, UNANSWERED)],
)
def test_without_a_guard_nothing_runs(world: World, choice: Any, text: str) -> None:
    """None is active, or the function that chooses it has none or fails."""
    node = ToolGuardMiddleware(choice)
    tools = [StructuredTool.from_function(function) for function in functions(world)]
    call = AIMessage("", tool_calls=[{"name": "get_weather", "args": {"city": "Bern"}, "id": "1"}])
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode(tools, wrap_tool_call=node.wrap_tool_call))
    graph.add_edge(START, "tools")

    shown = answers(graph.compile().invoke({"messages": [call]}))

    assert shown == [text]
    assert world.ran == []


def test_a_running_tool_is_cancelled_when_its_session_ends(world: World) -> None:
    """A watched tool that would never return."""
    token = world.token()
    guard = world.guard(token=token, watch=True)

    async def get_weather(city: str) -> str:
        """Wait for ever."""
        world.run("get_weather", city=city)
        await asyncio.to_thread(world.end, token)
        await asyncio.Event().wait()
        return "never"

    tool = StructuredTool.from_function(coroutine=get_weather)
    model = Model(turns=[[("get_weather", {"city": "Bern"})]])
    agent = create_agent(model, [tool], middleware=[ToolGuardMiddleware(guard)])

    assert answers(asyncio.run(agent.ainvoke(GO))) == ["not allowed: no valid token"]
    assert len(world.ran) == 1
