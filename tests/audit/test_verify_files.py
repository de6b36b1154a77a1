"""Damage to the files of a log is found, with its place; the exceptions are listed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sessauth._fast import _codec as codec
from sessauth.audit import layout
from sessauth.audit.layout import AuditKey
from sessauth.audit.verify.lines import FindingKind
from sessauth.audit.verify.verify import verify
from sessauth.clock import FixedClock
from sessauth.errors import KeyFolderError, StateUnusable
from tests.support.audit_log import (
    START_MS,
    Copy,
    decisions,
    kinds,
    open_stream,
    write_small,
)

RECORDS = int(os.environ.get("SESSAUTH_AUDIT_RECORDS", "20000"))


@pytest.fixture
def rotated(tmp_path: Path) -> list[Path]:
    """Give the files of a closed stream that has at least four."""
    first = write_small(tmp_path, batches=12, each=4, rotate_bytes=4096)
    files = sorted(tmp_path.glob(f"{first.name[:32]}-*"))
    assert len(files) >= 4
    assert verify(tmp_path).findings == ()
    return files


def test_a_missing_file_is_found(rotated: list[Path]) -> None:
    """Each file of a stream, removed: MISSING_FILE, and nothing else; a signed end names the last one."""
    copy = Copy.of(rotated[0].parent)
    for path in rotated:
        path.unlink()
        report = verify(path.parent)
        assert kinds(report) == [FindingKind.MISSING_FILE], path.name
        copy.restore()


def test_two_files_in_each_others_place_are_found(rotated: list[Path]) -> None:
    """Files that were renamed say themselves which they are."""
    first, second = rotated[1].read_bytes(), rotated[2].read_bytes()
    rotated[1].write_bytes(second)
    rotated[2].write_bytes(first)

    report = verify(rotated[0].parent)

    told = [(each.kind, each.file) for each in report.faults]
    assert (FindingKind.FOREIGN, rotated[1].name) in told
    assert (FindingKind.FOREIGN, rotated[2].name) in told


def test_a_log_of_somebody_else_is_foreign(tmp_path: Path) -> None:
    """A stream that another key signed, and a file that has no stream's name, are FOREIGN."""
    write_small(tmp_path / "ours")
    other = write_small(tmp_path / "theirs")
    (tmp_path / "ours" / other.name).write_bytes(other.read_bytes())
    (tmp_path / "ours" / "notes.jsonl").write_bytes(b"{}\n")

    report = verify(tmp_path / "ours")

    assert [(each.kind, each.file) for each in report.faults] == [
        (FindingKind.FOREIGN, "notes.jsonl"),
        (FindingKind.FOREIGN, other.name),
    ]


def test_a_cut_at_any_byte_of_the_last_line_is_a_torn_line(tmp_path: Path) -> None:
    """A process that dies in mid-line leaves a TORN line, which is a note with its place; the rest stands."""
    log = write_small(tmp_path, batches=2, close=False, checkpoint_ms=1_000)
    data = log.read_bytes()
    start = data.rfind(b"\n", 0, -1) + 1
    last = data.count(b"\n")
    for stop in range(start + 1, len(data)):
        log.write_bytes(data[:stop])
        report = verify(tmp_path)
        notes = [(each.kind, each.file, each.line) for each in report.notes]
        assert report.intact, stop
        assert (FindingKind.TORN, log.name, last) in notes, stop
        assert report.streams[0].count == last - 1


def test_a_cut_behind_the_last_checkpoint_is_only_an_open_end(tmp_path: Path) -> None:
    """Without an anchor a cut at the end of an open stream is as a crash: what is unsigned is told."""
    log = write_small(tmp_path, close=False)
    lines = log.read_bytes().splitlines(keepends=True)
    for count in range(2, len(lines)):
        log.write_bytes(b"".join(lines[:count]))
        report = verify(tmp_path)
        assert report.intact
        assert [each.kind for each in report.notes] == [FindingKind.OPEN]
        assert report.streams[0].count == count
        assert report.streams[0].signed <= count


def test_a_cut_is_found_by_an_anchor_outside(tmp_path: Path) -> None:
    """A head that was noted before and is no longer there is TRUNCATED; one that is there is not."""
    log = write_small(tmp_path)
    head = bytes.fromhex(verify(tmp_path).streams[0].head)
    lines = log.read_bytes().splitlines(keepends=True)

    assert verify(tmp_path, expected_heads=[head]).intact
    log.write_bytes(b"".join(lines[:-3]))
    report = verify(tmp_path, expected_heads=[head])
    assert kinds(report) == [FindingKind.TRUNCATED]


def _watched(folder: Path) -> tuple[Path, Path]:
    """Return the files of a worker's stream and of a control process's that named it, both running on."""
    clock = FixedClock(START_MS)
    control = open_stream(folder, clock, index=True, checkpoint_ms=5)
    worker = open_stream(folder, clock, process="worker-0", checkpoint_ms=5)
    for batch in range(4):
        worker.append(decisions(batch * 3, 3))
        clock.advance(5)
        worker.tick(clock.now_ms())
        control.tick(clock.now_ms())
    control.tick(clock.now_ms())
    clock.advance(5)
    control.tick(clock.now_ms())
    assert verify(folder).intact
    return worker.path, control.path


def test_a_stream_that_is_gone_is_missed(tmp_path: Path) -> None:
    """The control process names the other streams: one that is removed whole is MISSING_STREAM."""
    worker, control = _watched(tmp_path)
    worker.unlink()

    report = verify(tmp_path)

    assert kinds(report) == [FindingKind.MISSING_STREAM]
    assert report.faults[0].file == control.name
    line = control.read_bytes().splitlines()[report.faults[0].line - 1]
    assert json.loads(line)["kind"] == "stream"
    assert verify(tmp_path, since_ms=START_MS + 1_000).intact


def test_a_cut_of_a_named_stream_is_found(tmp_path: Path) -> None:
    """A cut of a worker's stream before the anchor of the control process is TRUNCATED."""
    worker, _ = _watched(tmp_path)
    lines = worker.read_bytes().splitlines(keepends=True)
    worker.write_bytes(b"".join(lines[:-2]))

    report = verify(tmp_path)

    assert [(each.kind, each.file) for each in report.faults] == [(FindingKind.TRUNCATED, worker.name)]


def _rechained(lines: list[bytes]) -> bytes:
    """Return lines with numbers and chains made anew, as anybody can who has no key."""
    bodies = b"".join(b"{" + line[line.index(b",") + 1 : -layout.TAIL_BYTES - 1] + b"}\n" for line in lines)
    return codec.seal(bodies, 0, bytes(32))[0]


def test_a_changed_line_with_a_new_chain_is_found_by_its_checkpoint(tmp_path: Path) -> None:
    """A changed line with new chains behind it breaks the next checkpoint: the key is missing."""
    log = write_small(tmp_path)
    lines = log.read_bytes().splitlines(keepends=True)
    assert _rechained(lines) == log.read_bytes()
    for index in range(len(lines)):
        changed = lines[index].replace(b'"at_ms":1', b'"at_ms":2')
        log.write_bytes(_rechained([*lines[:index], changed, *lines[index + 1 :]]))

        report = verify(tmp_path)
        assert FindingKind.BAD_CHECKPOINT in kinds(report), index
        assert index + 1 <= report.faults[0].line


def test_a_log_without_its_checkpoints_is_found(tmp_path: Path) -> None:
    """Without checkpoints, and with new chains, the file is UNSIGNED, or too long without one."""
    log = write_small(tmp_path, batches=3)
    lines = log.read_bytes().splitlines(keepends=True)
    bare = [line for line in lines if b'"kind":"checkpoint"' not in line]
    log.write_bytes(_rechained(bare))
    assert FindingKind.UNSIGNED in kinds(verify(tmp_path))

    late = [line.replace(b'"at_ms":1790000000', b'"at_ms":1790009000') for line in bare[4:]]
    log.write_bytes(_rechained([*lines[:2], *bare[1:4], *late]))
    assert kinds(verify(tmp_path)) == [FindingKind.UNSIGNED]


def test_lines_behind_a_signed_end_are_found(tmp_path: Path) -> None:
    """Nothing may follow the end of a stream, however well it is chained."""
    log = write_small(tmp_path)
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(_rechained([*lines, lines[3]]))

    report = verify(tmp_path)

    assert [(each.kind, each.line) for each in report.faults] == [(FindingKind.INTERLEAVED, len(lines) + 1)]


def test_a_key_from_outside_finds_what_was_signed_anew(tmp_path: Path) -> None:
    """A log that is signed again, with another audit.pub, is found by a key from elsewhere."""
    write_small(tmp_path / "ours")
    trusted = AuditKey.of_folder(tmp_path / "ours")
    write_small(tmp_path / "forged")

    assert verify(tmp_path / "forged").intact
    report = verify(tmp_path / "forged", keys={trusted.key_id: trusted.public_key})
    assert kinds(report) == [FindingKind.FOREIGN]
    assert verify(tmp_path / "ours", keys={trusted.key_id: trusted.public_key}).intact


def test_a_clock_that_is_set_back_is_a_note(tmp_path: Path) -> None:
    """A step of the wall clock inside of the log is told where it is, once, and is no fault."""
    clock = FixedClock(START_MS)
    stream = open_stream(tmp_path, clock)
    stream.append(decisions(100_000, 3) + decisions(0, 3) + decisions(4, 3))
    stream.close()

    report = verify(tmp_path)

    assert report.intact
    assert [(each.kind, each.line) for each in report.notes] == [
        (FindingKind.CLOCK_BACK, 6),
    ]


def test_what_the_log_says_it_lost_is_a_note(tmp_path: Path) -> None:
    """Decisions that could not be written are told, with how many."""
    stream = open_stream(tmp_path, FixedClock(START_MS))
    stream.append(layout.body("lost", {"at_ms": START_MS, "count": 12, "since_ms": START_MS, "why": "full"}))
    stream.close()

    report = verify(tmp_path)

    assert report.intact
    assert [each.kind for each in report.notes] == [FindingKind.LOST]
    assert "12 records" in report.notes[0].words


def test_a_retention_is_not_held_against_the_log(rotated: list[Path]) -> None:
    """The first files of a stream, removed, are not missed from a moment behind them on."""
    began = json.loads(rotated[2].read_bytes().splitlines()[0])["at_ms"]
    for path in rotated[:2]:
        path.unlink()

    assert kinds(verify(rotated[2].parent, since_ms=began - 1)) == [FindingKind.MISSING_FILE]
    assert verify(rotated[2].parent, since_ms=began).intact


def test_a_large_log_is_read_and_one_byte_found(tmp_path: Path) -> None:
    """A stream of many records in several files: intact, and one byte of it found in its line."""
    clock = FixedClock(START_MS)
    stream = open_stream(tmp_path, clock, rotate_bytes=4 << 20)
    for first in range(0, RECORDS, 500):
        stream.append(decisions(first, 500))
        clock.advance(500)
        stream.tick(clock.now_ms())
    stream.close()
    files = list(layout.files(tmp_path)[stream.stream_id].values())
    assert len(files) > 2
    report = verify(tmp_path)
    assert report.findings == ()
    assert report.streams[0].count == stream.count > RECORDS

    data = files[1].read_bytes()
    at = data.index(b"mcp/github", len(data) // 2)
    files[1].write_bytes(data[:at] + b"M" + data[at + 1 :])
    found = verify(tmp_path).faults
    assert [(each.kind, each.file, each.line) for each in found] == [
        (FindingKind.CHANGED, files[1].name, data.count(b"\n", 0, at) + 1)
    ]


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    """No folder is MISSING, a folder without a public key is a fault of the keys."""
    with pytest.raises(StateUnusable) as caught:
        verify(tmp_path / "nothing")
    assert caught.value.problem == "MISSING"

    with pytest.raises(KeyFolderError):
        verify(tmp_path)
