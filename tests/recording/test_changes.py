"""Changes in the audit stream: each once and in order, over a restart, with records of dropped ones."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from sessauth.audit.recording.change_follower import LATE_MS, POSITION_FILE, ChangeFollower
from sessauth.errors import StateUnusable
from sessauth.model.approval import ApprovalRecord
from sessauth.model.change import Change, end_session, open_session, request_approval
from sessauth.scopes.scope import Scope
from sessauth.state.backup import backup_source, restore
from sessauth.state.lmdb.feed import ChangeLog
from sessauth.state.writer.group import Retention
from sessauth.state.writer.state_writer import StateWriter
from tests.support.recorded import bodies

CEILING = [Scope.parse("read:files/**").to_record()]


def opened(log: StateWriter, name: str) -> bytes:
    """Open a session."""
    session_id = name.encode().ljust(16, b".")
    change = open_session(name, session_id, CEILING, subject="s", actor="me", ttl_ms=60_000)
    return log.submit(change).result().session_id


def new_records(follower: ChangeFollower) -> list[dict[str, object]]:
    """Return the records of all new changes."""
    return [record for data in follower.bodies(1) for record in bodies(data)]


def test_one_record_for_each_change(tmp_path: Path) -> None:
    """Applied and rejected changes are recorded with seq, revision and content."""
    with StateWriter.open(tmp_path / "state", create=True) as log:
        opened(log, "before")
        follower = ChangeFollower(ChangeLog(log.source()), tmp_path)
        before = new_records(follower)
        session_id = opened(log, "one")
        log.submit(end_session("two", session_id, actor="me")).result()
        outcome = log.submit(end_session("three", session_id, actor="you")).result()
        found = new_records(follower)
        head = log.head()
        assert new_records(follower) == []

    assert before[-1]["id"] == "before"
    assert [record["seq"] for record in before] == list(range(1, head.seq - 2))
    assert [record["outcome"] for record in found] == ["APPLIED", "APPLIED", outcome.rejection]
    assert [record["change"] for record in found] == ["open_session", "end_session", "end_session"]
    assert [record["seq"] for record in found] == [head.seq - 2, head.seq - 1, head.seq]
    assert [record["revision"] for record in found] == [head.revision - 1, head.revision, head.revision]
    assert [record["actor"] for record in found] == ["me", "me", "you"]
    assert {record["session"] for record in found} == {session_id.hex()}
    assert Change.decode(base64.b64decode(str(found[0]["body"]))).id == "one"


def test_what_could_not_be_written_comes_again(tmp_path: Path) -> None:
    """Changes count as recorded once the next are asked for."""
    with StateWriter.open(tmp_path / "state", create=True) as log:
        follower = ChangeFollower(ChangeLog(log.source()), tmp_path)
        new_records(follower)
        opened(log, "one")
        first = next(follower.bodies(1))
        assert [record["id"] for record in bodies(first)] == ["one"]
        assert new_records(follower) == bodies(first)
        assert new_records(follower) == []


def test_the_next_run_goes_on(tmp_path: Path) -> None:
    """The next run records changes that were committed and not recorded before a kill."""
    with StateWriter.open(tmp_path / "state", create=True) as log:
        follower = ChangeFollower(ChangeLog(log.source()), tmp_path)
        opened(log, "one")
        new_records(follower)
        follower.store_position(follower.seq)
        opened(log, "two")
        after = new_records(ChangeFollower(ChangeLog(log.source()), tmp_path))
        assert [record["id"] for record in after] == ["two"]

        (tmp_path / POSITION_FILE).write_text("none")
        again = new_records(ChangeFollower(ChangeLog(log.source()), tmp_path))
        assert [record["id"] for record in again][-2:] == ["one", "two"]
        assert again[0]["seq"] == 1


def test_times_do_not_go_back(tmp_path: Path) -> None:
    """A change that is recorded late bears the time at which it is recorded, and its own beside it."""
    with StateWriter.open(tmp_path / "state", create=True) as log:
        follower = ChangeFollower(ChangeLog(log.source()), tmp_path)
        new_records(follower)
        opened(log, "one")
        at_ms = log.head().clock_floor_ms
        soon, late = next(follower.bodies(at_ms + LATE_MS)), next(follower.bodies(at_ms + LATE_MS + 1))

    assert [record["at_ms"] for record in bodies(soon)] == [at_ms]
    assert "changed_ms" not in bodies(soon)[0]
    assert (bodies(late)[0]["at_ms"], bodies(late)[0]["changed_ms"]) == (at_ms + LATE_MS + 1, at_ms)


def test_no_argument_of_a_call_that_waits_for_an_approval(tmp_path: Path) -> None:
    """The arguments that an approver is shown are left out; all else of the change is there, as it was."""
    with StateWriter.open(tmp_path / "state", create=True) as log:
        session_id = opened(log, "one")
        asked = ApprovalRecord(
            bytes(16),
            session_id,
            block_id=bytes(32),
            block=0,
            scope=0,
            epoch=1,
            request_digest=bytes(32),
            threshold=1,
            keys=(bytes(32),),
            action="read",
            resource="files/a",
            arguments=b'{"card":"4111"}',
            gateway="gw",
        )
        assert log.submit(request_approval("two", asked)).result().applied
        (record,) = [
            each
            for each in new_records(ChangeFollower(ChangeLog(log.source()), tmp_path))
            if each["change"] == "request_approval"
        ]

    body = base64.b64decode(str(record["body"]))
    approval = Change.decode(body).body["approval"]
    assert b"4111" not in body
    assert isinstance(approval, dict)
    assert ApprovalRecord.from_record(approval) == replace(asked, arguments=b"")


def test_what_the_log_dropped_is_said(tmp_path: Path) -> None:
    """A log that was compacted beyond what was recorded leaves a record of how many are missing."""
    with StateWriter.open(tmp_path / "state", create=True, retention=Retention(changes=4)) as log:
        follower = ChangeFollower(ChangeLog(log.source()), tmp_path)
        since = follower.seq
        for number in range(12):
            opened(log, f"session {number}")
        found = new_records(follower)
        head = log.head()

    assert found[0]["kind"] == "lost"
    assert found[0]["count"] == len(range(since, head.seq)) - (len(found) - 1)
    assert found[-1]["seq"] == head.seq
    assert [record["kind"] for record in found[1:]] == ["change"] * (len(found) - 1)


def test_a_restore_loses_nothing_that_was_recorded(tmp_path: Path) -> None:
    """The follower goes on behind it: no loss is claimed, but for what was never recorded before it."""
    state, audited = tmp_path / "state", tmp_path / "audit"
    audited.mkdir()
    with StateWriter.open(state, create=True, map_size=8 << 20) as log:
        follower = ChangeFollower(ChangeLog(log.source()), audited)
        opened(log, "one")
        backup_source(log.source(), tmp_path / "backup")
        opened(log, "two")
        assert [record["id"] for record in new_records(follower)] == ["one", "two"]
        follower.store_position(follower.seq)
        opened(log, "three")
        last = log.head().seq
    for times in range(2):
        restore(tmp_path / "backup", state, map_size=8 << 20)
        with StateWriter.open(state, map_size=8 << 20) as log:
            follower = ChangeFollower(ChangeLog(log.source()), audited)
            found = new_records(follower)
            follower.store_position(follower.seq)
        if not times:
            # The third was made and not recorded, and the restore dropped it.
            assert (found[0]["kind"], found[0]["count"]) == ("lost", 1)
            assert f"changes {last} to {last}" in str(found[0]["why"])
        assert [record["change"] for record in found if record["kind"] == "change"] == ["new_incarnation"]
        assert (len(found) == 1) is bool(times)


def test_a_restore_elsewhere_claims_no_loss(tmp_path: Path) -> None:
    """A new machine's audit begins with the restore: what was before is recorded where it was."""
    with StateWriter.open(tmp_path / "state", create=True, map_size=8 << 20) as log:
        opened(log, "one")
        backup_source(log.source(), tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "new", map_size=8 << 20)
    with StateWriter.open(tmp_path / "new", map_size=8 << 20) as log:
        found = new_records(ChangeFollower(ChangeLog(log.source()), tmp_path))
    assert [record["change"] for record in found] == ["new_incarnation"]


def test_a_log_that_ends_before_its_records_is_refused(tmp_path: Path) -> None:
    """The place up to which a log was recorded is an anchor as well: the folder went back, whole."""
    state = tmp_path / "state"
    with StateWriter.open(state, create=True, map_size=8 << 20) as log:
        opened(log, "one")
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    with StateWriter.open(state, map_size=8 << 20) as log:
        follower = ChangeFollower(ChangeLog(log.source()), tmp_path)
        opened(log, "two")
        new_records(follower)
        follower.store_position(follower.seq)
    for name, data in before.items():
        (state / name).write_bytes(data)
    with (
        StateWriter.open(state, map_size=8 << 20) as log,
        pytest.raises(StateUnusable) as caught,
    ):
        ChangeFollower(ChangeLog(log.source()), tmp_path)
    assert caught.value.problem == "ROLLED_BACK"
