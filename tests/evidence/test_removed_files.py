"""Files that retention removed are no fault: the log has signed records of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sessauth.audit import layout
from sessauth.audit.write.retention import AuditRetention, RetentionLimits
from sessauth.audit.write.stream import AuditStream
from sessauth.clock import FixedClock
from sessauth.evidence.reader.findings import EvidenceFault
from tests.support.audit_log import START_MS, decisions, open_stream

from .test_hosts_and_writers import pack_of


class RetainedLog:
    """A control stream that names a worker's, which has several files and is closed."""

    def __init__(self, folder: Path) -> None:
        """Write it."""
        self.folder, self.clock = folder, FixedClock(START_MS)
        options = {"checkpoint_ms": 1_000, "fsync_ms": 0, "rotate_bytes": 4096}
        self.control = open_stream(folder, self.clock, index=True, **options)
        self.worker = open_stream(folder, self.clock, process="worker-0", **options)
        for number in range(12):
            self.worker.append(decisions(number * 4, 4))
            self.tick(self.worker)
        self.worker.close()
        self.tick()
        self.tick()

    def tick(self, *streams: AuditStream) -> None:
        """Let a checkpoint pass."""
        self.clock.advance(1_001)
        for stream in (self.control, *streams):
            stream.tick(self.clock.now_ms())

    def retain(self, **limits: int) -> int:
        """Apply limits once; return how many of the worker's files are left."""
        now_ms, steady_ms = self.clock.now_ms(), self.clock.steady_ms()
        AuditRetention(self.folder, RetentionLimits(**limits)).apply(self.control, now_ms, steady_ms)
        self.tick()
        return len(self.files())

    def files(self) -> list[Path]:
        """The worker's files."""
        return sorted(self.folder.glob(f"{self.worker.stream_id.hex()}-*.jsonl"))


@pytest.fixture
def retained(tmp_path: Path) -> RetainedLog:
    """A log with files that may be removed."""
    return RetainedLog(tmp_path / "audit")


def test_removed_files_are_named_and_no_fault(retained: RetainedLog, tmp_path: Path) -> None:
    """The first files of a stream are gone by a record: the rest is proven, and the gap is said."""
    before = len(retained.files())
    assert 0 < retained.retain(files=4) < before
    report = pack_of(tmp_path / "pack", retained.folder)

    assert (report.findings, report.expired) == ([], 1)


def test_a_removed_stream_is_named_and_no_fault(retained: RetainedLog, tmp_path: Path) -> None:
    """Nothing is left of a stream that another one names."""
    assert retained.retain(files=1) == 0
    report = pack_of(tmp_path / "pack", retained.folder)

    assert (report.findings, report.expired) == ([], 1)


def test_files_that_were_removed_by_hand_are_missing(retained: RetainedLog, tmp_path: Path) -> None:
    """One more file than the records have, and a whole stream without a record."""
    retained.retain(files=4)
    first, *rest = retained.files()
    first.unlink()
    one_more = pack_of(tmp_path / "one", retained.folder)
    for path in rest:
        path.unlink()
    all_gone = pack_of(tmp_path / "all", retained.folder)

    assert [each.kind for each in one_more.findings] == [EvidenceFault.MISSING_FILE]
    assert {each.kind for each in all_gone.findings} == {EvidenceFault.MISSING_STREAM}


def test_another_hosts_record_explains_nothing(retained: RetainedLog, tmp_path: Path) -> None:
    """Each host removes its own files: the key of one can't account for what is missing at another."""
    retained.retain(files=4)
    record = next(
        line
        for path in retained.folder.glob(f"{retained.control.stream_id.hex()}-*.jsonl")
        for line in path.read_bytes().splitlines()
        if b'"kind":"expired"' in line
    )
    gone, *_ = retained.files()
    forged = {**json.loads(record), "file": int(gone.stem[-6:]), "head": json.loads(_last(gone))["chain"]}
    del forged["n"], forged["chain"], forged["kind"]
    other = open_stream(tmp_path / "other", FixedClock(START_MS))
    other.append(layout.body("expired", forged))
    other.close()
    gone.unlink()

    report = pack_of(tmp_path / "pack", retained.folder, tmp_path / "other")
    assert [each.kind for each in report.findings] == [EvidenceFault.MISSING_FILE]
    # Recorded by its own host, it is no fault.
    retained.control.append(layout.body("expired", forged))
    retained.tick()
    assert pack_of(tmp_path / "own", retained.folder, tmp_path / "other").proven


def test_a_removed_stream_that_nobody_names_any_more_is_said(retained: RetainedLog, tmp_path: Path) -> None:
    """The stream that named it was removed too: the record of its removal is all that is left."""
    assert retained.retain(files=1) == 0
    for _ in range(60):
        retained.control.append(decisions(0, 4))
    retained.tick()
    retained.retain(files=1)
    assert len(list(retained.folder.glob("*.jsonl"))) == 1
    report = pack_of(tmp_path / "pack", retained.folder)

    # The control stream's own files, and the worker's stream.
    assert (report.findings, report.expired) == ([], 2)


def _last(path: Path) -> bytes:
    return path.read_bytes().splitlines()[-1]
