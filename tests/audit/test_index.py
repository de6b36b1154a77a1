"""The records of a folder's other streams in one stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit import layout
from sessauth.audit.write.stream import StreamIndex
from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from tests.support.audit_log import START_MS, decisions, open_stream

OWN = bytes(16)


def _recorded(index: StreamIndex) -> list[dict[str, Any]]:
    """Poll once more and return the new records, as written."""
    records = [json.loads(line) for line in index.poll(START_MS).splitlines()]
    index.acknowledge()
    return records


def test_a_stream_is_recorded_at_the_second_poll(tmp_path: Path) -> None:
    """The second poll records the lines and the head of the first; later polls only growth."""
    stream = open_stream(tmp_path, FixedClock(START_MS), process="worker-3")
    index = StreamIndex(tmp_path, OWN)

    assert _recorded(index) == []
    (record,) = _recorded(index)
    assert (record["stream"], record["process"]) == (stream.stream_id.hex(), "worker-3")
    assert (record["file"], record["count"], record["head"]) == (0, stream.count, stream.head.hex())
    assert _recorded(index) == []

    stream.append(decisions(0, 3))
    assert _recorded(index) == []
    (record,) = _recorded(index)
    assert (record["count"], record["head"]) == (stream.count, stream.head.hex())


def test_what_a_writer_takes_back_is_not_recorded(tmp_path: Path) -> None:
    """A line that is gone at the next poll is never recorded."""
    stream = open_stream(tmp_path, FixedClock(START_MS))
    index = StreamIndex(tmp_path, OWN)
    _recorded(index)
    before = stream.path.read_bytes()
    count = stream.count
    stream.append(decisions(0, 3))
    stream.append(decisions(3, 1))
    assert [record["count"] for record in _recorded(index)] == [count]
    stream.path.write_bytes(before + b'{"n":')

    assert [_recorded(index) for _ in range(3)] == [[], [], []]


def test_a_record_that_was_not_written_is_returned_again(tmp_path: Path) -> None:
    """Without an acknowledgement a poll returns the same again."""
    open_stream(tmp_path, FixedClock(START_MS))
    index = StreamIndex(tmp_path, OWN)
    index.poll(START_MS)

    assert index.poll(START_MS) == index.poll(START_MS) != b""


def test_rotation_and_retention_are_followed(tmp_path: Path) -> None:
    """The newest file counts; the removal of an older one does no harm."""
    stream = open_stream(tmp_path, FixedClock(START_MS), rotate_bytes=4096)
    index = StreamIndex(tmp_path, OWN)
    _recorded(index)
    first = stream.path
    for number in range(30):
        stream.append(decisions(number, 1))
    stream.close()
    first.unlink()

    assert _recorded(index) == []
    (record,) = _recorded(index)
    assert (record["file"], record["count"]) == (max(layout.files(tmp_path)[stream.stream_id]), stream.count)


@pytest.mark.parametrize("data", [b"", b"\n", b"rubbish\n", b'{"n":0,"kind":"x"}\n', b"x" * 200_000])
def test_files_without_a_record_are_passed_over(tmp_path: Path, data: bytes) -> None:
    """Files without a whole record are skipped."""
    (tmp_path / layout.file_name(b"s" * 16, 0)).write_bytes(data)
    index = StreamIndex(tmp_path, OWN)

    assert [_recorded(index), _recorded(index)] == [[], []]


def test_a_line_longer_than_the_first_read_is_found(tmp_path: Path) -> None:
    """The last line may be longer than the first read."""
    stream = open_stream(tmp_path, FixedClock(START_MS))
    stream.append(layout.body("decision", {"at_ms": 1, "text": "x" * 300_000}))
    index = StreamIndex(tmp_path, OWN)
    _recorded(index)

    assert [record["head"] for record in _recorded(index)] == [stream.head.hex()]


def test_a_folder_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    """Nothing is written where anybody could put files in between."""
    tmp_path.chmod(0o777)
    with pytest.raises(StateUnusable) as caught:
        open_stream(tmp_path, FixedClock(START_MS))
    assert caught.value.problem == "WRONG_MODE"
    assert list(tmp_path.iterdir()) == []
