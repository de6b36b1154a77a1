"""Replay of an audit log: each kind of record that can't be true is found."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from sessauth._fast._check import Chain
from sessauth.audit import layout
from sessauth.audit.replay import ReplayFault, Standing, read_arguments, replay
from sessauth.errors import StateUnusable
from sessauth.model.change import narrow_session, revoke, suspend_session, update_facts
from sessauth.model.session import Fact
from tests.support.replay_script import (
    ALLOWED,
    CALL,
    GATED,
    MIXED,
    OTHER,
    OTHERS,
    PLAIN,
    Script,
    changed,
    replayed,
    scopes,
)
from tests.vectors.world import NOW, SESSION, ask, root, token


def test_a_clean_log_is_confirmed(script: Script, folder: Path) -> None:
    """Calls before and behind each change come out as they were recorded."""
    gated = token(root('read:files/** where session.level == "high" free *'))
    assert script.check(PLAIN, CALL)
    assert not script.check(gated, CALL)
    script.do(update_facts(script.next_id(), SESSION, set_facts=[Fact("level", "high")]), NOW)
    assert script.check(gated, CALL)
    script.do(narrow_session(script.next_id(), SESSION, scopes("read:files/b")), NOW)
    assert not script.check(PLAIN, CALL)
    script.do(suspend_session(script.next_id(), SESSION), NOW)
    assert not script.check(PLAIN, CALL)
    script.end()
    assert not script.check(PLAIN, CALL)

    report = replayed(script, folder)

    assert report.findings == []
    assert dict(report.standings) == {Standing.CONFIRMED: 6}
    assert (report.decisions, report.changes, report.chains) == (6, 6, 2)


def test_an_allow_behind_the_end_is_found(script: Script, folder: Path) -> None:
    """It says where the record stands, what it says and what comes out."""
    assert script.check(PLAIN, CALL)
    script.end()
    decision = script.check(PLAIN, CALL)
    script.close()

    def allow(record: dict[str, Any]) -> None:
        if record["reason"] == "SESSION_ENDED":
            blocks = [block.hex() for block in script.check(PLAIN, CALL, NOW - 1).block_ids]
            record |= {**ALLOWED, "session": SESSION.hex(), "epoch": 1, "matched": [0, 0], "blocks": blocks}

    report = changed(folder, allow)

    (finding,) = report.findings
    assert finding.kind is Standing.FLIPPED
    assert finding.id == decision.decision_id.hex()
    assert finding.recorded == "ALLOWED"
    assert finding.comes_out == "SESSION_ENDED at stage session"
    line = (folder.with_name("changed") / finding.file).read_bytes().splitlines()[finding.line - 1]
    assert json.loads(line)["id"] == finding.id
    assert json.loads(line)["n"] == finding.n


def test_a_revoked_block_is_found(script: Script, folder: Path) -> None:
    """An allow by a token whose block was revoked before."""
    block_id = script.check(PLAIN, CALL).block_ids[0]
    script.do(revoke(script.next_id(), SESSION, [block_id]), NOW)
    assert not script.check(PLAIN, CALL)
    script.close()

    report = changed(folder, lambda record: record.update(ALLOWED, matched=[0, 0]))

    assert [finding.comes_out for finding in report.findings] == ["REVOKED at stage revocation, block 0"]


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ({"matched": [0, 1]}, "another scope"),
        ({"epoch": 2}, "epoch 1, not 2"),
        ({"session": OTHER.hex()}, "another session"),
        ({"action": "write"}, "it was to be denied"),
        ({"resource": "other/a"}, "it was to be denied"),
        ({"audience": "elsewhere"}, "it was to be denied"),
        ({"at_ms": NOW + 3_600_000}, "it was to be denied"),
        ({"allowed": False}, "contradict each other"),
        ({"allowed": False, "reason": "BAD_SIGNATURE", "stage": "SIGNATURE", "at": {
            "level": "BLOCK", "index": 0, "scope": -1, "clause": -1, "argument": ""}}, "to be allowed"),
        ({"allowed": False, "reason": "MALFORMED_TOKEN", "stage": "DECODE"}, "to be allowed"),
        ({"allowed": False, "reason": "PROOF_REQUIRED", "stage": "PROOF"}, "to be allowed"),
        ({"allowed": False, "reason": "NEEDS_SERVER", "stage": "NEEDS", "at": {
            "level": "BLOCK", "index": 0, "scope": 0, "clause": -1, "argument": ""}}, "to be allowed"),
        ({"allowed": False, "reason": "WRONG_PEER", "stage": "AUDIENCE", "at": {
            "level": "BLOCK", "index": 0, "scope": -1, "clause": -1, "argument": ""}}, "to be allowed"),
        ({"allowed": False, "reason": "LEASE_LAPSED", "stage": "SESSION"}, "to be allowed"),
    ],
)  # fmt: skip
def test_a_changed_record_is_found(script: Script, folder: Path, edit: dict[str, Any], why: str) -> None:
    """Each part of a decision that its blocks and the state bear witness to."""
    assert script.check(MIXED, CALL)
    script.close()

    report = changed(folder, lambda record: record.update(edit))

    (finding,) = report.findings
    assert why in finding.why


@pytest.mark.parametrize(
    ("edit", "by"),
    [
        ({"reason": "STATE_BRAKED", "stage": "SESSION"}, "brake"),
        ({"reason": "STALE_STATE", "stage": "SESSION"}, "revision"),
        ({"reason": "WRONG_SESSION", "stage": "SESSION"}, "session"),
        ({"reason": "BAD_SIGNATURE", "stage": "SIGNATURE"}, "signature"),
        ({"reason": "CLOCK_SUSPECT", "stage": "TIME"}, "clock"),
        ({"reason": "INTERNAL_ERROR", "stage": "NONE"}, "fault"),
        ({"reason": "NEEDS_SERVER", "stage": "NEEDS"}, "needs"),
    ],
)
def test_what_no_log_holds_is_taken_on_trust(
    script: Script, folder: Path, edit: dict[str, Any], by: str
) -> None:
    """Such a denial is not found, and counted as what it rests on."""
    assert script.check(PLAIN, CALL)
    script.close()

    report = changed(folder, lambda record: record.update(edit, allowed=False, matched=None))

    assert report.findings == []
    assert dict(report.on_trust) == {by: 1}


def test_arguments_decide_what_was_open(script: Script, folder: Path, tmp_path: Path) -> None:
    """Without them a condition on them may hold or not; with them a flip is found."""
    assert script.check(MIXED, GATED)
    assert not script.check(MIXED, ask(action=b"read", resource=b"gated/a", arguments=b'{"owner":\n"x"}'))
    script.close()
    kept = tmp_path / "kept.jsonl"
    kept.write_bytes(GATED.arguments + b"\n" + json.dumps('{"owner":\n"x"}').encode() + b"\n")

    without, given = replay(folder), replay(folder, arguments=read_arguments(kept, folder))
    assert (dict(without.undecided), without.findings) == ({"arguments": 2}, [])
    assert (dict(given.standings), given.findings) == ({Standing.CONFIRMED: 2}, [])

    def deny(record: dict[str, Any]) -> None:
        at = {"level": "BLOCK", "index": 0, "scope": 1, "clause": 0, "argument": "owner"}
        record |= {"allowed": False, "matched": None, "reason": "CONDITION_FAILED", "stage": "SCOPE"}
        record["at"] = at

    assert changed(folder, deny).findings == []
    forged = folder.with_name("changed")
    (finding,) = replay(forged, arguments=read_arguments(kept, forged)).findings
    assert (finding.kind, finding.comes_out) == (Standing.FLIPPED, "ALLOWED")


def test_blocks_that_are_not_what_their_ids_say_are_found(script: Script, folder: Path) -> None:
    """A wider root under the id of the one that was signed; and a second chain of the same ids."""
    assert script.check(PLAIN, CALL)
    script.close()
    wide = _root_payload("*:**")

    def widen(record: dict[str, Any]) -> None:
        record["blocks"][0]["payload"] = wide

    report = changed(folder, widen, "chain")
    assert [finding.kind for finding in report.findings] == [ReplayFault.WRONG_CHAIN]

    again = Script(folder, b"j" * 16)
    again.note("chain", at_ms=NOW, blocks=[{"id": _root_id(), "payload": wide}])
    report = replayed(again, folder)
    assert ReplayFault.TWO_CHAINS in [finding.kind for finding in report.findings]


def _root_payload(text: str) -> str:
    return base64.b64encode(Chain.parse(token(root(text))).payloads[0]).decode()


def _root_id() -> str:
    return Chain.parse(PLAIN).block_ids[0].hex()


def test_one_session_is_asked_for(script: Script, folder: Path) -> None:
    """Decisions of others are left out, denials that only claim it are not."""
    script.open(OTHER)
    assert script.check(OTHERS, CALL)
    assert script.check(PLAIN, CALL)
    script.end()
    assert not script.check(PLAIN, CALL)

    assert replayed(script, folder, session_id=SESSION).decisions == 2


def test_what_is_no_record_is_counted(script: Script, folder: Path) -> None:
    """A torn last line is passed over; a record that lacks something is said."""
    assert script.check(PLAIN, CALL)
    script.close()
    path = folder / next(name.name for name in folder.iterdir() if layout.parse_name(name.name))
    with path.open("ab") as file:
        file.write(b'{"n":99,"kind":"decision","at_ms":1}\n{"n":100,"kind":"deci')

    report = replay(folder)

    assert (report.decisions, report.unreadable, report.findings) == (1, 1, [])


@pytest.mark.parametrize(
    "edit",
    [
        {"at_ms": "now"},
        {"at_ms": -1},
        {"revision": 1 << 70},
        {"session": "ab"},
        {"at": {"level": "BLOCK", "index": 1 << 40, "scope": 0, "clause": 0, "argument": ""}},
        {"at": {"level": [], "index": 0, "scope": 0, "clause": 0, "argument": ""}},
        {"matched": ["0", 0]},
        {"stage": {}},
    ],
    ids=str,
)
def test_a_field_of_another_type_makes_no_record(script: Script, folder: Path, edit: dict[str, Any]) -> None:
    """A forged record is counted as unreadable, and does not end the replay."""
    assert script.check(PLAIN, CALL)
    script.close()

    report = changed(folder, lambda record: record.update(edit))

    assert (report.decisions, report.unreadable, report.findings) == (0, 1, [])


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The error names it."""
    with pytest.raises(StateUnusable, match="nowhere"):
        replay(tmp_path / "nowhere")


def test_checks_of_a_token_alone_are_judged_as_such(script: Script, folder: Path) -> None:
    """Allowed and denied, of a bound token too, whose proof is not in question."""
    alone = ask(action=b"", resource=b"", token_only=True)
    bound = token(root("read:files/**"), last="bound")
    for presented in (PLAIN, bound, token(root("read:files/**", audience=["another"]))):
        script.check(presented, alone)
    script.end()
    assert not script.check(PLAIN, alone)

    report = replayed(script, folder)

    assert report.findings == []
    assert dict(report.standings) == {Standing.CONFIRMED: 4}


@pytest.mark.parametrize(
    ("edit", "standing"),
    [
        # A call that no scope admitted is not allowed because the token stands.
        ({"token_only": None}, Standing.FLIPPED),
        ({"matched": [0, 0]}, Standing.DIFFERENT_REASON),
        ({"action": "read"}, Standing.DIFFERENT_REASON),
        ({"resource": "files/a"}, Standing.DIFFERENT_REASON),
        ({"arguments": "00" * 16}, Standing.DIFFERENT_REASON),
        ({"allowed": False, "reason": "OUT_OF_SCOPE", "stage": "SCOPE"}, Standing.FLIPPED),
        ({"allowed": False, "reason": "PROOF_REQUIRED", "stage": "PROOF"}, Standing.FLIPPED),
        ({"allowed": False, "reason": "NEEDS_SERVER", "stage": "NEEDS"}, Standing.FLIPPED),
    ],
    ids=str,
)
def test_a_check_of_a_token_alone_that_can_not_be_true_is_found(
    script: Script, folder: Path, edit: dict[str, Any], standing: Standing
) -> None:
    """A call made of it, a scope that it never had, and denials of later stages."""
    assert script.check(PLAIN, ask(action=b"", resource=b"", token_only=True))
    script.close()

    def edited(record: dict[str, Any]) -> None:
        record.update({name: value for name, value in edit.items() if value is not None})
        for name, value in edit.items():
            if value is None:
                del record[name]

    (finding,) = changed(folder, edited).findings
    assert finding.kind is standing


def test_a_call_is_not_made_a_check_of_its_token(script: Script, folder: Path) -> None:
    """An allow of a call that is marked so keeps its action, which is found."""
    assert script.check(PLAIN, CALL)
    script.close()

    (finding,) = changed(folder, lambda record: record.update(token_only=True)).findings
    assert finding.kind is Standing.DIFFERENT_REASON
