"""The adapter for CrewAI, with the real library and scripted models."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

if find_spec("crewai") is None:
    pytest.skip("CrewAI is tested where it is installed, in the long form", allow_module_level=True)
# Before it is imported: nothing is sent to anybody. Where it is not, other tests need their spans.
os.environ.update({"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true"})

from crewai import Agent, Crew, Task
from crewai.hooks import register_before_tool_call_hook, unregister_before_tool_call_hook
from crewai.llms.base_llm import BaseLLM
from crewai.tools import tool
from crewai.tools.mcp_tool_wrapper import MCPToolWrapper

from sessauth import ToolCatalog
from sessauth.decisions.outward import Outward
from sessauth.guard import Guard
from sessauth.guard.agents.crewai import guard_calls, guarded_tools
from tests.guard.agent_tools import functions
from tests.guard.eight import EightTests, adapter
from tests.guard.world import Broken, World

pytestmark = pytest.mark.filterwarnings("default")

NAMES = ("get_weather", "pay", "delete_repo", "drop_tables")
WEATHER = ("get_weather", {"city": "Bern"})


class Native(BaseLLM):
    """A model whose API has tool calls. It makes these, one a turn, and ends with the tools' answers."""

    turns: list[tuple[str, dict[str, Any]]]
    offered: list[str]

    def supports_function_calling(self) -> bool:
        """It does."""
        return True

    def call(self, messages: Any, tools: Any = None, *_: Any, **__: Any) -> Any:
        """Return the call of the next turn."""
        self.offered[:] = [each["function"]["name"] for each in tools or []]
        # CrewAI can't read calls where it offered no tools.
        if self.turns and tools:
            name, values = self.turns.pop(0)
            return [{"id": "1", "function": {"name": name, "arguments": json.dumps(values)}}]
        return f"answers: {[each['content'] for each in messages if each.get('role') == 'tool']}"


class ReAct(Native):
    """A model that writes its calls into its text."""

    def supports_function_calling(self) -> bool:
        """It does not."""
        return False

    def call(self, messages: Any, *_: Any, **__: Any) -> Any:
        """Return the call of the next turn."""
        text = "\n".join(each["content"] for each in messages)
        self.offered[:] = [
            name for name in ("get_weather", "pay", "delete_repo", "drop_tables") if name in text
        ]
        if self.turns:
            name, values = self.turns.pop(0)
            return f"Thought: I must.\nAction: {name}\nAction Input: {json.dumps(values)}\n"
        return f"Thought: I know.\nFinal Answer: answers: {text[text.rfind('Observation:') :]}"


def run(model: Any, tools: Any) -> str:
    """Run a crew of one agent, and return its last words."""
    agent = Agent(role="agent", goal="a goal", backstory="none", llm=model, tools=tools, max_iter=4)
    task = Task(description="go", expected_output="words", agent=agent)
    return str(Crew(agents=[agent], tasks=[task]).kickoff())


def tools_of(world: World) -> list[Any]:
    """Return the tools of the world as CrewAI's."""
    return [tool(function.__name__)(function) for function in functions(world)]


class Stories(EightTests):
    """The stories that every adapter has. CrewAI itself answers a call of a hidden tool: it has none."""

    model: type[Native] = Native

    def call(self, world: World, guard: Guard, tool: str, arguments: dict[str, Any], token: str) -> str:
        """Have an agent call a tool."""
        model = self.model(model="fake", turns=[(tool, arguments)], offered=[])
        return run(model, guarded_tools(tools_of(world), guard))

    def listed(self, world: World, guard: Guard, token: str) -> set[str]:
        """Return what a model is offered."""
        model = self.model(model="fake", turns=[], offered=[])
        run(model, guarded_tools(tools_of(world), guard))
        return set(model.offered)

    @staticmethod
    def _refused(world: World, shown: str, expected: Outward | None = None) -> None:
        EightTests._refused(world, shown, expected if expected and expected.text in shown else None)
        assert "done" not in shown


@adapter
class TestCrewAINative(Stories):
    """A model whose API has tool calls."""


@adapter
class TestCrewAIReAct(Stories):
    """A model that writes its calls into its text."""

    model = ReAct


@pytest.fixture
def hooks() -> Iterator[list[Any]]:
    """Give a list of hooks, which are unregistered at the end."""
    registered: list[Any] = []
    yield registered
    for hook in registered:
        unregister_before_tool_call_hook(hook)


MODELS = pytest.mark.parametrize("model", [Native, ReAct])


@MODELS
def test_crewai_runs_a_tool_whose_hook_raises(world: World, hooks: list[Any], model: type[Native]) -> None:
    """The trap: so a hook of ours must not raise."""

    def broken(_: Any) -> None:
        raise RuntimeError("broken")

    register_before_tool_call_hook(broken)
    hooks.append(broken)

    run(model(model="fake", turns=[WEATHER], offered=[]), tools_of(world))

    assert world.ran == [WEATHER]


@MODELS
@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("verifier", [None, Broken()])
def test_a_tool_that_nobody_wrapped_is_judged_by_the_hook(
    world: World, hooks: list[Any], model: type[Native], token: bool, verifier: Any
) -> None:
    """It runs with a token and a verifier that answers, and never else."""
    hooks.append(guard_calls(world.guard(token=world.token() if token else None, verifier=verifier)))

    shown = run(model(model="fake", turns=[WEATHER, ("pay", {"amount": 500})], offered=[]), tools_of(world))

    assert world.ran == ([WEATHER] if token and verifier is None else [])
    assert "blocked by hook" in shown


@MODELS
def test_a_guarded_tool_is_judged_once(world: World, hooks: list[Any], model: type[Native]) -> None:
    """The hook leaves it to the tool: one use is enough."""
    guard = world.guard(token=world.token("write:mcp/tools/pay needs uses(1)"))
    hooks.append(guard_calls(guard))

    run(
        model(model="fake", turns=[("pay", {"amount": 5})], offered=[]), guarded_tools(tools_of(world), guard)
    )

    assert world.ran == [("pay", {"amount": 5})]


@MODELS
@pytest.mark.parametrize("wrapped", [False, True])
def test_each_run_of_a_retry_is_charged(
    world: World, hooks: list[Any], model: type[Native], wrapped: bool
) -> None:
    """CrewAI runs a tool that failed again, up to six times: it may have done its work before."""

    @tool("pay")
    def pay(amount: int) -> str:
        """Pay, and lose the answer of the bank."""
        world.run("pay", amount=amount)
        raise TimeoutError

    guard = world.guard(token=world.token("write:mcp/tools/pay needs uses(1)"))
    hooks.append(guard_calls(guard))
    calls = [("pay", {"amount": 5}), ("pay", {"amount": 6})]

    run(model(model="fake", turns=calls, offered=[]), guarded_tools([pay], guard) if wrapped else [pay])

    assert world.ran == [("pay", {"amount": 5})]


@MODELS
def test_a_tool_that_the_hook_judged_runs_again_in_another_call(
    world: World, hooks: list[Any], model: type[Native]
) -> None:
    """Each call is judged, and makes one run."""
    hooks.append(guard_calls(world.guard(token=world.token())))
    calls = [("pay", {"amount": amount}) for amount in (5, 6, 500)]

    run(model(model="fake", turns=list(calls), offered=[]), tools_of(world))

    assert world.ran == calls[:2]


@MODELS
def test_another_hook_can_not_change_a_call_after_the_check(
    world: World, hooks: list[Any], model: type[Native]
) -> None:
    """A guarded tool is judged where it runs."""

    def generous(call: Any) -> None:
        call.tool_input["amount"] = 500

    guard = world.guard(token=world.token())
    hooks.append(guard_calls(guard))
    register_before_tool_call_hook(generous)
    hooks.append(generous)

    shown = run(
        model(model="fake", turns=[("pay", {"amount": 5})], offered=[]), guarded_tools(tools_of(world), guard)
    )

    assert world.ran == [] and "not allowed" in shown


def test_a_result_is_not_given_out_again_after_the_end(world: World) -> None:
    """CrewAI caches results; the cache knows no sessions. A model without tool calls may not repeat one."""
    token = world.token()

    @tool("get_weather")
    def get_weather(city: str) -> str:
        """Return the weather, once."""
        result = world.run("get_weather", city=city)
        world.end(token)
        return result

    guard = world.guard(token=token)

    shown = run(
        Native(model="fake", turns=[WEATHER, WEATHER], offered=[]), guarded_tools([get_weather], guard)
    )

    assert world.ran == [WEATHER]
    assert "not allowed: no valid token" in shown


@MODELS
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(("server", "runs"), [("desk", True), ("lab", False), ("evil", False)])
def test_a_tool_of_an_mcp_server_is_judged_by_the_catalogue_of_its_server(
    world: World, hooks: list[Any], model: type[Native], wrapped: bool, server: str, runs: bool
) -> None:
    """Another server's tool of the same name is another tool, whether a wrapper judges it or the hook."""

    class Search(MCPToolWrapper):
        """A tool of CrewAI's own MCP client, without a connection."""

        def _run(self, **values: Any) -> str:
            return world.run("search", **values)

    desk = ToolCatalog.from_mcp("desk", [{"name": "search"}])
    world.catalogue = {"desk": desk, "lab": ToolCatalog.from_mcp("lab", [{"name": "search"}])}
    token = world.token("write:mcp/desk/search", session=world.session(ceiling=["write:mcp/**"]))
    guard = world.guard(token=token)
    hooks.append(guard_calls(guard))
    tools = [Search({}, "search", {}, server)]

    run(
        model(model="fake", turns=[(f"{server}_search", {})], offered=[]),
        guarded_tools(tools, guard) if wrapped else tools,
    )

    assert world.ran == ([("search", {})] if runs else [])
