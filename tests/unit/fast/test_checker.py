"""The check's surface: what an outcome tells, what a caller's mistake raises, and that nothing else does."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sessauth._fast._check import Checker, View
from sessauth.decisions.decision import Decision, Denied
from sessauth.reasons import Reason, Stage
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.support.state_fixture import StateFixture
from tests.vectors.world import AUDIENCE, EXPIRES, NOW, SESSION, child, root, token

READ = "read:files/**"
VALID = token(root("write:x", READ), child("*:**"))


def test_what_an_allow_tells() -> None:
    """An allow names session, epoch, blocks, matched scope, revision and the earliest end."""
    outcome = bulk_sessions.judge(
        bulk_sessions.checker(), token(root("write:x", READ), child(expires_at_ms=EXPIRES - 9))
    )

    assert outcome.allowed
    assert (outcome.reason, outcome.stage, outcome.level) == (Reason.ALLOWED, Stage.NONE, 0)
    assert (outcome.index, outcome.scope, outcome.clause, outcome.argument) == (-1, -1, -1, "")
    assert (outcome.matched_index, outcome.matched_scope) == (0, 1)
    assert (outcome.session_id, outcome.epoch, outcome.revision) == (SESSION, 1, 100)
    assert (outcome.expires_at_ms, outcome.checked_at_ms, outcome.view_age_ms) == (EXPIRES - 9, NOW, 0)
    assert len(outcome.block_ids) == 2
    assert outcome.fault is None


def test_what_a_denial_tells() -> None:
    """Only with a valid signature does a decision disclose the token's ids."""
    checker = bulk_sessions.checker()
    wrong = VALID[:-1] + bytes([VALID[-1] ^ 1])
    for chain, named in ((b"", False), (wrong, False), (token(root("read:none")), True)):
        outcome = bulk_sessions.judge(checker, chain)
        assert not outcome
        assert (outcome.session_id == SESSION) is bool(outcome.block_ids) is named
        assert (outcome.expires_at_ms, outcome.matched_index, outcome.matched_scope) == (0, -1, -1)


def test_decision_ids_are_of_one_decision() -> None:
    """16 bytes that no other decision has, of this checker or another, of any thread."""
    checkers = [bulk_sessions.checker(), bulk_sessions.checker()]
    seen: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda c=c: seen.extend([bulk_sessions.judge(c, VALID).decision_id for _ in range(500)])
        )
        for c in checkers * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen.append(checkers[0].refuse(Stage.SCOPE, Reason.UNKNOWN_TOOL).decision_id)

    assert len(seen) == len(set(seen)) == 2001
    assert {len(decision_id) for decision_id in seen} == {16}


@pytest.mark.parametrize("reason", [Reason.UNSPECIFIED, Reason.ALLOWED])
def test_a_refusal_can_not_allow(reason: Reason) -> None:
    """``refuse`` returns denials only."""
    with pytest.raises(ValueError, match="reason"):
        bulk_sessions.checker().refuse(Stage.NONE, reason)


def test_an_outcome_can_not_be_made_to_allow() -> None:
    """Outcomes are made by checks alone: an empty one is a denial, and none can be changed."""
    assert not Decision()
    outcome = bulk_sessions.judge(bulk_sessions.checker(), b"")
    with pytest.raises(AttributeError):
        outcome.allowed = True  # type: ignore[misc]
    with pytest.raises(TypeError):
        Checker(View(bulk_sessions.source()), decision_type=dict)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "arguments",
    [
        (None, "read", "a"),
        (bytearray(VALID), "read", "a"),
        (VALID, None, "a"),
        (VALID, "read", 1),
        (VALID, "read", ["a"]),
        (VALID, "read", "a", []),
        (VALID, "read", "a", None),
    ],
)
def test_a_callers_mistake(state: StateFixture, arguments: tuple[object, ...]) -> None:
    """Arguments of another type raise TypeError, in the kernel and in the verifier."""
    with pytest.raises(TypeError):
        bulk_sessions.checker().check(*arguments)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        state.verifier.check(*arguments)  # type: ignore[call-arg]


@pytest.fixture
def state(tmp_path: Path) -> object:
    """A state folder of the test's own."""
    made = StateFixture(tmp_path / "state")
    yield made
    made.close()


def test_a_token_in_each_form(state: StateFixture) -> None:
    """Bytes, text, text as bytes and Token are the same token; anything around the text is not."""
    text = Token.parse(VALID).text
    for form in (VALID, text, text.encode(), Token.parse(VALID)):
        assert state.reason(form) is Reason.ALLOWED
    for form in (
        f" {text}",
        f"{text}\n",
        f"Bearer {text}",
        text.upper(),
        text[:-1],
        text.replace("_", "-"),
        "",
        text * 2,
    ):
        assert state.reason(form) is state.reason(form.encode()) is Reason.MALFORMED_TOKEN


def test_a_decision_that_is_raised(state: StateFixture) -> None:
    """A denial raises Denied with itself; an allow raises nothing."""
    denied = state.check(token(root("read:none")))
    with pytest.raises(Denied, match="OUT_OF_SCOPE at stage scope") as raised:
        denied.raise_if_denied()
    assert raised.value.decision is denied
    allowed = state.check(VALID)
    allowed.raise_if_denied()
    assert isinstance(allowed, Decision)


def test_a_verifier_on_a_folder(tmp_path: Path) -> None:
    """An embedded verifier reads what the writer made; closed, it denies and does not crash."""
    StateFixture(tmp_path / "state").close()
    with Verifier.embedded(tmp_path / "state", audience=AUDIENCE) as verifier:
        assert verifier._check(VALID, "read", "files/a", now_ms=NOW).allowed
        assert verifier.cached_chains == 1
        assert verifier.cached_bytes > len(VALID)
    for _ in range(3):
        after = verifier._check(VALID, "read", "files/a", now_ms=NOW)
        assert (after.allowed, after.reason) == (False, Reason.INTERNAL_ERROR)
    verifier.close()
