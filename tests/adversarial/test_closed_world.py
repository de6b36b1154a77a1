"""Arguments that hide behind others: what a condition named is marked, and nothing else is passed over."""

from __future__ import annotations

import json

import pytest

from sessauth._fast._check import Checker
from tests.oracle.check import check as oracle_check
from tests.oracle.constants import Reason
from tests.oracle.model import OracleDecision
from tests.support import bulk_sessions
from tests.support.compare import kernel_decision
from tests.support.vector_files import read_view
from tests.vectors.world import NOW, VIEWS, ask, root, token

VIEW = read_view(VIEWS["plain"])[0]
# The marks are of the first so many values of a document.
MARKED = 64
LEFT_OVER = (Reason.CONDITION_FAILED, -1)


@pytest.fixture(scope="module")
def checker() -> Checker:
    """A checker that all tests share."""
    return bulk_sessions.checker()


def judged(checker: Checker, scopes: list[str], arguments: dict[str, object]) -> OracleDecision:
    """The kernel's decision, after holding that the oracle decides the same."""
    chain, request = token(root(*scopes)), ask(arguments=json.dumps(arguments))
    found = kernel_decision(checker, chain, request, NOW)
    assert found == oracle_check(chain, request, VIEW, NOW)
    return found


@pytest.mark.parametrize("place", [1, 2, 62, 63, 64, 65, 126, 127, 128, 129, 200])
def test_a_stranger_at_any_distance_is_left_over(checker: Checker, place: int) -> None:
    """Also where its number, cut to the bits of the marks, is that of an argument which is named."""
    scopes = ["read:files/* where a == 1 and z < 9 free list"]
    # The list is value 2 and its elements are the next, so that what follows is value `place`.
    filler: dict[str, object] = {"list": [0] * (place - 3)} if place >= 3 else {}
    named: dict[str, object] = {"a": 1, **filler}

    assert judged(checker, scopes, {**named, "z": 2}).allowed
    found = judged(checker, scopes, {**named, "stranger": 1, "z": 2})
    assert (found.reason, found.clause, found.argument) == (*LEFT_OVER, "stranger")


@pytest.mark.parametrize("distance", [MARKED - 2, MARKED - 1, MARKED, MARKED + 1])
def test_what_is_named_far_away_is_covered(checker: Checker, distance: int) -> None:
    """Past the marks a name is looked for as any other."""
    scopes = ['read:files/* where list subset_of [0] and z in ["y", "x"]']

    assert judged(checker, scopes, {"list": [0] * (distance - 2), "z": "x"}).allowed
    assert not judged(checker, scopes, {"list": [0] * (distance - 2), "z": "x", "w": "x"}).allowed


def test_what_one_scope_names_another_does_not(checker: Checker) -> None:
    """The first scope names `b` and fails; the second must not find it named."""
    scopes = ["read:files/* where b == 1 and a == 2", "read:files/* where a == 1"]

    found = judged(checker, scopes, {"a": 1, "b": 1})
    assert (found.reason, found.scope, found.clause, found.argument) == (Reason.CONDITION_FAILED, 1, -1, "b")
    assert judged(checker, scopes, {"a": 1}).allowed
    later = judged(checker, ["read:files/* where b == 1 and a == 1", scopes[1]], {"a": 1, "b": 2})
    assert not later.allowed


@pytest.mark.parametrize("inner", ["a", "b", "stranger"])
def test_a_name_further_down_is_another_one(checker: Checker, inner: str) -> None:
    """`a` named at the top says nothing of an `a` inside another argument."""
    scopes = ["read:files/* where a == 1 and o.b == 2"]

    assert judged(checker, scopes, {"a": 1, "o": {"b": 2}}).allowed
    found = judged(checker, scopes, {"a": 1, "o": {"b": 2, inner + "x": 1}})
    assert (found.reason, found.clause, found.argument) == (*LEFT_OVER, f"o.{inner}x")
    assert judged(checker, scopes, {"a": 1, "o": {"b": 2}, "a2": 1}).argument == "a2"


def test_what_is_optional_names_only_what_is_there(checker: Checker) -> None:
    """A condition that holds since its argument is missing marks nothing."""
    scopes = ["read:files/* where b? == 1 and a == 1"]

    assert judged(checker, scopes, {"a": 1}).allowed
    assert judged(checker, scopes, {"a": 1, "b": 1}).allowed
    assert judged(checker, scopes, {"a": 1, "c": 1}).argument == "c"
