"""The decisions that a console holds: of many files, of files that go, and from when on it has them all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sessauth.audit import layout
from sessauth.audit.read.query import Query
from sessauth.console import decision_log
from sessauth.console.decision_log import DecisionLog

STREAM = bytes(16)
SESSION = "ab" * 16


def _write(folder: Path, number: int, first_ms: int, count: int, stream: bytes = STREAM) -> Path:
    """Append decisions, a ms apart, to a file that was written when the last was made."""
    path = folder / layout.file_name(stream, number)
    with path.open("a") as file:
        for at_ms in range(first_ms, first_ms + count):
            record = {
                "kind": "decision",
                "session": SESSION,
                "allowed": True,
                "at_ms": at_ms,
                "action": "read",
            }
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
    os.utime(path, (path.stat().st_atime, (first_ms + count - 1) / 1000))
    return path


def _times(log: DecisionLog) -> list[int]:
    return [each.at_ms for each in log.find(Query(session=SESSION), 1_000)][::-1]


def test_the_newest_are_held_and_no_more_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest files of a folder are read; the log says from when on it lacks no decision."""
    monkeypatch.setattr(decision_log, "HELD", 100)
    for number in range(5):
        _write(tmp_path, number, 1_000 * (number + 1), 60)
    log = DecisionLog(tmp_path)
    log.entries = type(log.entries)(maxlen=100)
    read: list[Path] = []
    entries = log._entries
    monkeypatch.setattr(log, "_entries", lambda path, at: (read.append(path), entries(path, at))[1])
    assert log.read() == 120
    assert [layout.parse_name(path.name) for path in read] == [(STREAM, 4), (STREAM, 3)]
    assert _times(log) == [*range(4_020, 4_060), *range(5_000, 5_060)]
    assert log.whole_since_ms == 4_020

    _write(tmp_path, 4, 6_000, 10)
    assert log.read() == 10 and log.whole_since_ms == 4_030
    assert len(list(log.allowed_calls({SESSION}, 4_030))) == 100
    assert list(log.allowed_calls({"cd" * 16}, 0)) == []


def test_a_file_that_begins_before_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a long file is read; the log does not claim the part before it."""
    monkeypatch.setattr(decision_log, "FIRST_BYTES", 1_000)
    _write(tmp_path, 0, 1_000, 50)
    log = DecisionLog(tmp_path)
    log.read()
    assert 0 < len(_times(log)) < 50
    assert log.whole_since_ms == _times(log)[0] + 1


def test_a_file_that_goes_takes_no_other_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention removes a file while the folder is read: the decisions of the others are there."""
    other = bytes([1]) * 16
    _write(tmp_path, 0, 1_000, 3)
    gone = _write(tmp_path, 0, 2_000, 3, other)
    log = DecisionLog(tmp_path)
    log.read()
    _write(tmp_path, 0, 3_000, 3)
    monkeypatch.setattr(
        layout, "files", lambda _: {STREAM: {0: tmp_path / layout.file_name(STREAM, 0)}, other: {0: gone}}
    )
    gone.unlink()
    assert log.read() == 3 and log.fault == ""
    assert _times(log)[-3:] == [3_000, 3_001, 3_002]
    monkeypatch.undo()
    log.read()
    assert gone not in log._read_to
