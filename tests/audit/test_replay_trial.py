"""Recorded calls by a ceiling that was not in force: what it would have refused, and what stays open."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.audit.replay import RefusedCall, Trial, TrialReport, read_arguments
from sessauth.errors import UsageError
from sessauth.model.change import narrow_session, update_facts
from sessauth.model.session import Fact
from sessauth.scopes.scope import Scope
from tests.support.replay_script import OTHER, Script, replayed, scopes
from tests.support.token_forger import id16
from tests.vectors.world import NOW, ask, root, token

CHILD = id16("a child")
TOKENS = {each: token(root("*:** free *", root_fields={"session_id": each})) for each in (OTHER, CHILD)}
LABELLED = ask(action=b"write", resource=b"tickets/7", arguments=b'{"label":"bug"}')
READ = ask(action=b"read", resource=b"tickets/7", arguments=b"")
AWAY = ask(action=b"read", resource=b"mail/9", arguments=b"")


def ceiling(*texts: str, purpose: str = "", session_id: bytes = b"") -> Trial:
    """Return a trial of scopes."""
    return Trial.of(list(map(Scope.parse, texts)), session_id, purpose)


def tried(script: Script, folder: Path, trial: Trial, *arguments: str) -> TrialReport:
    """Replay the log of a script with a trial; nothing of it is found."""
    kept = folder.with_name("kept")
    kept.write_text("".join(f"{line}\n" for line in arguments))
    report = replayed(script, folder, trial=trial, arguments=read_arguments(kept, folder))
    assert report.findings == []
    assert report.trial is not None
    assert (report.to_dict()["trial"]["refused"], report.trial.unknown) == (report.trial.refused, 0)
    return report.trial


@pytest.mark.parametrize("observe", [True, False])
def test_calls_are_judged_as_if_the_ceiling_had_been_there(
    script: Script, folder: Path, observe: bool
) -> None:
    """Observe mode or not: admitted, refused with the place, or undecided without the arguments."""
    script.open(OTHER, ceiling="read:other/**" if observe else "*:** free *", observe=observe)
    for call in (LABELLED, READ, AWAY, AWAY):
        assert script.check(TOKENS[OTHER], call)
    trial = ceiling("read:tickets/**", 'write:tickets/** where label == "bug"')

    report = tried(script, folder, trial)
    assert (report.admitted, report.refused, dict(report.undecided)) == (1, 2, {"arguments": 1})
    assert dict(report.rows) == {RefusedCall("read", "mail/9", "OUT_OF_SCOPE"): 2}


def test_arguments_decide_and_the_condition_is_named(script: Script, folder: Path) -> None:
    """Nothing is undecided if they are known."""
    script.open(OTHER, ceiling="*:** free *")
    assert script.check(TOKENS[OTHER], LABELLED)
    trial = ceiling("read:tickets/**", 'write:tickets/** where label == "spam"')

    report = tried(script, folder, trial, LABELLED.arguments.decode())
    assert dict(report.rows) == {RefusedCall("write", "tickets/7", "CONDITION_FAILED", 1, 0, "label"): 1}


def test_facts_are_those_of_the_time(script: Script, folder: Path) -> None:
    """A condition on the session reads the facts as they were when the call was made."""
    script.open(OTHER, ceiling="*:** free *", facts=[Fact("team", "a")])
    assert script.check(TOKENS[OTHER], READ)
    script.do(update_facts(script.next_id(), OTHER, set_facts=[Fact("team", "b")]), NOW)
    assert script.check(TOKENS[OTHER], READ)

    report = tried(script, folder, ceiling('read:** where session.team == "a"'))
    assert (report.admitted, report.refused) == (1, 1)


def test_it_is_in_place_of_the_session_s_own_layers_alone(script: Script, folder: Path) -> None:
    """Narrowings of the session are replaced, and an ancestor holds it as ever."""
    script.open(OTHER, ceiling="*:** free *", purpose="boss")
    script.open(CHILD, ceiling="*:** free *", parent_id=OTHER, purpose="triage")
    assert script.check(TOKENS[CHILD], READ)
    assert script.check(TOKENS[CHILD], AWAY)
    script.do(narrow_session(script.next_id(), CHILD, scopes("read:tickets/**")), NOW)
    assert not script.check(TOKENS[CHILD], AWAY)
    assert script.check(TOKENS[OTHER], AWAY)

    report = tried(script, folder, ceiling("read:mail/**", purpose="triage"))
    assert (len(report.sessions), report.admitted, report.refused) == (1, 1, 1)


def test_one_session_is_tried(script: Script, folder: Path) -> None:
    """Its parent's ceiling stays as it was."""
    script.open(OTHER, ceiling="*:** free *")
    script.open(CHILD, ceiling="*:** free *", parent_id=OTHER)
    for session_id in (OTHER, CHILD):
        assert script.check(TOKENS[session_id], READ)

    report = tried(script, folder, ceiling("read:mail/**", session_id=CHILD))
    assert (report.sessions, report.refused) == ({CHILD}, 1)


def test_sessions_from_before_the_log_are_counted_apart(folder: Path) -> None:
    """Their facts and ancestors are not known, so nothing is said of them."""
    script = Script(folder, recorded=False)
    script.open(OTHER, recorded=False)
    assert script.check(TOKENS[OTHER], READ)

    report = replayed(script, folder, trial=ceiling("read:mail/**")).trial
    assert report is not None
    assert (report.unknown, report.refused, report.admitted) == (1, 0, 0)


def test_a_ceiling_that_no_session_can_have_is_refused() -> None:
    """``session open`` refuses it too."""
    with pytest.raises(UsageError, match="a ceiling carries no needs"):
        ceiling("read:** needs uses(1)")
