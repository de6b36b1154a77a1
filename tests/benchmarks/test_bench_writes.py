"""Writes: what callers did is durable, fsyncs are counted as they happen, and a disk in memory is told."""

from __future__ import annotations

from pathlib import Path

from benchmarks import budgets
from benchmarks.writes.change_kinds import END
from benchmarks.writes.disk import file_system
from benchmarks.writes.rounds import Drive, Rounds


def test_rows_of_fsyncs_are_judged_by_the_changes_that_shared_them() -> None:
    """512 changes with 16 fsyncs are 1 for 32, inside the budget of 1 for 8; with 128 they miss it."""
    table = budgets.load()

    def verdict(commits: int) -> str:
        drives = [Drive(512, 1e5, commits, [100.0] * 512) for _ in range(7)]
        (judged,) = budgets.judge([Rounds("writes/end-64", END, 64, drives).fsyncs()], table)
        return judged.verdict

    assert (verdict(16), verdict(128)) == (budgets.MET, budgets.MISSED)


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
