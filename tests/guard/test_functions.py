"""Plain functions as tools: the eight tests, and how arguments are named."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from sessauth.guard import Guard, ToolDenied, current_guard, guarded
from tests.guard.eight import EightTests, adapter
from tests.guard.world import UNKNOWN, World


def functions(world: World, decorate: Any) -> dict[str, Any]:
    """Return the tools as functions, each decorated."""

    def get_weather(city: str) -> str:
        return world.run("get_weather", city=city)

    def pay(amount: int) -> str:
        return world.run("pay", amount=amount)

    def delete_repo(name: str) -> str:
        return world.run("delete_repo", name=name)

    def drop_tables() -> str:
        return world.run("drop_tables")

    return {each.__name__: decorate(each) for each in (get_weather, pay, delete_repo, drop_tables)}


@adapter
class TestFunctions(EightTests):
    """Functions with the decorator, called where a guard is active."""

    def call(self, world: World, guard: Guard, tool: str, arguments: dict[str, Any], token: str) -> str:
        """Call a function."""
        with guard.activate():
            try:
                return str(functions(world, guarded())[tool](**arguments))
            except ToolDenied as denied:
                return str(denied)

    def listed(self, world: World, guard: Guard, token: str) -> set[str]:
        """Ask the guard."""
        return set(guard.visible(functions(world, guarded())))


@adapter
class TestCoroutines(EightTests):
    """Coroutine functions with a guard's own decorator."""

    def call(self, world: World, guard: Guard, tool: str, arguments: dict[str, Any], token: str) -> str:
        """Await a function."""

        @guard.tool()
        async def get_weather(city: str) -> str:
            return world.run("get_weather", city=city)

        @guard.tool("pay")
        async def transfer(amount: int) -> str:
            return world.run("pay", amount=amount)

        @guard.tool()
        async def delete_repo(name: str) -> str:
            return world.run("delete_repo", name=name)

        @guard.tool()
        async def drop_tables() -> str:
            return world.run("drop_tables")

        tools = {"get_weather": get_weather, "pay": transfer, "delete_repo": delete_repo}

        async def main() -> str:
            try:
                return await {**tools, UNKNOWN: drop_tables}[tool](**arguments)
            except ToolDenied as denied:
                return str(denied)

        return asyncio.run(main())

    def listed(self, world: World, guard: Guard, token: str) -> set[str]:
        """Ask the guard, awaited."""
        return set(asyncio.run(guard.avisible(functions(world, guarded()))))


def test_without_an_active_guard_nothing_runs(world: World) -> None:
    """A guarded function that is called outside is denied."""
    with pytest.raises(ToolDenied) as caught:
        functions(world, guarded())["get_weather"](city="Bern")

    assert (caught.value.reason, world.ran) == ("NO_GUARD", [])


def test_the_active_guard_is_that_of_the_task(world: World) -> None:
    """Two tasks with a guard each don't mix them; a block leaves what was active before."""
    guards = world.guard(token=world.token()), world.guard()

    async def use(guard: Guard) -> bool:
        with guard.activate():
            await asyncio.sleep(0)
            return current_guard() is guard

    async def main() -> list[bool]:
        return await asyncio.gather(*map(use, guards))

    with guards[0].activate():
        assert asyncio.run(main()) == [True, True]
        with guards[1].activate():
            assert current_guard() is guards[1]
        assert current_guard() is guards[0]
    assert current_guard() is None


@pytest.mark.parametrize(
    ("args", "values", "runs"),
    [
        ((50,), {}, True),
        ((), {"amount": 50}, True),
        ((500,), {}, False),
        ((), {"amount": 500}, False),
        # Judged by its default.
        ((), {}, False),
        # Another argument than the scope names: a closed world.
        ((50, "now"), {}, True),
        # Arguments that the function does not take.
        ((50, "now", 1), {}, False),
        ((), {"amount": 50, "other": 1}, False),
        ((object(),), {}, False),
        ((float("nan"),), {}, False),
    ],
)
def test_arguments_are_judged_under_their_names(
    world: World, args: tuple[Any, ...], values: dict[str, Any], runs: bool
) -> None:
    """However they are passed, and with their defaults."""
    scope = 'write:mcp/tools/pay where amount <= 100 and when in ["", "now"]'

    @guarded()
    def pay(amount: Any = 200, when: str = "") -> str:
        return world.run("pay", amount=amount, when=when)

    with world.guard(token=world.token(scope)).activate():
        if runs:
            pay(*args, **values)
        else:
            with pytest.raises(ToolDenied):
                pay(*args, **values)

    assert bool(world.ran) is runs


def test_a_method_is_judged_without_its_object(world: World) -> None:
    """``self`` is no argument of the tool."""

    class Desk:
        @guarded()
        def get_weather(self, city: str) -> str:
            return world.run("get_weather", city=city)

    guard = world.guard(token=world.token('read:mcp/tools/get_weather where city == "Bern"'))
    with guard.activate():
        assert Desk().get_weather("Bern") == "get_weather done"
        assert functools.partial(Desk.get_weather, Desk())("Bern") == "get_weather done"
        plain: Any = inspect.unwrap(Desk.get_weather)
        assert guard.tool("get_weather")(functools.partial(plain, Desk()))("Bern") == "get_weather done"
        with pytest.raises(ToolDenied):
            Desk().get_weather("Rome")


def test_no_value_hides_another(world: World) -> None:
    """A keyword under the name of a positional-only parameter could be judged in its place."""

    @guarded()
    def pay(amount: int, /, **more: Any) -> str:
        return world.run("pay", amount=amount)

    with world.guard(token=world.token()).activate():
        assert pay(50) == "pay done"
        with pytest.raises(ToolDenied, match="not allowed"):
            pay(500, amount=50)

    assert world.ran == [("pay", {"amount": 50})]


def test_a_parameter_of_a_plain_function_is_judged_whatever_its_name(world: World) -> None:
    """Only a method has an object of its own as ``self`` or ``cls``."""

    @guarded()
    def pay(cls: int) -> str:
        return world.run("pay", cls=cls)

    with world.guard(token=world.token("write:mcp/tools/pay where cls <= 100")).activate():
        assert pay(50) == "pay done"
        with pytest.raises(ToolDenied):
            pay(500)


def test_a_generator_is_judged_when_its_body_runs(world: World) -> None:
    """Neither its arguments nor its token can change in between."""

    @guarded("pay")
    def paying(sums: dict[str, int]) -> Iterator[str]:
        yield world.run("pay", **sums)

    @guarded("pay")
    async def apaying(sums: dict[str, int]) -> AsyncIterator[str]:
        yield world.run("pay", **sums)

    async def collect(items: AsyncIterator[str]) -> list[str]:
        return [item async for item in items]

    collects: list[tuple[Any, Callable[[Any], list[str]]]] = [
        (paying, list),
        (apaying, lambda items: asyncio.run(collect(items))),
    ]
    with world.guard(token=world.token("write:mcp/tools/pay where sums.amount <= 100")).activate():
        for make, run in collects:
            assert run(make({"amount": 50})) == ["pay done"]
            sums = {"amount": 50}
            items = make(sums)
            sums["amount"] = 5_000
            with pytest.raises(ToolDenied, match="not allowed"):
                run(items)

    assert world.ran == [("pay", {"amount": 50})] * 2


def test_whatever_is_called_as_a_coroutine_is_judged_as_one(world: World) -> None:
    """An object, a partial or a static method that is awaited is judged when it runs."""

    class Pay:
        async def __call__(self, amount: int) -> str:
            return world.run("pay", amount=amount)

    async def pay(to: str, amount: int) -> str:
        return world.run("pay", to=to, amount=amount)

    guard = world.guard(token=world.token("write:mcp/tools/pay where amount <= 100 free to"))
    forms: list[Any] = [Pay(), functools.partial(pay, "a"), staticmethod(functools.partial(pay, "a"))]
    for form in forms:
        judged = guard.tool("pay")(form)
        assert inspect.iscoroutinefunction(judged)
        assert asyncio.run(judged(amount=50)) == "pay done"
        with pytest.raises(ToolDenied):
            asyncio.run(judged(amount=500))


@pytest.mark.parametrize("bound", [("a",), ("b",)])
@pytest.mark.parametrize("nested", [False, True])
def test_what_a_partial_function_has_already_is_judged(
    world: World, bound: tuple[str, ...], nested: bool
) -> None:
    """The tool is given it like the rest, by position or by name."""

    def pay(to: str, amount: int, /, note: str = "") -> str:
        return world.run("pay", to=to, amount=amount)

    scope = 'write:mcp/tools/pay where to == "a" and amount <= 100 and note == "n"'
    guard = world.guard(token=world.token(scope))
    form: Any = functools.partial(pay, *bound, note="n")
    judged = guard.tool("pay")(functools.partial(staticmethod(form), 5) if nested else form)

    def call() -> str:
        return str(judged() if nested else judged(5))

    if bound == ("a",):
        assert call() == "pay done"
    else:
        with pytest.raises(ToolDenied):
            call()
    assert len(world.ran) == (bound == ("a",))
