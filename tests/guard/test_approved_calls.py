"""Calls that a person must approve: the callback of a guard, and what it may answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.decisions.outward import Outward
from sessauth.guard import Guard, ToolDenied
from tests.guard.world import World

PAY = "write:mcp/tools/pay where amount <= 100"


class _Person:
    """A person who approves, at the server or by a statement that comes back."""

    def __init__(self, world: World) -> None:
        self.key = ApproverKey.generate()
        self.client = world.server.operator
        self.asked: list[Any] = []

    @property
    def scope(self) -> str:
        """A scope whose calls this person must approve."""
        return f'{PAY} needs approval(1, "{self.key.text}")'

    def grant(self, request: Any) -> bool:
        """Sign at the server."""
        self.asked.append(request)
        self.client.grant_approval(request, Approver(self.key))
        return True

    def sign(self, request: Any) -> Any:
        """Sign here."""
        self.asked.append(request)
        return Approver(self.key).grant(request)


def approvals(world: World, approve: Callable[[_Person], Any]) -> tuple[Guard, _Person]:
    """Return a guard whose calls a person must approve, and the person."""
    person = _Person(world)
    return world.guard(token=world.token(person.scope), approve=approve(person)), person


@pytest.mark.parametrize("way", ["grant", "sign"])
def test_an_approved_call_runs(world: World, way: str) -> None:
    """The callback has a person approve, at the server or by a statement, and the call is judged again."""
    guard, person = approvals(world, lambda person: getattr(person, way))

    assert guard.run("pay", {"amount": 5}, lambda: world.run("pay")) == "pay done"
    assert [request.record.arguments for request in person.asked] == [b'{"amount":5}']


@pytest.mark.parametrize("answer", [False, None, 0, ""])
def test_what_is_not_approved_does_not_run(world: World, answer: object) -> None:
    """Without a yes the call waits, which the agent is told."""
    guard, _ = approvals(world, lambda _: lambda _request: answer)

    with pytest.raises(ToolDenied, match="waits for a person's approval") as caught:
        guard.run("pay", {"amount": 5}, lambda: world.run("pay"))

    assert (caught.value.outward, world.ran) == (Outward.APPROVAL, [])


def test_a_yes_that_nobody_signed_is_none(world: World) -> None:
    """The callback's word alone approves nothing."""
    guard, _ = approvals(world, lambda _: lambda _request: True)

    with pytest.raises(ToolDenied, match="waits for a person's approval"):
        guard.run("pay", {"amount": 5}, lambda: world.run("pay"))


def test_an_interrupt_of_the_framework_passes_through(world: World) -> None:
    """The callback's own exception is not ours to change."""

    class Interrupt(Exception):
        pass

    def approve(_request: object) -> None:
        raise Interrupt

    guard, _ = approvals(world, lambda _: approve)
    with pytest.raises(Interrupt):
        guard.run("pay", {"amount": 5}, lambda: world.run("pay"))

    assert world.ran == []


def test_a_callback_may_be_awaited(world: World) -> None:
    """A coroutine function waits for the person without stopping the loop."""

    async def main() -> str:
        guard, _ = approvals(world, lambda person: _awaited(person.grant))

        async def pay() -> str:
            return world.run("pay")

        return await guard.arun("pay", {"amount": 5}, pay)

    assert asyncio.run(main()) == "pay done"


def _awaited(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def call(value: Any) -> Any:
        await asyncio.sleep(0)
        return function(value)

    return call


def test_a_person_who_takes_long_holds_up_no_other_call(world: World) -> None:
    """A callback that blocks has a thread of its own, also where the loop has one only."""
    answered = threading.Event()

    def wait(_: object) -> bool:
        return answered.wait(20)

    async def main() -> None:
        with ThreadPoolExecutor(1) as few:
            asyncio.get_running_loop().set_default_executor(few)
            guard, _ = approvals(world, lambda _: wait)
            waiting = asyncio.create_task(guard.acheck("pay", {"amount": 5}))
            await asyncio.sleep(0.2)
            async with asyncio.timeout(5):
                await world.guard(token=world.token(f"{PAY} needs uses(1)")).acheck("pay", {"amount": 5})
            assert not waiting.done()
            answered.set()
            with pytest.raises(ToolDenied, match="waits"):
                await waiting

    try:
        asyncio.run(main())
    finally:
        answered.set()
