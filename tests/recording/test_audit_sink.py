"""The audit sink: effects of a full disk on records, health and calls, and their records."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit.recording.audit_sink import AuditSink
from sessauth.audit.recording.process import Recorder
from sessauth.audit.write.stream import DENY, LEAST_QUEUE_BYTES, AuditOptions
from sessauth.errors import StateUnusable, UsageError
from sessauth.reasons import Reason
from tests.support.recorded import Failing, RecordedVerifier, ids, records
from tests.vectors.world import child, root, token

VALID = token(root("read:files/**"), child("*:**"))


class World:
    """A tapped verifier, a stream that can be made to fail, and the recorder between them."""

    def __init__(self, folder: Path, *, room: int = 1 << 20, **options: Any) -> None:
        """Record into ``folder``."""
        self.folder = folder
        self.tapped = RecordedVerifier(room)
        self.options = AuditOptions(folder, **options)
        self.stream = Failing(self.tapped.open_stream(self.options))
        self.sink = AuditSink(
            lambda: self.stream,  # type: ignore[arg-type, return-value]
            self.options,
            self.tapped.decision_queue,
            clock=self.tapped.clock,
        )
        self.recorder = Recorder(self.tapped.decision_queue, [self.sink], clock=self.tapped.clock)

    def check(self, count: int = 1, resource: str = "files/a") -> list[str]:
        """Judge calls; returns the ids of their decisions."""
        return [self.tapped.check(VALID, resource).decision_id.hex() for _ in range(count)]

    def pass_ms(self, ms: int) -> None:
        """Let time pass, and the recorder take its turn."""
        self.tapped.clock.advance(ms)
        self.recorder.run_once()

    def close(self) -> None:
        """End the stream."""
        self.recorder.stop()
        self.sink.close()


def fill(ballast: Path) -> int:
    """Fill a file system; returns the number of the error that ends it."""
    try:
        with ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4_096))
    except OSError as error:
        return error.errno or 0


def test_decisions_are_written_in_their_order(tmp_path: Path) -> None:
    """Each decision stands once in the stream, in the order in which they were made."""
    world = World(tmp_path)
    made = world.check(3)
    world.pass_ms(50)
    made += world.check(2, "other")
    world.close()

    assert ids(records(tmp_path, "decision")) == made
    assert (world.sink.recorded, world.sink.lost, world.sink.healthy) == (5, 0, True)
    assert [record["kind"] for record in records(tmp_path)][-2:] == ["end", "checkpoint"]


def test_what_waits_for_a_full_disk_is_written_later(tmp_path: Path) -> None:
    """While the disk is full the stream is sick and records wait; then all of them are written."""
    world = World(tmp_path)
    world.stream.full = True
    made = world.check(3)
    world.pass_ms(50)
    assert (world.sink.healthy, world.sink.fault) == (False, "No space left on device")
    assert world.sink.waiting_bytes > 0
    made += world.check(2)
    world.pass_ms(50)
    world.stream.full = False
    world.pass_ms(500)

    assert (world.sink.healthy, world.sink.fault, world.sink.waiting_bytes) == (True, "", 0)
    world.close()
    assert ids(records(tmp_path, "decision")) == made
    assert records(tmp_path, "lost") == []


def test_what_finds_no_room_is_lost_and_said(tmp_path: Path) -> None:
    """More than may wait is lost; when the disk is well a record says how many, behind what waited."""
    world = World(tmp_path, queue_bytes=LEAST_QUEUE_BYTES)
    world.stream.full = True
    made = []
    for _ in range(20):
        made += world.check(300)
        world.pass_ms(50)
    lost = world.sink.lost
    assert 0 < lost < 6_000
    world.stream.full = False
    world.pass_ms(500)
    assert not world.sink.healthy
    world.pass_ms(2_000)
    assert world.sink.healthy
    made += world.check(1)
    world.close()

    written = [record for record in records(tmp_path) if record["kind"] in ("decision", "lost", "chain")]
    kept = ids(record for record in written if record["kind"] == "decision")
    assert kept == made[: 6_000 - lost] + made[6_000:]
    # A lost decision may have been the first of a chain.
    assert [record["kind"] for record in written][-3:] == ["lost", "chain", "decision"]
    assert (written[-3]["count"], written[-3]["since_ms"] > 0) == (lost, True)


def test_a_queue_that_overflows_is_recorded(tmp_path: Path) -> None:
    """Decisions that found no room in the queue are counted in the stream, and make it sick for a while."""
    world = World(tmp_path, room=8_192)
    world.check(200)
    world.pass_ms(50)
    assert not world.sink.healthy
    (record,) = records(tmp_path, "lost")
    assert record["count"] == world.sink.lost == world.tapped.decision_queue.lost > 0
    world.pass_ms(1_500)
    assert world.sink.healthy


class Wordless:
    """Makes no records: there is no memory for them."""

    def write(self, records: object) -> Any:
        """Fail."""
        raise MemoryError

    def forget_chains(self) -> None:
        """Do nothing."""


class Unreadable:
    """Changes of a log that can't be read."""

    seq = 0

    def bodies(self, now_ms: int) -> Any:
        """Fail."""
        raise StateUnusable("the state is gone")

    def store_position(self, seq: int) -> None:
        """Do nothing."""


def test_what_no_record_can_be_made_of_is_lost_and_said(tmp_path: Path) -> None:
    """Decisions whose records can't be made are counted like those that found no room."""
    world = World(tmp_path)
    text, world.sink._text = world.sink._text, Wordless()  # type: ignore[assignment]
    world.check(3)
    world.pass_ms(50)
    assert (world.sink.lost, world.sink.healthy, world.recorder.failures) == (3, False, 0)
    assert records(tmp_path, "lost")[0]["count"] == 3
    world.sink._text = text
    made = world.check(1)
    world.pass_ms(2_000)
    assert world.sink.healthy
    world.close()
    assert ids(records(tmp_path, "decision")) == made


def test_a_log_that_can_not_be_read_makes_it_sick(tmp_path: Path) -> None:
    """Changes that can't be recorded are as bad as a disk that is full: it is not said that all is well."""
    world = World(tmp_path)
    world.pass_ms(50)
    assert world.sink.healthy
    world.sink._changes = Unreadable()  # type: ignore[assignment]
    world.pass_ms(50)
    assert (world.sink.healthy, world.sink.fault) == (False, "the state is gone")
    made = world.check(2)
    world.sink._changes = None
    world.pass_ms(500)
    assert world.sink.healthy
    world.close()
    assert ids(records(tmp_path, "decision")) == made


@pytest.mark.parametrize("when_full", ["deny", "continue"])
def test_a_loss_counts_at_once(tmp_path: Path, when_full: str) -> None:
    """A disk that hangs holds up the recorder; a loss is seen all the same, and calls denied if asked for."""
    world = World(tmp_path, room=8_192, when_full=when_full)
    decisions = [world.tapped.check(VALID, "files/a") for _ in range(200)]
    lost = world.tapped.decision_queue.lost

    assert lost > 100
    assert (world.sink.lost, world.sink.healthy) == (0, False)
    allowed = [decision.allowed for decision in decisions]
    assert allowed == [True] * (200 - lost + 1) + [when_full != DENY] * (lost - 1)
    world.pass_ms(50)
    assert not world.sink.healthy
    world.pass_ms(1_500)
    assert world.sink.healthy
    assert world.tapped.check(VALID).allowed
    world.close()


@pytest.mark.parametrize("when_full", ["deny", "continue", "stop_minting"])
def test_calls_are_denied_only_where_that_is_asked_for(tmp_path: Path, when_full: str) -> None:
    """``deny`` allows no call while the stream is sick, and judges calls again afterwards."""
    world = World(tmp_path, when_full=when_full)
    world.stream.full = True
    world.check()
    world.pass_ms(50)
    decision = world.tapped.check(VALID)
    assert decision.allowed is (when_full != DENY)
    assert decision.reason is (Reason.AUDIT_UNAVAILABLE if when_full == DENY else Reason.ALLOWED)
    world.stream.full = False
    world.pass_ms(500)
    assert world.tapped.check(VALID).allowed
    world.close()
    assert decision.decision_id.hex() in ids(records(tmp_path, "decision"))


def test_a_start_on_a_full_disk(tmp_path: Path) -> None:
    """A process that starts on a full disk runs, sick, and begins its stream when there is room."""
    tapped, options, full = RecordedVerifier(), AuditOptions(tmp_path), [True]

    def open_stream() -> Any:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return tapped.open_stream(options)

    sink = AuditSink(open_stream, options, tapped.decision_queue, clock=tapped.clock)
    recorder = Recorder(tapped.decision_queue, [sink], clock=tapped.clock)
    assert not sink.healthy
    tapped.check(VALID)
    recorder.run_once()
    full.clear()
    tapped.clock.advance(500)
    recorder.run_once()
    later = tapped.check(VALID).decision_id.hex()
    recorder.run_once()
    sink.close()

    assert ids(records(tmp_path, "decision")) == [later]
    assert records(tmp_path, "lost")[0]["count"] == 1


def test_a_folder_that_can_not_be_used_is_told_at_once(tmp_path: Path) -> None:
    """An error that waiting can't cure ends the start."""
    options = AuditOptions(tmp_path / "file")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="exists"):
        AuditSink(lambda: RecordedVerifier().open_stream(options), options, RecordedVerifier().decision_queue)


def test_a_really_full_disk(tmp_path: Path) -> None:
    """A full file system of 256 KiB: nothing is half-written, and room heals it."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a tmpfs can't be mounted here")
    try:
        world = World(tmp_path)
        made = world.check(5)
        world.pass_ms(50)
        ballast = tmp_path / "ballast"
        assert fill(ballast) == errno.ENOSPC
        made += world.check(100)
        world.pass_ms(50)
        assert not world.sink.healthy
        assert all(record["kind"] for record in records(tmp_path))
        ballast.unlink()
        world.pass_ms(500)
        assert world.sink.healthy
        world.close()
        assert ids(records(tmp_path, "decision")) == made
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sample_allows", 1.5),
        ("queue_bytes", 1),
        ("when_full", "shrug"),
        ("rotate_bytes", 1),
        ("fsync_ms", -1),
        ("checkpoint_ms", 0),
    ],
)
def test_options_name_the_key(tmp_path: Path, key: str, value: Any) -> None:
    """An option out of range is refused by its name."""
    with pytest.raises(UsageError, match=f"audit.{key}"):
        AuditOptions(tmp_path, **{key: value})
    with pytest.raises(UsageError, match=r"audit\.dir"):
        AuditOptions("")
