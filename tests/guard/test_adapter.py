"""Parts that the adapters share: whose guard judges a call, ids of repeated calls, values as JSON."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sessauth.guard import Guard, ToolDenied
from sessauth.guard.agents.adapter import attempt_id, choose, jsonable
from tests.guard.world import World


def test_a_guard_is_given_found_or_active(world: World) -> None:
    """A guard, a function of the framework's context, or the active guard."""
    guard = world.guard()

    assert choose(guard, None) is guard
    assert choose(lambda context: context["guard"], {"guard": guard}) is guard
    with guard.activate():
        assert choose(None, None) is guard


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        (None, "NO_GUARD"),
        (lambda _: None, "NO_GUARD"),
        (lambda _: "a guard", "NO_GUARD"),
        (lambda context: context.guard, "NO_ANSWER"),
    ],
)
def test_without_a_guard_a_call_is_denied(caplog: pytest.LogCaptureFixture, choice: Any, reason: str) -> None:
    """There is none, or the function fails. The operator has it in the log."""
    with caplog.at_level(logging.WARNING, "sessauth.guard"), pytest.raises(ToolDenied) as caught:
        choose(choice, None, "pay")

    assert caught.value.reason == reason
    assert f"tool 'pay', reason {reason}" in caplog.text


def test_a_call_is_charged_once_within_one_attempt_only() -> None:
    """Its id is the model's; the attempt's is the framework's."""
    assert attempt_id("1", "a", ["a"]) == attempt_id("1", "a", ["a", "b"])
    assert len({attempt_id(step, call, [call]) for step, call in (("1", "a"), ("2", "a"), ("1", "b"))}) == 3
    # No id of a call makes it one of another attempt.
    assert attempt_id("run/1", "2/a", ["2/a"]) != attempt_id("run/1/2", "a", ["a"])


@pytest.mark.parametrize(
    ("attempt", "call_id", "siblings"),
    [("", "a", ["a"]), ("1", None, [None]), ("1", "", [""]), ("1", "a", ["a", "a"]), ("1", "a", ["b"])],
)
def test_a_call_without_an_id_of_its_own_is_charged_each_time(
    attempt: str, call_id: str | None, siblings: list[str | None]
) -> None:
    """Nobody knows the attempt or its calls, or two calls share the id."""
    assert attempt_id(attempt, call_id, siblings) == ""


def test_values_without_a_json_form_are_refused(world: World) -> None:
    """Those that pydantic has none for reach the guard as they are."""
    pytest.importorskip("pydantic_core", reason="values are read where pydantic is installed")
    guard: Guard = world.guard(token=world.token())
    for value in (object(), b"\xff", float("nan"), {1: object()}):
        with pytest.raises(ToolDenied) as caught:
            guard.check("get_weather", jsonable({"city": value}))
        assert caught.value.reason == "BAD_CALL"
