"""Decisions that are pickled, copied, sent to another process: they say what they said, and no more."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessauth.client import RemoteDecision
from sessauth.decisions.decision import Decision, Denied, restore
from sessauth.reasons import Level, Reason, Stage
from sessauth.tokens.token import Token
from tests.support.memory_fixture import MemoryFixture, memory_fixture

WORLD = memory_fixture()
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
# A call with the token below.
CALLS = [
    ("read", "files/a", b'{"owner":"acme"}'),
    ("read", "files/a", b'{"owner":"me"}'),
    ("write", "files/a", b""),
    ("read", "files/a", b"{"),
]
ALLOWED, REASON = 0, 1


def token_of(memory: MemoryFixture) -> Token:
    """A token of two blocks."""
    open_token = memory.mint('read:files/* where owner == "acme"', ending="open", label="planner")
    return open_token.attenuate(label="helper").present()


TOKEN = token_of(WORLD)


def facts_of(decision: Decision) -> tuple[Any, ...]:
    """Return the facts that a decision is pickled as."""
    facts: tuple[Any, ...] = decision.__reduce__()[1][0]  # type: ignore[index]
    return facts


def decisions() -> list[Decision]:
    """An allow, and denials of several kinds, one without a session."""
    made = [WORLD.check(TOKEN, *call) for call in CALLS]
    return [*made, WORLD.checker.check(b"none", "read", "files/a"), WORLD.checker.refuse(8, 84, "name")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickled_decision_says_the_same(protocol: int) -> None:
    """Read again it is equal, as true as before, and gives the same values and explanations."""
    made = decisions()
    assert [bool(decision) for decision in made] == [True, False, False, False, False, False]
    for decision in made:
        read = pickle.loads(pickle.dumps(decision, protocol))
        assert read == decision and hash(read) == hash(decision) and isinstance(read, Decision)
        assert bool(read) is bool(decision) is read.allowed
        assert read.to_dict() == decision.to_dict() and read.checked_at_ms == decision.checked_at_ms
        token = TOKEN if decision.block_ids else None
        assert read.explain(token) == decision.explain(token)
        assert read.reason is decision.reason and read.stage is decision.stage
        assert pickle.loads(pickle.dumps(read, protocol)) == decision


def test_a_copied_decision_is_itself() -> None:
    """Nothing in it changes, so that a copy, shallow or deep, is the same object."""
    for decision in decisions():
        assert copy.copy(decision) is decision and copy.deepcopy([decision])[0] is decision


def test_decisions_of_two_calls_differ() -> None:
    """Two answers to one question are two decisions, each with an id of its own."""
    first, second = (WORLD.check(TOKEN, *CALLS[0]) for _ in range(2))
    assert first != second and first != "ALLOWED"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_denied_is_pickled_with_its_decision(protocol: int) -> None:
    """The exception of a denial comes out of a pickle, and out of a copy, with message and decision."""
    for decision in decisions()[1:]:
        with pytest.raises(Denied) as caught:
            decision.raise_if_denied()
        for read in (pickle.loads(pickle.dumps(caught.value, protocol)), copy.deepcopy(caught.value)):
            assert type(read) is Denied and str(read) == str(caught.value)
            assert read.decision == decision and not read.decision


def test_a_servers_decision_is_pickled_as_well() -> None:
    """A decision that a server answered has the same properties."""
    answered = RemoteDecision(
        False, Reason.REVOKED, Stage.REVOCATION, Level.BLOCK, 1, -1, -1, "", -1, -1,
        b"s" * 16, 1, (b"b" * 32,), 7, 0, 0, b"d" * 16,
    )  # fmt: skip
    assert pickle.loads(pickle.dumps(answered)) == copy.deepcopy(answered) == answered
    assert pickle.loads(pickle.dumps(Denied(answered))).decision == answered


def test_a_process_that_judges_sends_decisions_to_one_that_does_not() -> None:
    """A new process, which loaded nothing of this package, reads them off a queue."""
    words = ["allowed", *(str(decision.reason) for decision in decisions()[1:])]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        told = pool.map(str, decisions())
    assert [word in text for word, text in zip(words, told, strict=True)] == [True] * 6


@pytest.mark.parametrize("place", range(len(facts_of(WORLD.check(TOKEN, *CALLS[0])))))
@given(data=st.data())
def test_no_change_of_one_fact_makes_a_denial_an_allow(place: int, data: st.DataObject) -> None:
    """Any value in one place of a denial's facts gives a false decision, or none."""
    values: st.SearchStrategy[Any] = st.one_of(
        st.integers(-(2**65), 2**65), st.booleans(), st.binary(max_size=40), st.none(), st.text(max_size=4),
        st.just(b"i" * 16), st.just((b"i" * 32,)), st.just(1), st.floats(), st.lists(st.integers(0, 2)),
    )  # fmt: skip
    for denial in decisions()[1:]:
        facts = list(facts_of(denial))
        facts[place] = data.draw(values)
        try:
            read = restore(tuple(facts))
        except (ValueError, TypeError, OverflowError):
            continue
        assert not read and read.allowed is False and read.reason is not Reason.ALLOWED


@given(allowed=st.sampled_from([True, 1, "yes", False]), reason=st.integers(-1, 110))
def test_an_allow_says_so_twice(allowed: object, reason: int) -> None:
    """Only the flag True with the reason ALLOWED, on the facts of a whole allow, is true again."""
    facts = list(facts_of(WORLD.check(TOKEN, *CALLS[0])))
    facts[ALLOWED], facts[REASON] = allowed, reason
    try:
        read = restore(tuple(facts))
    except ValueError:
        assert not (allowed is True and reason == Reason.ALLOWED)
    else:
        assert bool(read) is (allowed is True and reason == Reason.ALLOWED)


@pytest.mark.parametrize("facts", [(), (True, 1), (True, 1, *[0] * 15), None])
def test_what_is_no_decision_is_refused(facts: Any) -> None:
    """Fewer facts than a decision has, or others, make none."""
    with pytest.raises((ValueError, TypeError)):
        restore(facts)


def test_nothing_changes_a_decision_that_is_there() -> None:
    """It takes no state from a pickle, has no attribute to set, and one made of nothing is false."""
    allow, denial = decisions()[:2]
    assert not Decision.__new__(Decision) and not Decision.__new__(Decision).allowed
    for made in (denial, pickle.loads(pickle.dumps(denial))):
        with pytest.raises((AttributeError, TypeError)):
            made.allowed = True
        for name in ("__setstate__", "__setstate_cython__"):
            with pytest.raises((AttributeError, TypeError, NotImplementedError)):
                getattr(made, name)(facts_of(allow))
        assert not made
