"""Watched tools: they stop when their permission ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from sessauth.client import AsyncClient
from sessauth.guard import Guard, ToolDenied, withdrawn
from sessauth.reasons import Reason
from tests.guard.world import SERVER, World

CITY = {"city": "Bern"}


def _end(world: World, token: Any) -> None:
    world.end(token)


def _suspend(world: World, token: Any) -> None:
    world.server.operator.suspend(token.session_id)


def _narrow(world: World, token: Any) -> None:
    world.server.operator.narrow(token.session_id, [f"write:mcp/{SERVER}/**"])


def _revoke(world: World, token: Any) -> None:
    world.server.operator.revoke(token.session_id, [token.block_ids[0]], "test")


ENDINGS = pytest.mark.parametrize("withdraw", [_end, _suspend, _narrow, _revoke])


async def _cancelled(guard: Guard, withdraw: Callable[[], None]) -> bool:
    """Run a tool that would never return, and withdraw its permission; returns True if it was cancelled."""
    began, cancelled = asyncio.Event(), False

    async def tool() -> None:
        nonlocal cancelled
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    task = asyncio.create_task(guard.arun("get_weather", CITY, tool))
    await began.wait()
    # It stays while nothing changes.
    await asyncio.sleep(0.1)
    assert not task.done()
    await asyncio.to_thread(withdraw)
    with pytest.raises(ToolDenied) as caught:
        await task
    assert caught.value.reason == "WITHDRAWN"
    return cancelled


@ENDINGS
def test_a_coroutine_is_cancelled(world: World, withdraw: Callable[[World, Any], None]) -> None:
    """Its session ends, is suspended or narrowed, or its token is revoked."""
    token = world.token()
    guard = world.guard(token=token, watch=True)

    assert asyncio.run(_cancelled(guard, lambda: withdraw(world, token)))


def test_the_same_by_a_servers_answers(world: World) -> None:
    """A guard over an AsyncClient asks the server."""
    token = world.token()

    async def main() -> bool:
        target = str(world.server.made.socket)
        async with AsyncClient(target, credential_file=world.credential_file()) as client:
            return await _cancelled(
                world.guard(token=token, verifier=client, watch=True), lambda: world.end(token)
            )

    assert asyncio.run(main())


@ENDINGS
def test_a_blocking_tool_can_ask(world: World, withdraw: Callable[[World, Any], None]) -> None:
    """A thread can't be stopped: the tool asks, and its result is not given out."""
    token = world.token()
    guard = world.guard(token=token, watch=True)
    ended = threading.Event()

    def tool() -> str:
        assert not withdrawn()
        withdraw(world, token)
        for _ in range(500):
            if withdrawn():
                ended.set()
                break
            ended.wait(0.01)
        return "a secret"

    with pytest.raises(ToolDenied) as caught:
        guard.run("get_weather", CITY, tool)

    assert ended.is_set()
    assert caught.value.reason == "WITHDRAWN"
    assert not withdrawn()


def test_a_tool_that_ends_gives_its_result(world: World) -> None:
    """A result, and an exception of the tool's own, come through; the watch ends with it."""
    guard = world.guard(token=world.token(), watch=True)
    before = threading.active_count()

    async def tool() -> str:
        await asyncio.sleep(0.05)
        return "done"

    async def fails() -> None:
        raise KeyError("the tool's own")

    assert asyncio.run(guard.arun("get_weather", CITY, tool)) == "done"
    assert guard.run("get_weather", CITY, lambda: "done") == "done"
    with pytest.raises(KeyError):
        asyncio.run(guard.arun("get_weather", CITY, fails))
    with pytest.raises(KeyError):
        guard.run("get_weather", CITY, lambda: {}["nothing"])

    assert threading.active_count() <= before


def test_a_watch_charges_nothing(world: World) -> None:
    """A call that costs a use is surveyed many times, and costs one."""
    guard = world.guard(token=world.token(f"read:mcp/{SERVER}/get_weather needs uses(2)"), watch=True)

    async def tool() -> str:
        await asyncio.sleep(0.2)
        return "done"

    for _ in range(2):
        assert asyncio.run(guard.arun("get_weather", CITY, tool)) == "done"
    with pytest.raises(ToolDenied) as caught:
        asyncio.run(guard.arun("get_weather", CITY, tool))
    assert caught.value.decision is not None
    assert caught.value.decision.reason is Reason.USES_EXHAUSTED


def test_the_caller_that_is_cancelled_takes_the_tool_with_it(world: World) -> None:
    """Cancelling ``arun`` cancels the tool, and no task is left."""
    guard = world.guard(token=world.token(), watch=True)

    async def main() -> int:
        task = asyncio.create_task(guard.arun("get_weather", CITY, asyncio.Event().wait))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1


def test_a_guard_that_observes_stops_nothing(world: World) -> None:
    """The tool goes on after the end."""
    token = world.token()
    guard = world.guard(token=token, watch=True, mode="observe")

    def tool() -> str:
        world.end(token)
        threading.Event().wait(0.1)
        return "done"

    assert guard.run("get_weather", CITY, tool) == "done"


def test_a_survey_that_gives_nothing_ends_the_call(world: World) -> None:
    """A blocking tool does not go on unwatched."""

    class Empty:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.server.verifier, name)

        def list_allowed(self, *_: object, **__: object) -> list[object]:
            return []

    guard = world.guard(token=world.token(), verifier=Empty(), watch=True)
    with pytest.raises(ToolDenied) as caught:
        guard.run("get_weather", CITY, lambda: threading.Event().wait(1))

    assert caught.value.reason == "WITHDRAWN"


@ENDINGS
@pytest.mark.parametrize("awaited", [False, True])
def test_a_generator_stops_at_its_next_item(world: World, withdraw: Any, awaited: bool) -> None:
    """Its body does not run on, and is closed."""
    token = world.token()
    guard = world.guard(token=token, watch=True)
    ticks: list[Any] = []

    @guard.tool("get_weather")
    def ticking(city: str) -> Iterator[int]:
        try:
            for tick in range(8):
                ticks.append(tick)
                yield tick
        finally:
            ticks.append("closed")

    @guard.tool("get_weather")
    async def aticking(city: str) -> AsyncIterator[int]:
        try:
            for tick in range(8):
                ticks.append(tick)
                yield tick
        finally:
            ticks.append("closed")

    async def use() -> None:
        async for tick in aticking("Bern"):
            if tick == 1:
                await asyncio.to_thread(withdraw, world, token)

    def use_blocking() -> None:
        for tick in ticking("Bern"):
            if tick == 1:
                withdraw(world, token)

    with pytest.raises(ToolDenied) as caught:
        asyncio.run(use()) if awaited else use_blocking()

    assert caught.value.reason == "WITHDRAWN"
    assert ticks == [0, 1, "closed"]


def test_an_item_that_is_too_late_is_not_given_out(world: World) -> None:
    """The permission ended while the generator made it."""
    token = world.token()
    guard = world.guard(token=token, watch=True)

    @guard.tool("get_weather")
    def ticking(city: str) -> Iterator[str]:
        yield "before"
        world.end(token)
        yield "too late"

    items = ticking("Bern")

    assert next(items) == "before"
    with pytest.raises(ToolDenied, match="no valid token"):
        next(items)


def test_a_watched_generator_is_sent_values_and_returns_one(world: World) -> None:
    """It does the same without the watch."""
    guard = world.guard(token=world.token(), watch=True)

    @guard.tool("get_weather")
    def adding(city: str) -> Generator[str, str, str]:
        return "returned " + (yield "first")

    items = adding("Bern")

    assert next(items) == "first"
    with pytest.raises(StopIteration) as caught:
        items.send("sent")
    assert caught.value.value == "returned sent"
