"""Replay of calls that observe mode alone allowed: the recorded refusal can have been, or is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessauth.audit.replay import Standing, replay
from sessauth.model.change import narrow_session
from tests.support.replay_script import OTHER, Script, changed, scopes
from tests.vectors.world import NOW, ask, root, token

CEILING = 'read:gated/* where owner == "acme" free *'
TOKEN = token(root("read:** free *", root_fields={"session_id": OTHER}))
INSIDE = ask(action=b"read", resource=b"gated/a", arguments=b'{"owner":"acme"}')
OUTSIDE = ask(action=b"read", resource=b"mail/a", arguments=b'{"owner":"acme"}')
FAILED = ask(action=b"read", resource=b"gated/a", arguments=b'{"owner":"x"}')


def at(level: str, index: int, scope: int = -1, clause: int = -1, argument: str = "") -> dict[str, Any]:
    """Return a position as a record has it."""
    return {"level": level, "index": index, "scope": scope, "clause": clause, "argument": argument}


NOWHERE = {"at": None}
OF_CONDITION = {"at": at("CEILING", 0, 0, 0, "owner")}


@pytest.fixture
def observed(script: Script, folder: Path) -> Script:
    """A script with a session in observe mode."""
    script.open(OTHER, ceiling=CEILING, observe=True)
    return script


def test_honest_records_are_not_found(observed: Script, folder: Path) -> None:
    """Inside, outside, and with a condition that fails: without the arguments too."""
    for call in (INSIDE, OUTSIDE, FAILED):
        assert observed.check(TOKEN, call)
    observed.close()

    report = replay(folder)
    assert report.findings == []
    assert report.standings[Standing.CONFIRMED] == 3


@pytest.mark.parametrize(
    ("call", "edit"),
    [
        (OUTSIDE, NOWHERE),
        (OUTSIDE, OF_CONDITION),
        (OUTSIDE, {"at": at("CEILING", 1)}),
        (OUTSIDE, {"at": at("BLOCK", 0)}),
        (FAILED, {"at": at("CEILING", 0)}),
        (FAILED, {"at": at("CEILING", 0, 0, 1, "owner")}),
        (FAILED, {"at": at("CEILING", 0, 7, 0, "owner")}),
    ],
)
def test_a_refusal_that_can_not_have_been_is_found(
    observed: Script, folder: Path, call: Any, edit: dict[str, Any]
) -> None:
    """A call outside of the ceiling that says nothing of it, another place, and a layer that is none."""
    assert observed.check(TOKEN, call)
    observed.close()

    (finding,) = changed(folder, lambda record: record.update(edit)).findings
    assert finding.kind is Standing.DIFFERENT_REASON
    assert "in observe mode" in finding.why


def test_what_depends_on_the_arguments_is_not_found(observed: Script, folder: Path) -> None:
    """Only they decide if the condition held."""
    assert observed.check(TOKEN, INSIDE)
    observed.close()
    assert changed(folder, lambda record: record.update(OF_CONDITION)).findings == []


def test_an_enforced_ceiling_refuses_no_call_that_is_allowed(script: Script, folder: Path) -> None:
    """A record can't claim that observe mode allowed a call of a session that is not in it."""
    script.open(OTHER, ceiling=CEILING)
    assert script.check(TOKEN, INSIDE)
    script.close()
    (finding,) = changed(folder, lambda record: record.update(OF_CONDITION)).findings
    assert "in observe mode" in finding.why


def test_the_first_layer_that_refuses_is_the_one(observed: Script, folder: Path) -> None:
    """A record names no later one."""
    narrowed = narrow_session(observed.next_id(), OTHER, scopes("read:gated/b free *"))
    assert observed.do(narrowed, NOW).applied
    assert observed.check(TOKEN, OUTSIDE)
    observed.close()
    assert replay(folder).findings == []
    (finding,) = changed(folder, lambda record: record.update(at=at("CEILING", 1))).findings
    assert "in observe mode" in finding.why
