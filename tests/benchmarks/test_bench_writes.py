"""Writes: what callers did is durable, fsyncs are counted as they happen, and a disk in memory is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import budgets
from benchmarks.stages.threads import timing, together
from benchmarks.writes import rows
from benchmarks.writes.change_kinds import END, KINDS, OPEN_MINT, REVOKE, Log
from benchmarks.writes.disk import SyncedWrites, file_system
from benchmarks.writes.rounds import Drive, Rounds
from sessauth.errors import Rejected
from sessauth.model.session import SessionStatus
from sessauth.state.writer.state_writer import StateWriter
from tests.support.service import home_folder


def test_every_kind_of_change_is_in_the_state_when_its_callers_return(tmp_path: Path) -> None:
    """Sessions that were opened are live, ended ones ended, and each block is revoked."""
    with StateWriter.open(tmp_path / "state", create=True) as writer:
        log = Log(writer)
        made = {kind: log.prepare(kind, 24) for kind in KINDS}
        before = writer.head().revision
        for kind in KINDS:
            latencies: list[float] = []
            commits = writer.stats.commits
            together(8, timing(log.work(kind), latencies), made[kind])
            assert len(latencies) == 24 and 0 < writer.stats.commits - commits <= 24

        assert writer.head().revision == before + 72
        for kind, status in ((OPEN_MINT, SessionStatus.ACTIVE), (END, SessionStatus.ENDED)):
            found = [writer.get_session(session_id) for session_id in made[kind]]
            assert [session.status for session in found if session is not None] == [status] * 24
        assert all(writer.is_revoked(session_id, block_id) for session_id, block_id in made[REVOKE])


def test_a_change_that_is_rejected_stops_the_run(tmp_path: Path) -> None:
    """Ending a session that is not there is no end to time."""
    with StateWriter.open(tmp_path / "state", create=True) as writer:
        log = Log(writer)
        with pytest.raises(Rejected, match="NOT_FOUND"):
            log.work(END)([bytes(16)])


def test_rows_of_fsyncs_are_judged_by_the_changes_that_shared_them() -> None:
    """512 changes with 16 fsyncs are 1 for 32, inside the budget of 1 for 8; with 128 they miss it."""
    table = budgets.load()

    def verdict(commits: int) -> str:
        drives = [Drive(512, 1e5, commits, [100.0] * 512) for _ in range(7)]
        (judged,) = budgets.judge([Rounds("writes/end-64", END, 64, drives).fsyncs()], table)
        return judged.verdict

    assert (verdict(16), verdict(128)) == (budgets.MET, budgets.MISSED)


def test_a_row_says_what_a_change_takes_and_how_many_there_are_a_second() -> None:
    """100 changes in 50 ms against a synced write of 250 us: 500 us each, twice the floor, 2,000 a second."""
    drives = [Drive(100, 50_000.0, 25, [400.0] * 100, cpu_us=20_000.0)] * 7
    measured = Rounds("writes/end-8", END, 8, drives, [250.0] * 7).measurement(rows.FLOOR)

    assert (measured.middle, measured.ratio, measured.p50_us) == (500.0, 2.0, 400.0)
    assert measured.extra == {"changes/s": 2000.0, "fsyncs/change": 0.25, "server CPU us": 200.0}


def test_the_floor_is_a_commit_for_each_row(tmp_path: Path) -> None:
    """Ten bare writes are ten transactions, each timed."""
    with SyncedWrites(tmp_path / "synced") as floor:
        before = floor._env.info()["last_txnid"]
        assert floor.round(10) > 0

        assert floor._env.info()["last_txnid"] == before + 10
        assert len(floor.latencies_us) == 10 and len(floor.rounds_us) == 1


def test_the_type_of_a_file_system_is_read_from_the_mounts(tmp_path: Path) -> None:
    """Found by device, behind a varying number of fields; unknown without a list of mounts."""
    device = tmp_path.stat().st_dev
    number = f"{device >> 8 & 0xFFF}:{device & 0xFF}"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 999:9 / /else rw shared:1 - ext4 /dev/x rw\n"
        f"22 1 {number} / /here rw shared:1 master:2 - tmpfs none rw\n"
    )

    assert file_system(tmp_path, mounts) == "tmpfs"
    assert file_system(tmp_path, tmp_path / "absent") == ""


def test_in_memory_nothing_is_synced_and_nothing_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row stands in the report with the reason, and none with a figure that no disk gave."""
    monkeypatch.setattr(rows, "file_system", lambda folder: "tmpfs")
    measured = list(rows.measurements(tmp_path, quick=True))

    assert {each.name for each in measured} >= {
        "writes/end-64",
        "writes/end-64-fsyncs",
        "writes/served-end-64",
    }
    assert all("tmpfs" in each.missing and not each.rounds for each in measured)


def test_a_server_is_counted_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits of a server process and its CPU time stand beside its changes; fewer commits than changes."""
    monkeypatch.setitem(rows.CHANGES[True], 64, 128)
    with home_folder() as folder:
        measured = {
            each.name: each for each in rows.measurements(folder, quick=True, only="served-revoke-64")
        }

    row, fsyncs = measured["writes/served-revoke-64"], measured["writes/served-revoke-64-fsyncs"]
    assert row.extra["server CPU us"] > 0 and row.samples == 7 * 128
    assert fsyncs.floor_rounds == (128.0,) * 7 and all(0 < each < 128 for each in fsyncs.rounds)
