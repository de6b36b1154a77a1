"""Retention removes old files of an audit folder and records that; verification holds it to the records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth._fast import _codec as codec
from sessauth.audit import layout
from sessauth.audit.layout import AuditKey, checkpoint_body
from sessauth.audit.verify.lines import AuditReport, FindingKind
from sessauth.audit.verify.verify import verify
from sessauth.audit.write.retention import CHECK_MS, DAY_MS, AuditRetention, RetentionLimits
from sessauth.audit.write.stream import AuditStream, StreamOptions
from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from tests.support.changes import NOW

ROTATE = 4_096
RECORD = layout.body("lost", {"at_ms": NOW, "count": 0, "since_ms": 0, "why": "x" * 500})


class Log:
    """An audit folder, with a control stream that names the others."""

    def __init__(self, folder: Path) -> None:
        """Begin the control stream."""
        self.folder = folder
        self.clock = FixedClock(NOW)
        self.control = self.stream("control", index=True)

    def stream(self, process: str, *, index: bool = False) -> AuditStream:
        """Begin a stream."""
        return AuditStream.open_new(
            self.folder,
            process=process,
            audience="",
            cluster_id=b"c" * 16,
            incarnation=b"i" * 16,
            options=StreamOptions(rotate_bytes=ROTATE, fsync_ms=0, checkpoint_ms=1_000),
            clock=self.clock,
            index=index,
        )

    def fill(self, stream: AuditStream, files: int) -> None:
        """Write until the stream has begun so many further files."""
        path, begun = stream.path, 0
        while begun < files:
            self.clock.advance(10)
            stream.append(RECORD.replace(str(NOW).encode(), str(self.clock.now_ms()).encode()))
            begun, path = begun + (stream.path != path), stream.path

    def tick(self) -> None:
        """Let a checkpoint pass: the control stream names the others, from the second time on."""
        self.clock.advance(1_001)
        self.control.tick(self.clock.now_ms())

    def retain(self, **limits: int) -> None:
        """Apply limits once."""
        AuditRetention(self.folder, RetentionLimits(**limits)).apply(
            self.control, self.clock.now_ms(), self.clock.steady_ms()
        )

    def files(self, stream: AuditStream) -> list[int]:
        """Return the numbers of a stream's files."""
        return list(layout.files(self.folder).get(stream.stream_id, {}))

    def verified(self) -> AuditReport:
        """Verify the folder."""
        return verify(self.folder)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """An audit folder."""
    made = Log(tmp_path / "audit")
    yield made
    made.control.close()


def _kinds(report: AuditReport) -> set[FindingKind]:
    return {finding.kind for finding in report.findings} - {FindingKind.LOST, FindingKind.OPEN}


def test_old_files_go_and_the_log_stays_intact(log: Log) -> None:
    """The oldest go first; a note names the record of their removal."""
    log.fill(log.control, 5)

    log.retain(files=3)

    assert log.files(log.control) == [3, 4, 5]
    assert log.verified().intact
    # A record that is carried on is no step back of the clock.
    assert _kinds(log.verified()) == {FindingKind.EXPIRED}


@pytest.mark.parametrize(
    ("limits", "why"), [({"days": 2}, "keep_days"), ({"total_bytes": 3 * ROTATE}, "keep_bytes")]
)
def test_days_and_bytes_are_limits_too(log: Log, limits: dict[str, int], why: str) -> None:
    """The record says which one was exceeded."""
    log.fill(log.control, 4)
    log.clock.advance(3 * DAY_MS)
    log.fill(log.control, 1)

    log.retain(**limits)

    left = log.files(log.control)
    assert 0 < len(left) < 6
    assert left[-1] == 5
    assert f'"why":"audit.{why}"'.encode() in log.control.path.read_bytes()
    assert log.verified().intact


def test_without_limits_nothing_goes(log: Log) -> None:
    """The default."""
    log.fill(log.control, 3)
    log.clock.advance(1_000 * DAY_MS)

    log.retain()

    assert log.files(log.control) == [0, 1, 2, 3]


def test_a_file_that_is_written_stays(log: Log) -> None:
    """A stream that runs, or was killed, has no signed end in its last file."""
    worker = log.stream("worker-0")
    log.fill(worker, 1)
    log.clock.advance(9 * DAY_MS)

    log.retain(days=1, files=1)

    assert log.files(worker) == [1]
    assert log.files(log.control) == [0]


def test_a_whole_stream_goes(log: Log) -> None:
    """It was named by the control stream, and its removal is no finding."""
    worker = log.stream("worker-0")
    log.fill(worker, 2)
    worker.close()
    for _ in range(3):
        log.tick()
    log.clock.advance(2 * DAY_MS)

    log.retain(days=1)

    assert log.files(worker) == []
    assert log.verified().intact


def test_a_removal_that_nobody_recorded_is_found(log: Log) -> None:
    """One of the beginning of a stream, and one of a whole stream whose name was carried on."""
    worker = log.stream("worker-0")
    log.fill(worker, 1)
    for _ in range(3):
        log.tick()
    named = log.control.path
    log.fill(log.control, 3)
    log.clock.advance(2 * DAY_MS)
    log.fill(log.control, 2)
    log.retain(days=1)
    assert log.verified().intact
    assert not named.exists()
    files = layout.files(log.folder)

    for path in files[worker.stream_id].values():
        path.unlink()
    assert FindingKind.MISSING_STREAM in _kinds(log.verified())
    files[log.control.stream_id][min(files[log.control.stream_id])].unlink()
    assert FindingKind.MISSING_FILE in _kinds(log.verified())


def test_a_record_that_is_not_signed_explains_nothing(log: Log) -> None:
    """Anybody who can write to the folder can chain a line; nobody without the key can sign it."""
    worker = log.stream("worker-0")
    log.fill(worker, 2)
    for _ in range(3):
        log.tick()
    first = layout.files(log.folder)[worker.stream_id][0]
    retention = AuditRetention(log.folder, RetentionLimits(files=1))
    (forged,) = [file for file, _ in retention.due(log.clock.now_ms()) if file.path == first]

    log.control.append(forged.body(log.clock.now_ms(), "audit.keep_files"))
    first.unlink()

    assert FindingKind.MISSING_FILE in _kinds(log.verified())
    # Signed, it stands.
    log.tick()
    assert log.verified().intact


def test_a_removal_of_another_file_of_that_name_is_found(log: Log) -> None:
    """The chain of the record must be the one that the next file goes on from."""
    worker = log.stream("worker-0")
    log.fill(worker, 3)
    log.retain(files=3)
    left = layout.files(log.folder)[worker.stream_id]
    assert log.verified().intact

    left[min(left)].unlink()

    assert FindingKind.MISSING_FILE in _kinds(log.verified())


def test_records_outlive_their_file(log: Log) -> None:
    """Records that other streams need are carried on: of one with files left, and of one that is gone."""
    gateway, worker = log.stream("gateway"), log.stream("worker-0")
    log.fill(gateway, 2)
    log.fill(worker, 1)
    worker.close()
    for _ in range(3):
        log.tick()
    log.clock.advance(2 * DAY_MS)
    log.retain(days=1)
    assert (log.files(gateway), log.files(worker)) == ([2], [])
    recorded = log.control.path

    for _ in range(3):
        log.fill(log.control, 2)
        log.clock.advance(2 * DAY_MS)
        log.fill(log.control, 1)
        log.retain(days=1)
        assert log.verified().intact, log.verified().faults

    assert not recorded.exists()
    assert log.files(gateway) == [2]


def test_a_file_that_was_changed_is_not_removed(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """A forged record in it would be signed anew; and it is evidence."""
    gateway = log.stream("gateway")
    log.fill(gateway, 2)
    log.retain(files=2)
    changed = log.control.path
    log.fill(log.control, 1)
    data = changed.read_bytes()
    changed.write_bytes(data.replace(b'"process":"control"', b'"process":"comtrol"'))

    log.clock.advance(3 * DAY_MS)
    log.retain(days=1)

    assert changed.exists()
    assert "is not what was written" in caplog.text
    assert not log.verified().intact


def test_a_forged_end_removes_nothing(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """A writer to the folder can end another's file, long ago; its removal is not signed."""
    worker = log.stream("worker-0")
    worker.append(RECORD)
    for _ in range(3):
        log.tick()
    data, ancient = worker.path.read_bytes(), log.clock.now_ms() - 9 * DAY_MS
    count = data.count(b"\n")
    end = layout.body("end", {"at_ms": ancient, "next": -1})
    key, last = AuditKey.generate(), bytes.fromhex(data[-67:-3].decode())
    sealed, head, _ = codec.seal(end, count, last)
    signed = checkpoint_body(key, worker.stream_id, count + 1, head, ancient)
    worker.path.write_bytes(data + sealed + codec.seal(signed, count + 1, head)[0])

    log.retain(days=1)

    assert worker.path.exists() and "is not what was written" in caplog.text
    assert not log.verified().intact


def test_files_that_an_earlier_key_signed_go_too(log: Log) -> None:
    """A log whose key was changed: the register of the state knows the earlier ones."""
    worker = log.stream("worker-0")
    log.fill(worker, 1)
    earlier = {log.control.key.key_id: log.control.key.public_key}
    log.control.close()
    log.clock.advance(2 * DAY_MS)
    (log.folder / layout.KEY_FILE).unlink()
    log.control = log.stream("control", index=True)
    for keys, left in ((None, 1), (earlier, 0)):
        AuditRetention(log.folder, RetentionLimits(days=1), keys).apply(log.control, log.clock.now_ms(), 0)
        assert (log.folder / layout.file_name(worker.stream_id, 0)).exists() == left

    assert FindingKind.FOREIGN not in _kinds(log.verified())


def test_a_kill_between_record_and_removal_does_no_harm(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next pass records it again and removes it."""
    log.fill(log.control, 4)

    def fail(path: Path, missing_ok: bool = False) -> None:
        raise OSError(5, "killed")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        log.retain(files=3)
    assert log.files(log.control) == [0, 1, 2, 3, 4]
    assert log.verified().intact

    log.retain(files=3)

    assert log.files(log.control) == [2, 3, 4]
    assert log.verified().intact


def test_it_looks_once_a_minute(log: Log) -> None:
    """The clock of the interval is the steady one."""
    retention = AuditRetention(log.folder, RetentionLimits(files=2))
    now_ms = log.clock.now_ms()
    log.fill(log.control, 3)
    retention.apply(log.control, now_ms, 0)
    log.fill(log.control, 3)

    retention.apply(log.control, now_ms, CHECK_MS - 1)
    assert len(log.files(log.control)) == 5
    retention.apply(log.control, now_ms, CHECK_MS)
    assert len(log.files(log.control)) == 2


def test_a_folder_is_verified_while_files_go(log: Log) -> None:
    """A file that was listed and is gone is no fault: the folder is read again."""
    log.fill(log.control, 6)
    removed: list[int] = []

    def progress(done: int, total: int) -> None:
        if not removed:
            removed.append(total)
            log.retain(files=2)

    report = verify(log.folder, on_progress=progress)

    assert removed == [7]
    assert report.intact
    assert len(report.streams[0].files) == 2


def test_a_folder_whose_files_keep_going_is_an_error(log: Log) -> None:
    """It ends, and says so."""
    log.fill(log.control, 6)

    def progress(done: int, total: int) -> None:
        if done == 1:
            files = layout.files(log.folder)[log.control.stream_id]
            files[sorted(files)[1]].unlink()

    with pytest.raises(StateUnusable, match="while they are read"):
        verify(log.folder, on_progress=progress)
