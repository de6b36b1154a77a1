"""The store of what was told: bounded in memory and on disk, and honest about what it has no room for."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import ConfigError
from sessauth.model.session import Session, SessionStatus
from sessauth.server.sections import UsageSettings
from sessauth.server.usage import store
from sessauth.server.usage.store import QUIET_MS, UsageFiles, UsageStore
from sessauth.usage.session_usage import ObservationBatch, SessionObservation
from sessauth.v1 import usage_service_pb2 as pb
from tests.support.observations import AT, block, claimed, observed, usage
from tests.support.usage_example import session as make_session


class StoreFixture:
    """Sessions that a test opens and ends, a store that is told of them, and its folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        """Begin with no session; ``settings`` as in the section of the configuration."""
        self.clock = FixedClock(AT)
        self.sessions: dict[bytes, Session] = {}
        self.folder = folder
        self.settings = UsageSettings(enabled=True, **settings)
        self.numbers = iter(range(1, 100_000))
        self.open_store()

    def open_store(self) -> None:
        """Open the store, as a control process does when it starts."""
        limits = {"max_files": self.settings.max_sessions, "max_bytes": self.settings.max_stored_bytes}
        self.files = UsageFiles(self.folder, **limits)
        self.store = UsageStore(self, self.settings, self.files, self.clock)

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session, as the log does."""
        return self.sessions.get(session_id)

    def open(self, number: int) -> bytes:
        """Open a session."""
        session_id = number.to_bytes(16, "big")
        self.sessions[session_id] = make_session(
            id=session_id,
            status=SessionStatus.ACTIVE,
            ended_at_ms=0,
            opened_at_ms=AT,
            expires_at_ms=AT + 3_600_000,
        )
        return session_id

    def end(self, session_id: bytes) -> None:
        """End a session."""
        ended = replace(
            self.sessions[session_id], status=SessionStatus.ENDED, ended_at_ms=self.clock.now_ms()
        )
        self.sessions[session_id] = ended

    def add(self, *sessions: SessionObservation, lost: int = 0) -> None:
        """Report to the store."""
        self.store.report_observations(ObservationBatch(bytes(16), next(self.numbers), "gw", lost, sessions))

    def report(self, session_id: bytes) -> pb.SessionReport:
        """Return the report of a session."""
        report = self.store.report(session_id)
        assert report is not None
        return report

    def tend(self, after_ms: int = 0) -> None:
        """Let time pass, and the store look after itself."""
        self.clock.advance(after_ms)
        self.store.write_ended()


@pytest.fixture
def usage_store(tmp_path: Path) -> StoreFixture:
    """A store with room for all that tests tell."""
    return StoreFixture(tmp_path / "usage")


def test_what_ended_is_written_once_and_let_go(usage_store: StoreFixture) -> None:
    """It is in a file within a tend, leaves memory a while later, and is still reported."""
    session_id = usage_store.open(1)
    usage_store.add(observed(session_id, block("r", calls=3)))
    usage_store.tend()
    assert session_id not in usage_store.files
    usage_store.end(session_id)
    usage_store.tend()
    assert session_id in usage_store.files
    usage_store.tend(QUIET_MS + 1)
    assert session_id not in usage_store.store._entries

    assert usage_store.report(session_id).observation.allowed == 3
    assert usage_store.store.last_allow_ms(session_id) == AT
    del usage_store.sessions[session_id]
    assert usage_store.report(session_id).session.purpose == "weekly report"


def test_late_uses_of_what_was_let_go_are_added_to_its_file(usage_store: StoreFixture) -> None:
    """They are counted on, and the file is not written for each of them."""
    session_id = usage_store.open(1)
    usage_store.add(observed(session_id, block("r")))
    usage_store.end(session_id)
    usage_store.tend()
    file = usage_store.folder / f"{session_id.hex()}.usage"
    before = file.stat().st_mtime_ns
    for _ in range(3):
        usage_store.add(observed(session_id, late=claimed(2)))
        usage_store.tend(1_000)
    assert file.stat().st_mtime_ns == before
    usage_store.tend(QUIET_MS)
    usage_store.open_store()

    assert usage_store.report(session_id).observation.late[0].count == 6


def test_a_full_memory_gives_way_to_what_lives(tmp_path: Path) -> None:
    """The first to end is evicted first; among live sessions the next is lost, and all reports say so."""
    usage_store = StoreFixture(tmp_path, max_sessions=2)
    first, second, third, fourth = (usage_store.open(number) for number in range(4))
    usage_store.add(observed(first, block("r")), observed(second, block("r")))
    usage_store.end(first)
    usage_store.tend()
    usage_store.add(observed(third, block("r")))
    assert set(usage_store.store._entries) == {second, third}
    usage_store.add(observed(fourth, block("r")))

    assert usage_store.report(fourth).observation.allowed == 0
    for session_id in (second, third, fourth):
        assert pb.MISSING_LOST in usage_store.report(session_id).missing
    assert usage_store.report(first).observation.allowed == 1


def test_one_session_takes_no_more_than_its_share(tmp_path: Path) -> None:
    """Beyond it counts go on, and what finds no room is counted as lost."""
    usage_store = StoreFixture(tmp_path, max_session_bytes=5_000)
    session_id = usage_store.open(1)
    for number in range(50):
        usage_store.add(observed(session_id, block(f"r{number}")))
    report = usage_store.report(session_id)

    assert report.observation.allowed == 50
    assert 0 < len(report.observation.blocks) < 50
    assert report.observation.lost == 50 - len(report.observation.blocks)
    assert pb.MISSING_LOST in report.missing


def test_a_usage_record_is_weighed_by_what_is_in_it(tmp_path: Path) -> None:
    """The same calls told a thousand times take no more room than once; other ones do until there is none."""
    usage_store = StoreFixture(tmp_path, max_session_bytes=200_000)
    session_id = usage_store.open(1)
    for _ in range(1_000):
        told = observed(session_id, block("r"))
        told.usage = usage("files/a")
        told.usage_bytes = len(told.usage.to_json())
        usage_store.add(told)
    report = usage_store.report(session_id)
    assert (report.observation.lost, report.observation.allowed) == (0, 1_000)
    assert b'"allowed":[1000,' in report.observation.usage

    told = observed(session_id, block("r"))
    told.usage = usage(*(f"files/{number}" for number in range(30)), arguments=b'{"a":"' + b"x" * 900 + b'"}')
    told.usage_bytes = 300_000
    usage_store.add(told)
    assert usage_store.report(session_id).observation.lost == 30


def test_a_folder_that_is_none_names_the_setting(tmp_path: Path) -> None:
    """The server does not start by it, and says which key is wrong."""
    (tmp_path / "usage").write_text("")
    with pytest.raises(ConfigError, match=r"usage\.dir: .* can't be read: Not a directory"):
        UsageFiles(tmp_path / "usage", max_files=1, max_bytes=1)
    (tmp_path / "other" / ".x.new").mkdir(parents=True)
    assert not UsageFiles(tmp_path / "other", max_files=1, max_bytes=1).session_ids()


def test_files_are_bounded_and_the_oldest_go_first(tmp_path: Path) -> None:
    """Number, bytes, and after a restart the age bound the files."""
    usage_store = StoreFixture(tmp_path, max_sessions=3, keep_ms=1_000)
    ids = [usage_store.open(number) for number in range(5)]
    for session_id in ids:
        usage_store.add(observed(session_id, block("r")))
        usage_store.end(session_id)
        usage_store.tend()
    assert [session_id in usage_store.files for session_id in ids] == [False, False, True, True, True]

    small = UsageFiles(tmp_path / "small", max_files=10, max_bytes=100)
    for session_id in ids:
        small.write(session_id, bytes(40))
    assert (len(small), ids[-1] in small) == (1, True)
    assert len(list((tmp_path / "small").iterdir())) == 1

    # A disk that is quick writes files of one time.
    for second, session_id in enumerate(ids[2:]):
        os.utime(usage_store.folder / f"{session_id.hex()}.usage", (second, second))
    usage_store.open_store()
    usage_store.files.remove_older(usage_store.files._files[ids[-1]][1])
    assert [session_id in usage_store.files for session_id in ids] == [False] * 4 + [True]


def test_files_that_cant_be_used_are_as_none(usage_store: StoreFixture) -> None:
    """Torn, foreign and half-written ones do no harm, and no report is made up from them."""
    session_id, other = usage_store.open(1), usage_store.open(2)
    for one in (session_id, other):
        usage_store.add(observed(one, block("r")))
        usage_store.end(one)
    usage_store.tend()
    (usage_store.folder / f"{session_id.hex()}.usage").write_bytes(b"sessauth/usage/1\n\xff\xff")
    (usage_store.folder / f"{other.hex()}.usage").write_bytes(b"something else")
    (usage_store.folder / f".{other.hex()}.usage.ab.new").write_bytes(b"half")
    (usage_store.folder / "notes.usage").write_bytes(b"")
    usage_store.clock.advance(1)
    usage_store.open_store()

    for one in (session_id, other):
        report = usage_store.report(one)
        assert (report.observation.allowed, pb.MISSING_BEFORE in report.missing) == (0, True)
    assert not list(usage_store.folder.glob("*.new"))


def test_what_was_lost_touches_sessions_that_lived_then(usage_store: StoreFixture) -> None:
    """Decisions were lost before it was known of which session: all that lived then say so, no later ones."""
    before, living = usage_store.open(1), usage_store.open(2)
    usage_store.add(observed(before, block("r")), observed(living, block("r")))
    usage_store.end(before)
    usage_store.clock.advance(10)
    usage_store.add(lost=5)
    usage_store.clock.advance(10)
    later = usage_store.open(3)
    usage_store.sessions[later] = replace(
        usage_store.sessions[later], opened_at_ms=usage_store.clock.now_ms()
    )
    missing = {one: pb.MISSING_LOST in usage_store.report(one).missing for one in (before, living, later)}

    assert missing == {before: False, living: True, later: False}


def test_a_disk_that_takes_nothing_loses_nothing_yet(usage_store: StoreFixture) -> None:
    """A failed write stays in memory and is tried again; a stop does not claim that all was written."""
    session_id = usage_store.open(1)
    usage_store.add(observed(session_id, block("r")))
    usage_store.end(session_id)
    usage_store.folder.parent.joinpath("usage").write_text("a file in the way")
    usage_store.tend(QUIET_MS * 2)
    assert usage_store.report(session_id).observation.allowed == 1
    usage_store.store.close()
    assert usage_store.folder.read_text() == "a file in the way"
    usage_store.folder.unlink()
    usage_store.tend()

    assert session_id in usage_store.files


def test_a_full_disk_is_logged_once_a_minute(
    usage_store: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ended sessions can't be written, one line a minute says so, and counts the others."""
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(store, "event", lambda level, name, **fields: lines.append({"event": name, **fields}))

    def refuse(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(usage_store.files, "write", refuse)
    for number in range(1, 4):
        session_id = usage_store.open(number)
        usage_store.add(observed(session_id, block("r")))
        usage_store.end(session_id)

    for _ in range(5):
        usage_store.tend(1_000)
    assert [line["event"] for line in lines] == ["usage_not_written"]

    usage_store.tend(store.NOT_WRITTEN_MS)
    assert len(lines) == 2
    assert lines[1]["not_logged"] >= 4


def test_a_stop_does_not_wait_for_a_slow_disk(
    usage_store: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Usage that is not written in time is lost, and the next start reports the gap."""
    ids = [usage_store.open(number) for number in range(1, 51)]
    usage_store.add(*(observed(session_id, block("r")) for session_id in ids))
    write = usage_store.files.write

    def slow(session_id: bytes, data: bytes) -> None:
        time.sleep(0.05)
        write(session_id, data)

    monkeypatch.setattr(usage_store.files, "write", slow)
    monkeypatch.setattr(store, "CLOSING_SECONDS", 0.12)
    usage_store.store.close()
    written = len(usage_store.files)
    usage_store.clock.advance(1)
    usage_store.open_store()

    assert 1 <= written < 50
    assert {pb.MISSING_BEFORE in usage_store.report(session_id).missing for session_id in ids} == {True}
