"""A new incarnation ends what lives by one row: each session reads as if it had been ended itself."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from sessauth.model.change import new_incarnation, revoke, suspend_session
from sessauth.model.session import EndCause, Session, SessionStatus
from sessauth.reasons import Reason
from sessauth.state import layout
from sessauth.state.backup import backup, restore
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb.effective_status import effective_status
from sessauth.state.lmdb.rows import TxnRows
from sessauth.state.rules import effects
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier
from tests.support.changes import HOUR, NOW, opening
from tests.support.state_fixture import StateFixture
from tests.vectors.world import AUDIENCE, root, token

IDS = [bytes([letter]) * 16 for letter in b"abcdef"]
MAP = 16 << 20
VALID = token(root("read:files/**"))


def begin(writer: StateWriter, number: int) -> int:
    """Begin an incarnation; returns its revision."""
    change = new_incarnation(f"new {number}", os.urandom(16), NOW, f"why {number}")
    return writer.submit(change).result().revision


def row(writer: StateWriter, session_id: bytes) -> Session:
    """Return a session as its row says, not as it stands."""
    data = writer.run(lambda group: group.rows.get(layout.SESSIONS, session_id))
    assert data is not None
    return Session.decode(data)


def test_each_session_ends_with_the_first_incarnation_behind_it(writer: StateWriter) -> None:
    """Time, cause, revision and epoch are as if each row had been written; the rows keep their bytes."""
    expected: dict[bytes, tuple[int, str]] = {}
    before: dict[bytes, Session] = {}
    for number, session_id in enumerate(IDS):
        assert writer.submit(opening(f"o{number}", session_id)).result().applied
        if number % 2:
            writer.submit(suspend_session(f"s{number}", session_id)).result()
            began = begin(writer, number)
            for each in IDS[number - 1 : number + 1]:
                expected[each] = began, f"why {number}"
                before[each] = row(writer, each)
    for session_id, (began, why) in expected.items():
        lived, session = before[session_id], writer.get_session(session_id)
        assert row(writer, session_id) == lived
        assert session == replace(
            lived,
            status=SessionStatus.ENDED,
            epoch=lived.epoch + 1,
            ended_at_ms=NOW,
            end_cause=EndCause.RESTORED,
            reason=why,
            revision=began,
        )
    assert (writer.census().ended, writer.census().active) == (len(IDS), 0)
    with writer.source().rows() as rows:
        found = [effective_status(rows, each, 0) for each in IDS]
    assert {each and each.status for each in found} == {SessionStatus.ENDED}
    assert writer.run(lambda group: verify(group.rows)).sessions == len(IDS)
    assert writer.head().min_reader_format == layout.INCARNATION_FORMAT


@pytest.mark.parametrize("sessions", [1, 300])
def test_it_writes_one_row(writer: StateWriter, sessions: int) -> None:
    """However many sessions there are, no row of theirs is written, and one of the incarnation."""
    for number in range(sessions):
        assert writer.submit(opening(f"o{number}")).result().applied

    def writes(group: Group) -> list[str]:
        from sessauth.state.rules.apply import apply

        change = new_incarnation("n", b"n" * 16, NOW).stamped(NOW)
        return [write.table for write in apply(group.rows, change).writes]

    assert writer.run(writes) == [layout.META]


def test_what_is_written_next_is_written_down(writer: StateWriter) -> None:
    """A block that is revoked in such a session writes its end down; a session opened since lives."""
    writer.submit(opening("o", IDS[0])).result()
    began = begin(writer, 1)
    writer.submit(opening("later", IDS[1])).result()
    assert writer.submit(revoke("r", IDS[0], [b"b" * 32])).result().applied
    written = row(writer, IDS[0])
    assert (written.status, written.end_cause) == (SessionStatus.ENDED, EndCause.RESTORED)
    assert written.revision > began and written.revoked_count == 1
    assert not writer.submit(suspend_session("s", IDS[0])).result().applied
    living = writer.get_session(IDS[1])
    assert living is not None and living.status is SessionStatus.ACTIVE
    assert not writer.submit(opening("child", parent_id=IDS[0])).result().applied


def test_a_verifier_denies_what_it_mirrors(tmp_path: Path) -> None:
    """The very bytes that it compiled are those of an ended session now, whichever way it is asked."""
    state = StateFixture(tmp_path / "state")
    try:
        handle = state.verifier.prepare(VALID)
        assert state.reason(VALID) is state.reason(handle) is Reason.ALLOWED
        state.do(new_incarnation("n", b"n" * 16, NOW))
        assert state.reason(handle) is state.reason(VALID) is Reason.SESSION_ENDED
        fresh = Verifier(state.writer.source(), audience=AUDIENCE)
        assert fresh._check(VALID, "read", "files/a", now_ms=NOW).reason is Reason.SESSION_ENDED
    finally:
        state.close()


def test_it_is_swept_like_others(state_dir: Path) -> None:
    """Sessions that it ended are purged when their time comes."""
    clock = FixedClock(NOW)
    with StateWriter.open(state_dir, create=True, map_size=MAP, clock=clock) as writer:
        writer.submit(opening("o", IDS[0])).result()
        begin(writer, 1)
        clock.advance(HOUR + layout.KEEP_ENDED_MS + 1)
        swept = writer.sweep()
        while swept.more:
            swept = writer.sweep()
        clock.advance(1_000)
        writer.sweep()
        assert writer.get_session(IDS[0]) is None


def test_a_restore_takes_the_incarnations_of_the_backup(tmp_path: Path) -> None:
    """Sessions that an earlier one ended stay ended by it, whatever the folder's own were."""
    state = tmp_path / "state"
    with StateWriter.open(state, create=True, map_size=MAP, clock=FixedClock(NOW)) as writer:
        writer.submit(opening("o0", IDS[0])).result()
        first = begin(writer, 1)
        writer.submit(opening("o1", IDS[1])).result()
    backup(state, tmp_path / "backup")
    with StateWriter.open(state, map_size=MAP, clock=FixedClock(NOW)) as writer:
        own = begin(writer, 2)
    for folder in (state, tmp_path / "new"):
        restore(tmp_path / "backup", folder, map_size=MAP, clock=FixedClock(NOW))
        with StateWriter.open(folder, map_size=MAP, clock=FixedClock(NOW)) as writer:
            head = writer.head()
            one, two = writer.get_session(IDS[0]), writer.get_session(IDS[1])
            assert one is not None and two is not None
            assert (one.revision, one.reason) == (first, "why 1")
            assert (two.revision, two.end_cause) == (head.incarnation_revision, EndCause.RESTORED)
            assert writer.run(lambda group: group.rows.keys_after(layout.META, b"", 9, effects.PREFIX)) == [
                effects.key_of(first),
                effects.key_of(head.incarnation_revision),
            ]
            assert head.incarnation_revision != own
            assert writer.run(lambda group: verify(group.rows)).sessions == 2


@pytest.mark.parametrize("how", ["gone", "wrong", "of later"])
def test_a_row_that_is_wrong_is_corrupt(state_dir: Path, how: str) -> None:
    """Without what an incarnation did, no session of before it is read, and none is taken for alive."""
    with StateWriter.open(state_dir, create=True, map_size=MAP, clock=FixedClock(NOW)) as writer:
        writer.submit(opening("o", IDS[0])).result()
        began = begin(writer, 1)

        def damage(group: Group) -> None:
            key = effects.key_of(began)
            if how == "gone":
                group.rows.delete(layout.META, key)
            elif how == "wrong":
                group.rows.put(layout.META, key, b"\xff")
            else:
                found = replace(effects.record(group.rows, began), previous_revision=began)
                group.rows.put(layout.META, key, found.encode())
            group.dirty = True

        writer.run(damage)
        with writer.source().reading() as txn, pytest.raises(StateUnusable) as caught:
            verify(TxnRows(txn, writer.source().tables))
        assert caught.value.problem == "CORRUPT"
        with pytest.raises(StateUnusable):
            writer.get_session(IDS[0])
        assert writer.census().ended == 1
