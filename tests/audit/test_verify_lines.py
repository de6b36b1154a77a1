"""Damage to the lines of a file is found, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.audit.verify.lines import FindingKind
from sessauth.audit.verify.verify import verify
from tests.support.audit_log import judged, write_small


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give the file of a closed stream."""
    return write_small(tmp_path)


def _write(log: Path, lines: list[bytes]) -> None:
    log.write_bytes(b"".join(lines))


def test_an_untouched_log_is_intact(log: Path) -> None:
    """Nothing is found in what was written, and all of it is signed."""
    report = verify(log.parent)

    assert report.findings == ()
    (state,) = report.streams
    assert state.closed
    assert state.count == state.signed == len(log.read_bytes().splitlines())


def test_a_changed_byte_is_found_in_its_line(tmp_path: Path) -> None:
    """Bytes all over the file, changed: a fault in its line, or at a line feed in one of the two lines."""
    log = write_small(tmp_path, batches=1)
    data = log.read_bytes()
    missed = []
    # The last line feed is what a process may die before: told as a torn line, elsewhere.
    ends = [data.find(b"\n", at) - at for at in range(len(data))]
    for at in range(len(data) - 1):
        # The chains byte by byte, of what is between them every third.
        if at % 3 and ends[at] > 77:
            continue
        for other in (data[at] ^ 1, 10) if at % 7 == 0 else (data[at] ^ 1,):
            if other == data[at]:
                continue
            log.write_bytes(data[:at] + bytes([other]) + data[at + 1 :])
            line = data.count(b"\n", 0, at) + 1
            found = judged(log.parent)
            if not found or found[0][1] not in ({line, line + 1} if data[at] == 10 else {line}):
                missed.append((at, line, data[at : at + 1], bytes([other]), found))

    assert missed == []


def test_a_removed_line_is_found_where_it_stood(log: Path) -> None:
    """Each line but the last, removed: REMOVED at the line that stands there now, and nothing else."""
    lines = log.read_bytes().splitlines(keepends=True)
    for index in range(1, len(lines) - 1):
        _write(log, lines[:index] + lines[index + 1 :])

        found = verify(log.parent).faults
        assert [(each.kind, each.line, each.n) for each in found] == [(FindingKind.REMOVED, index + 1, index)]


def test_removed_runs_of_lines_are_found(log: Path) -> None:
    """Any run of lines inside, removed: REMOVED with the first number that is missing."""
    lines = log.read_bytes().splitlines(keepends=True)
    for first in range(1, len(lines) - 2):
        for stop in range(first + 1, len(lines) - 1):
            _write(log, lines[:first] + lines[stop:])

            found = verify(log.parent).faults
            assert [(each.kind, each.line, each.n) for each in found] == [
                (FindingKind.REMOVED, first + 1, first)
            ]


def test_a_line_that_was_moved_is_found(log: Path) -> None:
    """Each line moved to each other place: REORDERED, and nothing else."""
    lines = log.read_bytes().splitlines(keepends=True)
    wrong = []
    for index in range(1, len(lines)):
        rest = lines[:index] + lines[index + 1 :]
        for place in range(1, len(lines)):
            if place != index:
                _write(log, [*rest[:place], lines[index], *rest[place:]])
                found = judged(log.parent)
                if [kind for kind, _ in found] != [FindingKind.REORDERED]:
                    wrong.append((index, place, found))

    assert wrong == []


def test_a_line_put_in_is_found(log: Path) -> None:
    """A line twice, a line of another stream, and what is no record: at each place, told there."""
    lines = log.read_bytes().splitlines(keepends=True)
    other = write_small(log.parent / "other").read_bytes().splitlines(keepends=True)
    wrong = []
    for index in range(1, len(lines) + 1):
        for put, kind in (
            (lines[index - 1], FindingKind.INTERLEAVED),
            (lines[1], FindingKind.INTERLEAVED),
            (other[min(index, 5)], FindingKind.INTERLEAVED),
            (b'{"kind":"decision"}\n', FindingKind.FOREIGN),
            (b"\n", FindingKind.FOREIGN),
        ):
            _write(log, [*lines[:index], put, *lines[index:]])
            found = judged(log.parent)
            if [each for each, _ in found] != [kind] or found[0][1] not in (index, index + 1, index + 2):
                wrong.append((index, put[:30], found))

    assert wrong == []


def test_two_interleaved_streams_are_told_apart(log: Path) -> None:
    """The lines of another stream between ours: each run of them is INTERLEAVED, ours still stand."""
    ours = log.read_bytes().splitlines(keepends=True)
    theirs = write_small(log.parent / "other").read_bytes().splitlines(keepends=True)
    _write(log, [line for pair in zip(ours, theirs, strict=True) for line in pair])

    found = judged(log.parent)

    assert found == [(FindingKind.INTERLEAVED, 2 * index + 2) for index in range(len(ours))]
