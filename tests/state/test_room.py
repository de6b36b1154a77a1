"""Hardly any room: the 85 % mark, a full map, a full disk, a commit that fails, and the brake."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from sessauth.clock import FixedClock
from sessauth.errors import OutcomeUnknown, Rejected, StateError, StateFull, StateUnusable
from sessauth.model.change import Change, end_session, narrow_session, revoke, suspend_session, update_facts
from sessauth.model.session import Fact, SessionStatus
from sessauth.state.integrity.verify import verify
from sessauth.state.writer.committer import Committer
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import opening, scopes

TINY_MAP = 2 << 20


@pytest.fixture
def tiny(state_dir: Path, clock: FixedClock) -> Iterator[StateWriter]:
    """A writer on a map of two MiB."""
    with StateWriter.open(state_dir, create=True, map_size=TINY_MAP, clock=clock) as opened:
        yield opened


def filler(n: int, session_id: bytes) -> Change:
    """Return an opening that takes some room."""
    return opening(f"fill-{n}", session_id, purpose="p" * 1000)


def fill(writer: StateWriter, until: type[StateError] = StateFull) -> list[bytes]:
    """Open sessions until it is refused in the given way; returns those that were opened."""
    opened: list[bytes] = []
    for n in range(10_000):
        session_id = n.to_bytes(16, "big")
        try:
            assert writer.submit(filler(n, session_id)).result().applied
        except until:
            return opened
        opened.append(session_id)
    raise AssertionError("there is still room")


def test_above_the_mark_only_authority_is_taken_away(tiny: StateWriter) -> None:
    """Above 85 % nothing opens or grows, while ends, suspensions, narrowings and revocations go on."""
    opened = fill(tiny)
    assert len(opened) > 100
    with pytest.raises(StateFull):
        tiny.submit(update_facts("f", opened[0], set_facts=[Fact("a", 1)])).result()
    first = tiny.submit(filler(0, opened[0])).result()
    assert first.applied and first.session_id == opened[0]
    assert tiny.submit(suspend_session("s", opened[1])).result().applied
    assert tiny.submit(narrow_session("n", opened[2], scopes("read:files/a"))).result().applied
    assert tiny.submit(revoke("r", opened[3], [b"b" * 32])).result().applied
    for session_id in opened[4:84]:
        assert tiny.submit(end_session(f"e{session_id.hex()}", session_id)).result().applied
    assert not tiny.braked
    assert tiny.run(lambda group: verify(group.rows)).sessions == len(opened)


def test_a_purge_makes_room(tiny: StateWriter, clock: FixedClock) -> None:
    """New sessions open again once those that filled the map were ended and purged."""
    fill(tiny)
    for _ in range(3):
        clock.advance(8 * 24 * 3_600_000)
        while tiny.sweep().more:
            continue
    assert tiny.list_sessions() == []
    assert tiny.submit(opening("again")).result().applied


def test_a_full_map_refuses_growth_and_takes_ends(tiny: StateWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the mark is passed in one leap, LMDB's own refusal is StateFull and nothing half written."""
    monkeypatch.setattr(Committer, "is_full", lambda *_: False)
    opened = fill(tiny)
    assert not tiny.braked
    counts = tiny.run(lambda group: verify(group.rows))
    assert counts.sessions == len(opened)


def test_an_end_that_finds_no_room_engages_the_brake(
    tiny: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller of an end that can't be written gets an error, and every check denies."""
    monkeypatch.setattr(Committer, "is_full", lambda *_: False)
    opened = fill(tiny)
    futures = [tiny.submit(end_session(f"e{n}", session_id)) for n, session_id in enumerate(opened)]
    errors = [error for future in futures if (error := future.exception())]
    assert isinstance(errors[0], OutcomeUnknown) and "retry" in str(errors[0])
    assert tiny.source().brake[0] == 1 and "map" in tiny.braked
    with pytest.raises(StateError, match="brake"):
        tiny.submit(end_session("later", opened[-1])).result()
    with pytest.raises(StateError, match="brake"):
        tiny.keep_alive(opened[-1])


def test_a_full_disk_loses_nothing_and_brakes(tmpfs: Path) -> None:
    """The commit that fails is OutcomeUnknown; all before it stands; with room again it goes on."""
    with StateWriter.open(tmpfs / "state", create=True, map_size=64 << 20) as writer:
        acknowledged = fill(writer, OutcomeUnknown)
        assert len(acknowledged) > 20
        assert writer.source().brake[0] == 1
        (tmpfs / "filler").write_bytes(bytes(os.statvfs(tmpfs).f_bavail * 4096))
        with pytest.raises(StateError):
            writer.clear_brake()
        assert writer.braked
        assert all(writer.get_session(session_id) is not None for session_id in acknowledged)
        subprocess.run(["mount", "-o", "remount,size=8m", str(tmpfs)], check=True)
        writer.clear_brake()
        assert not writer.braked and writer.source().brake[0] == 0
        last = len(acknowledged)
        assert writer.submit(filler(last, last.to_bytes(16, "big"))).result().applied
        assert writer.run(lambda group: verify(group.rows)).sessions == last + 1


def test_a_restart_keeps_the_brake_until_a_write_succeeds(tmpfs: Path) -> None:
    """A writer that starts on a braked folder verifies it whole and releases the brake only then."""
    with StateWriter.open(tmpfs / "state", create=True, map_size=64 << 20) as writer:
        writer.submit(opening("1", b"s" * 16)).result()
        writer._brake.engage("a test")
    room = os.statvfs(tmpfs).f_bavail * 4096
    (tmpfs / "filler").write_bytes(bytes(room))
    with pytest.raises(StateUnusable) as caught:
        StateWriter.open(tmpfs / "state")
    assert caught.value.problem == "NO_SPACE"
    (tmpfs / "filler").unlink()
    with StateWriter.open(tmpfs / "state") as writer:
        assert not writer.braked
        session = writer.get_session(b"s" * 16)
        assert session is not None and session.status is SessionStatus.ACTIVE


def test_a_failed_commit_is_an_unknown_outcome_for_its_whole_group(
    writer: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No caller gets a success if the commit fails, and the brake is engaged before they get the error."""
    braked_at_error: list[int] = []

    class Failing:
        def __init__(self, env: lmdb.Environment) -> None:
            self.env = env

        def begin(self, *args: object, **kwargs: object) -> object:
            raise lmdb.DiskError("Input/output error")

        def info(self) -> dict[str, int]:
            return self.env.info()

    real = writer.source().env
    monkeypatch.setattr(writer.source(), "env", Failing(real))
    future = writer.submit(opening("1", b"s" * 16))
    future.add_done_callback(lambda _: braked_at_error.append(writer.source().brake[0]))
    with pytest.raises(OutcomeUnknown, match="Input/output"):
        future.result()
    assert braked_at_error == [1]
    monkeypatch.setattr(writer.source(), "env", real)
    writer.clear_brake()
    assert writer.submit(opening("1", b"s" * 16)).result().applied


def test_a_persons_brake_stops_checks_and_no_ends(state_dir: Path) -> None:
    """Frozen by a person, sessions are ended and none is opened; neither a restart nor a probe frees it."""
    with StateWriter.open(state_dir, create=True) as writer:
        assert writer.submit(opening("1", b"s" * 16)).result().applied
        writer._brake.engage("drill", by_hand=True)
        assert writer.source().brake[0] != 0 and writer.braked == writer.frozen == "drill"
        with pytest.raises(Rejected, match=r"FROZEN: .*drill"):
            writer.submit(opening("2")).result()
        assert writer.submit(end_session("2", b"s" * 16)).result().applied
        writer._brake.engage("disk")
        assert writer.braked == "disk; drill"
        with pytest.raises(StateError, match="disk"):
            writer.submit(opening("3")).result()
        writer.clear_brake()
        assert writer.braked == "drill"
    with StateWriter.open(state_dir) as writer:
        assert writer.braked == "drill" and writer.source().brake[0] != 0
        writer._brake.release(by_hand=True)
        assert not writer.braked and writer.source().brake[0] == 0
