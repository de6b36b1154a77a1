"""Runs of a call under the id of one attempt: each is charged."""

from __future__ import annotations

from typing import Any

import pytest

from sessauth.guard import Guard, ToolDenied
from sessauth.guard.call import StartedCalls
from tests.guard.world import World

TWICE = "write:mcp/tools/pay where amount <= 100 needs uses(2)"


class _Interrupt(Exception):
    """A framework's way to call a tool again later."""


def _runs(guard: Guard, error: type[Exception] | None, count: int, **terms: Any) -> list[str]:
    """Run a call so often that ends by an error, and return what came of each."""

    def pay() -> str:
        if error is not None:
            raise error
        return "ran"

    outcomes = []
    for _ in range(count):
        try:
            outcomes.append(guard.run("pay", {"amount": 5}, pay, **terms))
        except (ToolDenied, ValueError, _Interrupt) as raised:
            outcomes.append(type(raised).__name__)
    return outcomes


@pytest.mark.parametrize(
    ("error", "permit_ms", "outcomes"),
    [
        (None, 0, ["ran", "ran", "ToolDenied"]),
        (None, 5_000, ["ran", "ran", "ToolDenied"]),
        (ValueError, 0, ["ValueError", "ValueError", "ToolDenied"]),
        (ValueError, 5_000, ["ValueError", "ValueError", "ToolDenied"]),
        (_Interrupt, 0, ["_Interrupt"] * 3),
        # A permit is used up when the tool starts, and pays for nothing more.
        (_Interrupt, 5_000, ["_Interrupt", "ToolDenied", "ToolDenied"]),
    ],
)
def test_each_run_under_one_id_is_charged(
    world: World, error: type[Exception] | None, permit_ms: int, outcomes: list[str]
) -> None:
    """The id protects a call until its tool starts. A framework's interrupt is no run."""
    guard = world.guard(token=world.token(TWICE), permit_ms=permit_ms)
    call_id = f"each run {error} {permit_ms}"

    assert _runs(guard, error, 3, call_id=call_id, interrupts=(_Interrupt,)) == outcomes


def test_two_attempts_that_are_charged_once_make_one_run(world: World) -> None:
    """Both were judged before either started."""
    guard = world.guard(token=world.token(TWICE))

    holds = [guard.hold("pay", {"amount": 5}, call_id="two attempts") for _ in range(2)]
    holds[0].commit()
    with pytest.raises(ToolDenied):
        holds[1].commit()
    assert world.denied[-1].reason == "USED"


def test_the_ids_of_started_calls_are_bounded() -> None:
    """The oldest is forgotten, and an empty one is none."""
    calls = StartedCalls(2)

    assert [calls.start(each) for each in (b"1", b"2", b"2", b"", b"", b"3")] == [1, 1, 0, 1, 1, 1]
    assert [each in calls for each in (b"1", b"2", b"3", b"")] == [False, True, True, False]
    calls.forget(b"2")
    assert calls.start(b"2")
