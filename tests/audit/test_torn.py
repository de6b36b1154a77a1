"""A writer that is killed, and a disk that is really full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sessauth.audit import layout
from sessauth.audit.verify.lines import FindingKind
from sessauth.audit.verify.verify import verify
from sessauth.audit.write import stream as stream_file
from sessauth.clock import FixedClock
from tests.support.audit_log import START_MS, decisions, open_stream
from tests.support.service import wait_until

_WRITER = """
import sys
from pathlib import Path
from sessauth.clock import SystemClock
from tests.support.audit_log import decisions, open_stream

stream = open_stream(Path(sys.argv[1]), SystemClock(), rotate_bytes=200_000, checkpoint_ms=5, fsync_ms=5)
print("ready", flush=True)
number = 0
while True:
    stream.append(decisions(number, 7))
    stream.tick(SystemClock().now_ms())
    number += 7
"""


def test_a_killed_writer_leaves_a_log_that_stands(tmp_path: Path) -> None:
    """Killed at any moment: every whole line stands, at most the last one is torn, nothing is a fault."""
    root = Path(__file__).parents[2]
    for round_ in range(4):
        folder = tmp_path / str(round_)
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(folder)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(root)},
            cwd=root,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        # Some records, however slow the machine is; then any moment.
        assert wait_until(lambda folder=folder: _size(folder) > 20_000)
        time.sleep(0.03 * round_)
        writer.kill()
        writer.wait()
        writer.stdout.close()

        report = verify(folder)
        assert report.intact, report.faults
        notes = {each.kind for each in report.notes}
        assert FindingKind.OPEN in notes
        assert notes <= {FindingKind.OPEN, FindingKind.TORN, FindingKind.NOT_ENDED, FindingKind.CLOCK_BACK}
        (state,) = report.streams
        lines = b"".join(path.read_bytes() for path in state.files.values()).splitlines(keepends=True)
        assert state.count == sum(line.endswith(b"\n") for line in lines) > 2


def test_a_writer_that_dies_at_any_write_of_a_rotation_leaves_a_log_that_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before or after any write leaves an intact folder, with notes of the end."""
    stream = open_stream(tmp_path / "log", FixedClock(START_MS), rotate_bytes=4096)
    reports = []

    def pwrite(descriptor: int, data: memoryview, at: int) -> int:
        reports.append(verify(tmp_path / "log"))
        written = os.pwrite(descriptor, data, at)
        reports.append(verify(tmp_path / "log"))
        return written

    monkeypatch.setattr(stream_file, "os", SimpleNamespace(**{**vars(os), "pwrite": pwrite}))
    for number in range(40):
        stream.append(decisions(number, 1))
    stream.close()

    assert [report.faults for report in reports if not report.intact] == []
    assert len(layout.files(tmp_path / "log")[stream.stream_id]) > 2
    notes = {note.kind for report in reports for note in report.notes}
    assert notes == {FindingKind.OPEN, FindingKind.NOT_ENDED, FindingKind.TORN}


def test_a_log_that_is_rotated_while_it_is_read_stands(tmp_path: Path) -> None:
    """A file that was begun after the folder was listed is read too."""
    stream = open_stream(tmp_path, FixedClock(START_MS), rotate_bytes=4096)

    def write_until(file: int) -> None:
        while file not in layout.files(tmp_path)[stream.stream_id]:
            stream.append(decisions(0, 1))

    write_until(1)
    # After file 0 was read, file 1 ends and file 2 begins.
    report = verify(tmp_path, on_progress=lambda _read, _total: write_until(2))
    assert report.intact, report.faults
    assert set(report.streams[0].files) == {0, 1, 2}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.jsonl"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 256 KiB."""
    target = tmp_path / "disk"
    target.mkdir()
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(target)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
        if os.geteuid() == 0
        else False
    )
    if not mounted:
        pytest.skip("a small tmpfs can't be mounted here (needs root)")
    yield target
    subprocess.run(["umount", str(target)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    """Appends fail on a full file system, nothing is half-written, and all goes on with room."""
    clock = FixedClock(START_MS)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(150_000))
    stream = open_stream(small_disk / "audit", clock, rotate_bytes=20_000)
    written, failed = 0, 0
    while failed < 3:
        try:
            stream.append(decisions(written, 5))
            written += 5
        except OSError:
            failed += 1
    # It is the folder as it stands, with the disk still full.
    report = verify(small_disk / "audit")
    assert report.intact
    assert {each.kind for each in report.notes} == {FindingKind.OPEN}

    ballast.unlink()
    stream.append(decisions(written, 5))
    stream.close()
    assert verify(small_disk / "audit").findings == ()
    ids = [
        int(json.loads(line)["id"], 16)
        for path in sorted((small_disk / "audit").glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
        if b'"kind":"decision"' in line
    ]
    assert ids == list(range(written + 5))
