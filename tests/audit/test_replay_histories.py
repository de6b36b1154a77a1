"""Replay of logs that begin later, have gaps, or tell of changes that can't have been."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from sessauth.audit.replay import ReplayFault, Standing, replay
from sessauth.crypto.keys import KeyStatus
from sessauth.model.change import end_session, new_incarnation, set_key_status, suspend_session
from tests.support.replay_script import (
    ALLOWED,
    CALL,
    LEASE_MS,
    OPENED,
    OTHER,
    OTHERS,
    PLAIN,
    Script,
    changed,
    replayed,
)
from tests.support.resigned_log import reseal
from tests.vectors.world import ISSUER, NOW, SESSION


def test_a_renewed_lease_is_taken_on_trust(script: Script, folder: Path) -> None:
    """Renewals are no changes: behind the first deadline either may be, and before it a lapse is found."""
    script.open(OTHER, lease_ms=LEASE_MS)
    assert script.check(OTHERS, CALL, OPENED + LEASE_MS - 1)
    assert not script.check(OTHERS, CALL, OPENED + LEASE_MS)
    script.renew(OTHER, NOW + LEASE_MS)
    assert script.check(OTHERS, CALL, NOW)

    report = replayed(script, folder)

    assert report.findings == []
    assert dict(report.on_trust) == {"lease": 2}
    assert report.standings[Standing.CONFIRMED] == 1


def test_a_log_that_begins_later_decides_what_was_opened_since(folder: Path) -> None:
    """An older session is unknown; its token alone is judged again."""
    script = Script(folder, recorded=False)
    script.open(OTHER)
    assert script.check(PLAIN, CALL)
    assert script.check(OTHERS, CALL)
    script.close()

    report = replay(folder)
    assert report.findings == []
    assert dict(report.undecidable) == {"session": 1}
    assert report.standings[Standing.CONFIRMED] == 1

    found = changed(folder, lambda record: record.update(resource="other/a")).findings
    assert [finding.kind for finding in found] == [Standing.FLIPPED, Standing.FLIPPED]


def test_an_issuer_key_from_before_is_known_once_it_changes(folder: Path) -> None:
    """Its owner is not, so it is taken on trust; that it is distrusted is held against what follows."""
    script = Script(folder, recorded=False)
    script.open(OTHER)
    assert script.check(OTHERS, CALL)
    script.do(set_key_status(script.next_id(), ISSUER.id, KeyStatus.DISTRUSTED), NOW)
    assert not script.check(OTHERS, CALL)
    script.close()

    report = replay(folder)
    assert report.findings == []
    assert report.begun_later == 1
    assert report.standings[Standing.CONFIRMED] == 2

    def allow(record: dict[str, Any]) -> None:
        record |= {**ALLOWED, "matched": [0, 0], "session": OTHER.hex(), "epoch": 1, "blocks": ["00" * 32]}

    (finding,) = changed(folder, lambda record: record["allowed"] or allow(record)).findings
    assert finding.comes_out == "ISSUER_DISTRUSTED at stage issuer"


def test_a_restored_state_is_followed(script: Script, folder: Path) -> None:
    """The change that ended every session is among those of the new incarnation."""
    script.do(new_incarnation(script.next_id(), b"n" * 16, NOW, "restored"), NOW)
    script.open(OTHER)
    assert not script.check(PLAIN, CALL)
    assert script.check(OTHERS, CALL)
    script.close()
    reseal(folder, folder.with_name("restored"), lambda record: _of(record, "6e" * 16))

    report = replay(folder.with_name("restored"))

    assert report.findings == []
    assert dict(report.standings) == {Standing.CONFIRMED: 2}


def _of(record: dict[str, Any], incarnation: str) -> dict[str, Any]:
    return {**record, "incarnation": incarnation} if record["kind"] == "begin" else record


def test_a_stream_without_changes_is_undecidable(folder: Path, tmp_path: Path) -> None:
    """An embedded verifier's stream is undecidable alone, and decided beside its server's log."""
    play = Script(folder)
    assert play.check(PLAIN, CALL)
    play.close()
    reseal(folder, tmp_path / "alone", lambda record: None if record["kind"] == "change" else record)

    report = replay(tmp_path / "alone")

    assert report.findings == []
    assert dict(report.undecidable) == {"state": 1}


def test_behind_a_gap_nothing_is_known_of_what_was_before(script: Script, folder: Path) -> None:
    """A change that is missing may have been the end of any session."""
    script.do(suspend_session(script.next_id(), SESSION), NOW, recorded=False)
    script.do(set_key_status(script.next_id(), ISSUER.id, KeyStatus.ACTIVE), NOW)
    script.open(OTHER)
    assert not script.check(PLAIN, CALL)
    assert script.check(OTHERS, CALL)

    report = replayed(script, folder)

    assert report.findings == []
    assert dict(report.undecidable) == {"session": 1}
    assert report.standings[Standing.CONFIRMED] == 1


def test_a_forged_outcome_is_found(script: Script, folder: Path) -> None:
    """Changes are applied again too; a session of which one is doubtful is not judged by it."""
    script.end()
    assert not script.check(PLAIN, CALL)
    script.close()

    def reject(record: dict[str, Any]) -> None:
        if record["change"] == "END_SESSION":
            record |= {"outcome": "EPOCH_MISMATCH", "revision": record["revision"] - 1}

    report = changed(folder, reject, "change")

    (finding,) = report.findings
    assert finding.kind is ReplayFault.DIFFERENT_OUTCOME
    assert finding.comes_out == "APPLIED at revision 3"


def test_two_changes_of_one_number_are_found(script: Script, folder: Path) -> None:
    """A change may be written twice, as after a restart; another one in its place may not."""
    script.end()
    body = end_session("another", SESSION).stamped(NOW).encode()
    script.note(
        "change", at_ms=NOW, seq=3, revision=3, id="another", change="END_SESSION", session=SESSION.hex(),
        actor="", outcome="APPLIED", body=base64.b64encode(body).decode(),
    )  # fmt: skip

    report = replayed(script, folder)

    assert [finding.kind for finding in report.findings] == [ReplayFault.TWO_CHANGES]


def test_each_incarnation_has_a_history_of_its_own(folder: Path) -> None:
    """A restored state goes on from earlier numbers: the same seq is another change there."""
    first = Script(folder, b"i" * 16)
    first.end()
    assert not first.check(PLAIN, CALL)
    first.close()
    second = Script(folder, b"j" * 16)
    second.do(suspend_session(second.next_id(), SESSION), NOW)
    assert not second.check(PLAIN, CALL)

    report = replayed(second, folder)

    assert report.findings == []
    assert dict(report.standings) == {Standing.CONFIRMED: 2}
