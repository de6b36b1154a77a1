from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit import layout
from sessauth.audit.layout import ArgumentsKey, AuditKey, public_keys
from sessauth.audit.verify.lines import FindingKind
from sessauth.audit.verify.verify import verify
from sessauth.audit.write import stream as stream_file
from sessauth.audit.write.stream import AuditStream, StreamOptions
from sessauth.clock import FixedClock
from sessauth.errors import KeyFolderError, UsageError
from tests.support.audit_log import START_MS, decisions, open_stream


@pytest.fixture
def clock() -> FixedClock:
    """Give a clock that the test moves."""
    return FixedClock(START_MS)


def _lines(stream: AuditStream, folder: Path) -> list[bytes]:
    files = layout.files(folder)[stream.stream_id].values()
    return b"".join(path.read_bytes() for path in files).splitlines()


def _kinds(stream: AuditStream, folder: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in _lines(stream, folder)]


def test_lines_are_chained_over_files(tmp_path: Path, clock: FixedClock) -> None:
    """Each line's chain is what docs/audit.md says, over the files of a stream, and numbers are dense."""
    stream = open_stream(tmp_path, clock, rotate_bytes=4096)
    for number in range(40):
        stream.append(layout.body("decision", {"at_ms": number, "text": "é" * 100}))
        clock.advance(1)
        stream.tick(clock.now_ms())
    stream.close()

    assert len(layout.files(tmp_path)[stream.stream_id]) > 2
    chain = bytes(32)
    lines = _lines(stream, tmp_path)
    for n, line in enumerate(lines):
        label = b"sessauth/audit-chain/v1\0"
        chain = hashlib.blake2b(label + chain + line[:-76], digest_size=32).digest()
        record = json.loads(line)
        assert (record["n"], record["chain"]) == (n, chain.hex())
    assert (stream.head, stream.count) == (chain, len(lines))


def test_every_file_begins_and_ends_signed(tmp_path: Path, clock: FixedClock) -> None:
    """A file is begin, checkpoint, …, end, checkpoint; the end names the next file, or -1."""
    stream = open_stream(tmp_path, clock, rotate_bytes=4096)
    for number in range(20):
        stream.append(decisions(number, 1))
    stream.close()

    files = layout.files(tmp_path)[stream.stream_id]
    previous = "00" * 32
    for number, path in files.items():
        records = [json.loads(line) for line in path.read_bytes().splitlines()]
        kinds = [record["kind"] for record in records]
        assert kinds[:2] == ["begin", "checkpoint"]
        assert kinds[-2:] == ["end", "checkpoint"]
        assert records[0]["previous"] == previous
        assert records[-2]["next"] == (number + 1 if number + 1 < len(files) else -1)
        previous = records[-1]["chain"]
        assert path.stat().st_mode & 0o777 == 0o640


def test_checkpoints_come_when_something_was_written(tmp_path: Path, clock: FixedClock) -> None:
    """A tick signs what was written since the last checkpoint, once it is due, and nothing else."""
    stream = open_stream(tmp_path, clock, checkpoint_ms=100)
    clock.advance(1_000)
    stream.tick(clock.now_ms())
    assert _kinds(stream, tmp_path) == ["begin", "checkpoint"]

    stream.append(decisions(0, 2))
    stream.tick(clock.now_ms())
    assert _kinds(stream, tmp_path)[2:] == ["decision"] * 2
    clock.advance(100)
    stream.tick(clock.now_ms())
    stream.tick(clock.now_ms())
    assert _kinds(stream, tmp_path)[2:] == ["decision", "decision", "checkpoint"]


def test_a_step_of_the_clock_holds_up_no_checkpoint(tmp_path: Path, clock: FixedClock) -> None:
    """Intervals are measured by the steady clock; the wall clock may be set."""
    stream = open_stream(tmp_path, clock, checkpoint_ms=100)
    stream.append(decisions(0, 1))
    clock.step(-3_600_000)
    clock.advance(100)
    stream.tick(clock.now_ms())

    assert _kinds(stream, tmp_path)[-1] == "checkpoint"
    assert verify(tmp_path).intact


def test_what_was_written_is_synced_in_time(
    tmp_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick syncs after fsync_ms; with 0 the append does."""
    synced: list[int] = []
    monkeypatch.setattr(stream_file.os, "fdatasync", synced.append)
    stream = open_stream(tmp_path, clock, fsync_ms=50)
    synced.clear()
    stream.append(decisions(0, 1))
    stream.tick(clock.now_ms())
    assert synced == []
    clock.advance(50)
    stream.tick(clock.now_ms())
    stream.tick(clock.now_ms() + 1)
    assert len(synced) == 1

    at_once = open_stream(tmp_path, clock, fsync_ms=0)
    synced.clear()
    at_once.append(decisions(0, 1))
    assert len(synced) == 1


class _Disk:
    """A disk that takes only some of what is written, then fails."""

    def __init__(self, room: int, error: int) -> None:
        self.room = room
        self._error = error

    def pwrite(self, descriptor: int, data: memoryview, at: int) -> int:
        if self.room == 0:
            raise OSError(self._error, os.strerror(self._error))
        part = data[: self.room]
        self.room -= len(part)
        return os.pwrite(descriptor, part, at)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], _Disk]:
    """Give a function that makes writes fail after so many bytes."""

    class Os:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

    def begin(room: int, error: int = errno.ENOSPC) -> _Disk:
        disk, fake = _Disk(room, error), Os()
        fake.pwrite = disk.pwrite
        monkeypatch.setattr(stream_file, "os", fake)
        return disk

    return begin


def test_a_failed_write_leaves_nothing(tmp_path: Path, clock: FixedClock, fail: Callable[..., _Disk]) -> None:
    """Wherever a write of some records stops, nothing of it is left, and it may be repeated."""
    stream = open_stream(tmp_path, clock)
    stream.append(decisions(0, 2))
    before = stream.path.read_bytes()
    bodies = decisions(2, 3)
    head, count = stream.head, stream.count
    for room in range(0, 3 * len(before) // 2, 13):
        disk = fail(room, errno.EIO if room % 2 else errno.ENOSPC)
        try:
            stream.append(bodies)
        except OSError:
            assert stream.path.read_bytes() == before
            assert (stream.head, stream.count) == (head, count)
            continue
        break
    else:
        pytest.fail("no room was enough")
    disk.room = 1 << 20
    stream.close()
    assert verify(tmp_path).findings == ()
    assert _kinds(stream, tmp_path).count("decision") == 5


def test_a_full_disk_at_a_rotation(tmp_path: Path, clock: FixedClock, fail: Callable[..., _Disk]) -> None:
    """Wherever the end of a file or the begin of the next one stops, the old file goes on."""
    stream = open_stream(tmp_path, clock, rotate_bytes=4096)
    while stream.path.stat().st_size < 4096:
        stream.append(decisions(0, 1))
    before = stream.path.read_bytes()
    for room in range(0, 10_000, 101):
        disk = fail(room)
        try:
            stream.append(decisions(7, 1))
        except OSError:
            files = layout.files(tmp_path)[stream.stream_id]
            if 1 not in files:
                assert files[0].read_bytes() == before
            continue
        break
    else:
        pytest.fail("no room was enough")
    disk.room = 1 << 20
    stream.append(decisions(8, 1))
    stream.close()
    assert verify(tmp_path).findings == ()
    records = [json.loads(line) for line in _lines(stream, tmp_path)]
    ids = [int(record["id"], 16) for record in records if record["kind"] == "decision"]
    assert ids[-2:] == [7, 8]
    assert ids.count(7) == 1


def test_a_checkpoint_on_a_full_disk_comes_later(
    tmp_path: Path, clock: FixedClock, fail: Callable[..., _Disk]
) -> None:
    """A tick that can't write says so, and the next one that can signs."""
    stream = open_stream(tmp_path, clock, checkpoint_ms=10)
    stream.append(decisions(0, 1))
    clock.advance(10)
    disk = fail(5)
    with pytest.raises(OSError):
        stream.tick(clock.now_ms())
    disk.room = 1 << 20
    stream.tick(clock.now_ms())

    assert _kinds(stream, tmp_path) == ["begin", "checkpoint", "decision", "checkpoint"]


def test_a_disk_that_fails_to_sync_gets_another_file(
    tmp_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written behind a failed sync, whose result on the disk is unknown."""
    stream = open_stream(tmp_path, clock, fsync_ms=10)
    stream.append(decisions(0, 1))
    clock.advance(10)

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(stream_file.os, "fdatasync", broken)
        with pytest.raises(OSError):
            stream.tick(clock.now_ms())
    stream.append(decisions(1, 1))
    stream.close()

    report = verify(tmp_path)
    assert report.intact
    assert [each.kind for each in report.notes] == [FindingKind.NOT_ENDED]
    assert len(layout.files(tmp_path)[stream.stream_id]) == 2


@pytest.mark.parametrize("do", ["remove", "cut", "append"])
def test_a_file_that_others_touch_is_left(tmp_path: Path, clock: FixedClock, do: str) -> None:
    """A file that was removed, cut or appended to is noticed when it is synced, and found by verify."""
    stream = open_stream(tmp_path, clock, fsync_ms=10)
    stream.append(decisions(0, 2))
    path = stream.path
    if do == "remove":
        path.unlink()
    elif do == "cut":
        os.truncate(path, path.stat().st_size - 500)
    else:
        with path.open("ab") as file:
            file.write(b"what else\n")
    clock.advance(10)
    with pytest.raises(OSError):
        stream.tick(clock.now_ms())
    stream.append(decisions(2, 1))
    stream.close()

    report = verify(tmp_path)
    expected = {
        "remove": FindingKind.MISSING_FILE,
        "cut": FindingKind.REMOVED,
        "append": FindingKind.FOREIGN,
    }
    assert expected[do] in [each.kind for each in report.faults]


def test_a_closed_stream_takes_nothing(tmp_path: Path, clock: FixedClock) -> None:
    """An append after close is refused; closing and ticking again do nothing."""
    stream = open_stream(tmp_path, clock)
    stream.close()
    before = stream.path.read_bytes()
    stream.close()
    stream.tick(clock.now_ms())
    with pytest.raises(UsageError):
        stream.append(decisions(0, 1))
    assert stream.path.read_bytes() == before


def test_bodies_of_another_form_are_refused(tmp_path: Path, clock: FixedClock) -> None:
    """Other bytes change nothing."""
    stream = open_stream(tmp_path, clock)
    for bodies in (b"x", b"{}\n", b'{"kind":"x"}', b'{"kind":"x"}\n{"n":1}\n', b'{"kind":"x\n"}\n'):
        with pytest.raises(ValueError):
            stream.append(bodies)
    assert stream.count == 2


@pytest.mark.parametrize("options", [{"rotate_bytes": 10}, {"fsync_ms": -1}, {"checkpoint_ms": 0}])
def test_options_out_of_range_are_refused(tmp_path: Path, clock: FixedClock, options: Any) -> None:
    """A refusal names the option, before anything is made."""
    with pytest.raises(UsageError, match=next(iter(options))):
        open_stream(tmp_path / "audit", clock, **options)
    assert not (tmp_path / "audit").exists()
    assert StreamOptions().rotate_bytes == 64 << 20


def test_many_processes_agree_on_the_keys(tmp_path: Path, clock: FixedClock) -> None:
    """The first process makes the keys; all that start at once sign with the same."""
    found: list[AuditStream] = []
    threads = [threading.Thread(target=lambda: found.append(open_stream(tmp_path, clock))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({stream.key.key_id for stream in found}) == 1
    assert len({stream.arguments_key.key_id for stream in found}) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".jsonl") == [
        "arguments.key",
        "audit.key",
        "audit.pub",
    ]
    assert verify(tmp_path).intact


def test_keys_are_their_owners_alone(tmp_path: Path, clock: FixedClock) -> None:
    """Secret files have mode 0600 and are refused with another; nothing shows what is in them."""
    stream = open_stream(tmp_path, clock)
    for name, load in (("audit.key", AuditKey.load), ("arguments.key", ArgumentsKey.load)):
        path = tmp_path / name
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o640)
        with pytest.raises(KeyFolderError, match="chmod 600"):
            load(path)
    secret = stream.arguments_key.secret.hex()
    assert secret not in repr(stream.arguments_key) + repr(stream.key)
    (tmp_path / "bad").write_text(secret[:50])
    (tmp_path / "bad").chmod(0o600)
    with pytest.raises(KeyFolderError) as caught:
        ArgumentsKey.load(tmp_path / "bad")
    assert secret[:8] not in str(caught.value)


def test_a_new_key_keeps_the_old_one_public(tmp_path: Path, clock: FixedClock) -> None:
    """A log whose key was replaced still verifies: audit.pub keeps the keys before."""
    open_stream(tmp_path, clock).close()
    (tmp_path / "audit.key").unlink()
    open_stream(tmp_path, clock).close()

    assert len(public_keys(tmp_path / "audit.pub")) == 2
    assert verify(tmp_path).findings == ()


def test_argument_digests_are_keyed(tmp_path: Path, clock: FixedClock) -> None:
    """The digest of arguments is BLAKE2b-128 under the folder's key; without arguments there is none."""
    key = open_stream(tmp_path, clock).arguments_key
    expected = hashlib.blake2b(b'{"a":1}', key=key.secret, digest_size=16).hexdigest()

    assert key.digest(b'{"a":1}') == expected
    assert key.digest(b"") == ""
    assert ArgumentsKey(bytes(32)).digest(b'{"a":1}') != expected
