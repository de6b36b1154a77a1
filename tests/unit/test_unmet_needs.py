"""A warning where no call can meet the needs of a scope."""

from __future__ import annotations

import pytest

from sessauth.errors import ScopeError
from sessauth.scopes.containment import unmet_need
from sessauth.scopes.scope import Scope
from tests.support.memory_fixture import memory_fixture

NEVER = [
    "where count(amount) <= 3",
    "where each(amount) <= 3",
    "where amount subset_of [1, 2]",
    "where amount[] <= 3",
    "where amount[].value? <= 3",
    "where amount == [1, 2]",
    "where amount == null",
    'where amount in ["1", "2"]',
    "where amount absent",
    "where amount.value == 1",
    "where amount < 0",
    "where no arguments",
    "where x == 1",
    "free x",
]
PAYABLE = [
    "",
    "free *",
    "free amount",
    "where amount <= 3",
    "where amount? <= 3",
    "where amount in [1, 2]",
    "where amount != null",
    "where x == 1 free *",
    "where tags[] == 1 free amount",
    "where amount == session.level",
]


def scope(tail: str) -> Scope:
    """Return a scope with a budget over `amount`."""
    return Scope.parse(f'pay:x {tail} needs budget("b", 10, amount)'.replace("  ", " "))


@pytest.mark.parametrize("tail", NEVER)
def test_a_budget_that_no_call_can_pay(tail: str) -> None:
    """The warning names the argument, and minting and attenuating give it."""
    memory = memory_fixture()
    token = memory.mint("*:**", ending="open")

    assert "argument `amount` is never a number" in unmet_need(scope(tail))
    assert ["amount" in text for text in memory.mint(scope(tail)).warnings] == [True]
    assert any("never a number" in text for text in token.attenuate(scopes=[scope(tail)]).warnings)


@pytest.mark.parametrize("tail", PAYABLE)
def test_a_budget_that_some_call_may_pay(tail: str) -> None:
    """There is no warning where a call with a number may match."""
    assert unmet_need(scope(tail)) == ""
    assert memory_fixture().mint(scope(tail)).warnings == ()


def test_elements_are_no_amount() -> None:
    """A budget over each element of a list is refused where it is written."""
    with pytest.raises(
        ScopeError, match="budget: the amount is one argument, no fact and no elements of a list"
    ):
        Scope.parse('pay:x needs budget("b", 10, amounts[].value)')
