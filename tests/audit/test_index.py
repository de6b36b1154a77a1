"""How one stream names the others of its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit import layout
from sessauth.audit.write.stream_index import StreamIndex
from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from tests.support.audit_log import START_MS, decisions, open_stream

OWN = bytes(16)


def _recorded(index: StreamIndex) -> list[dict[str, Any]]:
    """Poll once more and return the new records, as written."""
    records = [json.loads(line) for line in index.poll(START_MS).splitlines()]
    index.acknowledge()
    return records


def test_a_stream_is_told_once_it_was_seen_twice(tmp_path: Path) -> None:
    """At the second look, with the lines and the head of the first; then only when it has grown."""
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
    """A line that is there at one look and not at the next was never told."""
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


def test_what_could_not_be_written_is_told_again(tmp_path: Path) -> None:
    """Without told() a look gives the same once more."""
    open_stream(tmp_path, FixedClock(START_MS))
    index = StreamIndex(tmp_path, OWN)
    index.poll(START_MS)

    assert index.poll(START_MS) == index.poll(START_MS) != b""


def test_rotation_and_retention_are_followed(tmp_path: Path) -> None:
    """The newest file counts; that an older one was removed is nothing to stumble over."""
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
    """What has no whole record is no reason to stop, and nothing is told of it."""
    (tmp_path / layout.file_name(b"s" * 16, 0)).write_bytes(data)
    index = StreamIndex(tmp_path, OWN)

    assert [_recorded(index), _recorded(index)] == [[], []]


def test_a_line_longer_than_the_first_read_is_found(tmp_path: Path) -> None:
    """The last line may be longer than what is read at first."""
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
