"""The adapter for Google ADK, with the real library and a scripted model."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("google.adk", reason="Google ADK is tested where it is installed")

from google.adk.agents import LiveRequestQueue, LlmAgent
from google.adk.apps import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import InMemoryRunner
from google.adk.tools import BaseTool, FunctionTool
from google.genai import types

from sessauth.guard import Guard
from sessauth.guard.agents.google_adk import ToolGuardPlugin
from tests.guard.agent_tools import functions
from tests.guard.eight import EightTests, adapter
from tests.guard.world import World

pytestmark = pytest.mark.filterwarnings("default")

PAY = "write:mcp/tools/pay where amount <= 100"


class Model(BaseLlm):
    """A model that makes these calls, one list a turn, and then ends with the answers of the tools."""

    turns: list[list[tuple[str, dict[str, Any]]]]
    offered: list[str]

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
        """Give the calls of the next turn."""
        sets = llm_request.config.tools or []
        self.offered[:] = [each.name for some in sets for each in some.function_declarations or []]
        self.offered += ["of the provider" for some in sets if some.google_search]
        answers = [
            p.function_response.response for c in llm_request.contents for p in c.parts if p.function_response
        ]
        parts = [types.Part(text=f"answers: {answers}")]
        if self.turns:
            # Always the same ids, as a model may choose them.
            calls = [types.FunctionCall(id="call_1", name=n, args=a) for n, a in self.turns.pop(0)]
            parts = [types.Part(function_call=call) for call in calls]
        yield LlmResponse(content=types.Content(role="model", parts=parts))


class Search(BaseTool):
    """A tool that runs at the provider of the model."""

    async def process_llm_request(self, *, tool_context: Any, llm_request: Any) -> None:
        """Have it offered."""
        llm_request.config.tools = [
            *(llm_request.config.tools or []),
            types.Tool(google_search=types.GoogleSearch()),
        ]


SEARCH = Search(name="search", description="Search.")


def model_of(*turns: list[tuple[str, dict[str, Any]]]) -> Model:
    """Return a model that makes these calls."""
    return Model(model="fake", turns=list(turns), offered=[])


async def arun(model: Model, tools: list[Any], *plugins: BasePlugin, **options: Any) -> str:
    """Run an agent in an app of its own, and return its last words."""
    agent = LlmAgent(name="agent", model=model, tools=tools, **options)
    runner = InMemoryRunner(app=App(name="test", root_agent=agent, plugins=list(plugins)))
    session = await runner.session_service.create_session(app_name="test", user_id="user")
    said = types.Content(role="user", parts=[types.Part(text="go")])
    words = [""]
    async for event in runner.run_async(user_id="user", session_id=session.id, new_message=said):
        words += [part.text for part in (event.content.parts if event.content else None) or [] if part.text]
    await runner.close()
    return words[-1]


def run(world: World, guard: Any, model: Model, *plugins: BasePlugin, **options: Any) -> str:
    """Run an agent with the tools of the world."""
    return asyncio.run(arun(model, functions(world), *plugins, ToolGuardPlugin(guard), **options))


@adapter
class TestGoogleADK(EightTests):
    """The stories that every adapter has."""

    def call(self, world: World, guard: Guard, tool: str, arguments: dict[str, Any], token: str) -> str:
        """Have an agent call a tool."""
        return run(world, guard, model_of([(tool, arguments)]))

    def listed(self, world: World, guard: Guard, token: str) -> set[str]:
        """Return what a model is offered, in a place where it is offered a tool of its provider, too."""
        model = model_of()
        tools = [*functions(world), SEARCH]
        asyncio.run(arun(model, tools, ToolGuardPlugin(guard)))
        return set(model.offered)


def test_the_tools_of_the_model_s_provider_are_offered_without_the_plugin(world: World) -> None:
    """So that the stories above show something."""
    model = model_of()

    asyncio.run(arun(model, [*functions(world), SEARCH]))

    assert "of the provider" in model.offered and "drop_tables" in model.offered


def test_an_id_that_the_model_uses_twice_is_charged_twice(world: World) -> None:
    """The same call under the same id: in one turn, and in two."""
    call = ("pay", {"amount": 5})
    for turns in ([call, call],), ([call], [call]):
        world.ran.clear()
        guard = world.guard(token=world.token(f"{PAY} needs uses(1)"))

        shown = run(world, guard, model_of(*turns))

        assert "pay done" in shown and "{'error': 'not allowed'}" in shown
        assert len(world.ran) == 1


def test_an_agent_s_callback_can_not_change_a_call_after_the_check(world: World) -> None:
    """It is judged where it runs."""

    def generous(tool: Any, args: dict[str, Any], tool_context: Any) -> None:
        args["amount"] = 500

    guard = world.guard(token=world.token())

    shown = run(world, guard, model_of([("pay", {"amount": 5})]), before_tool_callback=generous)

    assert shown == "answers: [{'error': 'not allowed'}]" and world.ran == []


def test_a_call_that_a_callback_answers_is_not_charged(world: World) -> None:
    """The tool does not run, so its only use is left."""
    answered: list[Any] = []

    def answer_once(tool: Any, args: dict[str, Any], tool_context: Any) -> Any:
        if answered:
            return None
        answered.append(args)
        return {"result": "answered"}

    guard = world.guard(token=world.token(f"{PAY} needs uses(1)"), permit_ms=5_000)
    call = ("pay", {"amount": 5})

    shown = run(world, guard, model_of([call], [call]), before_tool_callback=answer_once)

    assert shown == "answers: [{'result': 'answered'}, {'result': 'pay done'}]"


@pytest.mark.parametrize("amount", [5, 500])
def test_a_tool_that_a_person_confirms_is_judged_when_it_runs(world: World, amount: int) -> None:
    """ADK's own confirmation comes first, and runs the tool without another request to the model."""
    token = world.token(f"{PAY} needs uses(1)")

    async def confirmed() -> list[Any]:
        tool = FunctionTool(functions(world)[1], require_confirmation=True)
        agent = LlmAgent(name="agent", model=model_of([("pay", {"amount": amount})]), tools=[tool])
        app = App(name="test", root_agent=agent, plugins=[ToolGuardPlugin(world.guard(token=token))])
        runner = InMemoryRunner(app=app)
        session = await runner.session_service.create_session(app_name="test", user_id="user")
        part, answers = types.Part(text="go"), []
        for _ in range(2):
            said = types.Content(role="user", parts=[part])
            async for event in runner.run_async(user_id="user", session_id=session.id, new_message=said):
                answers += [each.response for each in event.get_function_responses()]
                for call in event.get_function_calls():
                    if call.name == "adk_request_confirmation":
                        assert world.ran == []
                        answer = types.FunctionResponse(
                            id=call.id, name=call.name, response={"confirmed": True}
                        )
                        part = types.Part(function_response=answer)
        await runner.close()
        return answers

    answer = asyncio.run(confirmed())[-1]

    assert answer == ({"result": "pay done"} if amount == 5 else {"error": "not allowed"})
    assert len(world.ran) == (amount == 5)


def test_a_request_of_many_callbacks_is_charged_once(world: World) -> None:
    """A live session calls back for each message of the user, with the tools of one request."""
    guard = world.guard(token=world.token(f"{PAY} needs uses(1)"))

    class Again(BasePlugin):
        async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
            request = llm_request.model_copy(update={"contents": []})
            for _ in range(3):
                await ToolGuardPlugin(guard).before_model_callback(
                    callback_context=callback_context, llm_request=request
                )

    assert (
        run(world, guard, model_of([("pay", {"amount": 5})]), Again("again"))
        == "answers: [{'result': 'pay done'}]"
    )


class Live(Model):
    """A model of a live session, which makes its calls, and ends when a tool has answered them all."""

    @asynccontextmanager
    async def connect(self, llm_request: Any) -> Any:
        """Note what is offered where the connection is opened."""
        sets = llm_request.config.tools or []
        self.offered[:] = [each.name for some in sets for each in some.function_declarations or []]
        self.offered += ["of the provider" for some in sets if some.google_search]
        yield Connection(self.turns)


class Connection:
    """A live connection: the given calls, then nothing."""

    def __init__(self, turns: list[list[tuple[str, dict[str, Any]]]]) -> None:
        """Take the calls of each turn."""
        self.turns, self.answers = turns, asyncio.Event()

    async def send_content(self, content: Any, **_: Any) -> None:
        """Note that the tools have answered."""
        if any(part.function_response for part in content.parts):
            self.answers.set()

    async def receive(self) -> Any:
        """Give the calls."""
        for calls in self.turns:
            made = [
                types.FunctionCall(id=f"call_{n}", name=name, args=args)
                for n, (name, args) in enumerate(calls)
            ]
            parts = [types.Part(function_call=call) for call in made]
            yield LlmResponse(content=types.Content(role="model", parts=parts), turn_complete=True)
        await self.answers.wait()

    async def close(self) -> None:
        """Nothing."""


async def live(model: Live, tools: list[Any], plugin: BasePlugin, **options: Any) -> list[Any]:
    """Run a live session until its first answers, and return them."""
    agent = LlmAgent(name="agent", model=model, tools=tools, **options)
    runner = InMemoryRunner(app=App(name="test", root_agent=agent, plugins=[plugin]))
    session = await runner.session_service.create_session(app_name="test", user_id="user")
    queue, answers = LiveRequestQueue(), []
    events = runner.run_live(user_id="user", session_id=session.id, live_request_queue=queue)
    async with asyncio.timeout(60), aclosing(events):
        async for event in events:
            answers += [each.response for each in event.get_function_responses()]
            if answers:
                break
    await runner.close()
    return answers


def test_a_live_session_is_opened_with_the_tools_that_may_be_shown(world: World) -> None:
    """None that is hidden, and none of the provider; the calls of all are judged."""
    model = Live(
        model="fake",
        turns=[[("pay", {"amount": 5}), ("pay", {"amount": 500}), ("delete_repo", {"name": "x"})]],
        offered=[],
    )
    plugin = ToolGuardPlugin(world.guard(token=world.token()))

    answers = asyncio.run(live(model, [*functions(world), SEARCH], plugin))

    assert set(model.offered) == {"get_weather", "pay"}
    assert sorted(map(str, answers)) == [
        "{'error': 'not allowed'}",
        "{'error': 'not allowed'}",
        "{'result': 'pay done'}",
    ]
    assert world.ran == [("pay", {"amount": 5})]


def test_a_live_session_without_a_guard_is_not_opened(world: World) -> None:
    """Its tools could not be hidden."""
    model = Live(model="fake", turns=[], offered=["none"])

    with pytest.raises(Exception, match="not allowed"):
        asyncio.run(live(model, functions(world), ToolGuardPlugin()))
    assert model.offered == ["none"]


def test_an_agent_has_a_guard_of_its_own(world: World) -> None:
    """One plugin for all agents of an app: a function chooses the guard by the agent's name."""
    parent = world.guard(token=world.token())
    child = parent.child("write:mcp/tools/pay where amount <= 1")
    guards = {"agent": child}

    model = model_of([("pay", {"amount": 5})], [("pay", {"amount": 1})])
    shown = run(world, lambda context: guards.get(context.agent_name), model)

    assert shown == "answers: [{'error': 'not allowed'}, {'result': 'pay done'}]"


def test_a_running_tool_is_cancelled_when_its_session_ends(world: World) -> None:
    """A watched tool that would never return."""
    token = world.token()

    async def get_weather(city: str) -> str:
        """Wait for ever."""
        world.run("get_weather", city=city)
        await asyncio.to_thread(world.end, token)
        await asyncio.Event().wait()
        return "never"

    plugin = ToolGuardPlugin(world.guard(token=token, watch=True))
    model = model_of([("get_weather", {"city": "Bern"})])

    assert (
        asyncio.run(arun(model, [get_weather], plugin))
        == "answers: [{'error': 'not allowed: no valid token'}]"
    )
    assert len(world.ran) == 1
