"""Words of a refusal: what an agent is told by the operator's choice, and what a developer finds."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import pytest

from sessauth import UsageError
from sessauth.guard import Guard, ToolDenied, guarded
from tests.guard.world import World

PAY = "write:mcp/tools/pay where amount <= 100"


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize(
    ("explain", "told"),
    [
        ("answer", "not allowed"),
        ("decision", "not allowed (decision ID)"),
        ("scope", "not allowed (decision ID): CONDITION_FAILED: block 0, scope 0 `" + PAY),
    ],
)
def test_an_agent_is_told_as_much_as_the_operator_chose(
    world: World, remote: bool, explain: Any, told: str
) -> None:
    """One sentence, the id of the decision, or what its own token permits."""
    verifier = world.server.control if remote else None
    guard = world.guard(token=world.token(PAY), explain=explain, verifier=verifier)

    with pytest.raises(ToolDenied) as caught:
        guard.check("pay", {"amount": 500})

    shown = str(caught.value).replace(caught.value.decision_id.hex(), "ID")
    assert shown == told if explain != "scope" else shown.startswith(told)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("remote", [False, True])
def test_a_ceiling_is_never_told(world: World, remote: bool) -> None:
    """It is not the token's, and its holder can't read it."""
    session = world.session(ceiling=[PAY])
    token = world.token(PAY, session=session)
    world.server.operator.narrow(session.id, ["write:mcp/tools/pay where amount <= 7"])
    guard = world.guard(token=token, explain="scope", verifier=world.server.control if remote else None)

    with pytest.raises(ToolDenied) as caught:
        guard.check("pay", {"amount": 50})

    assert str(caught.value) == f"not allowed (decision {caught.value.decision_id.hex()})"


def test_another_word_is_named(world: World) -> None:
    """The setting stands in the error."""
    with pytest.raises(UsageError, match="explain"):
        world.guard(explain="everything")


def test_a_forgotten_guard_is_named_for_the_developer() -> None:
    """It never gets better, so no agent is told to try again."""

    @guarded()
    def pay(amount: int) -> None:
        pytest.fail("it ran")

    with pytest.raises(ToolDenied) as caught:
        pay(5)

    assert str(caught.value) == "not allowed"
    assert caught.value.__notes__ == ["no guard is active here: pass one, or call within guard.activate()"]


def test_hidden_tools_are_named_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The line has the cause; other hidden tools have another line."""
    guard: Guard = world.guard(token=world.token())
    names = ["pay", "delete_repo", "drop_tables\n", "x" * 1_000]

    with caplog.at_level(logging.INFO, "sessauth.guard"):
        guard.visible(["pay"])
        assert caplog.messages == []
        for _ in range(2):
            guard.visible(names)
        guard.visible(["delete_repo"])

    assert [line[:90] for line in caplog.messages] == [
        "hidden tools: never in scope: 'delete_repo'; not in the catalogue: 'drop_tables\\n', 'xxxxx",
        "hidden tools: never in scope: 'delete_repo'; not in the catalogue: none",
    ]
    assert len(caplog.text) < 1_000
