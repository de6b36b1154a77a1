"""The recorder's thread: every sink gets every batch, whatever another one does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from sessauth._fast._check import DecisionRecord
from sessauth.audit.recording import process as recorder_module
from sessauth.audit.recording.process import ProcessRecorder, Recorder
from sessauth.audit.write.stream import AuditOptions
from sessauth.clock import FixedClock
from sessauth.model.change import Head
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.support.recorded import RecordedVerifier, ids, records
from tests.support.service import wait_until
from tests.vectors.world import NOW, root, token

VALID = token(root("read:files/**"))


class CollectingSink:
    """A sink that keeps what it was told."""

    def __init__(self, *, fails: bool = False) -> None:
        """Fail each time if asked to."""
        self.ids: list[bytes] = []
        self.lost = 0
        self.ticks = 0
        self.fails = fails

    def consume(self, records: Sequence[DecisionRecord], lost: int) -> None:
        """Store the ids."""
        if self.fails:
            raise RuntimeError("no")
        self.ids += [record.decision_id for record in records]
        self.lost += lost

    def tick(self, now_ms: int) -> None:
        """Count."""
        self.ticks += 1


def test_the_thread_takes_what_comes() -> None:
    """Records come to each sink in order, and at the stop the last of them."""
    tapped, sinks = RecordedVerifier(), [CollectingSink(), CollectingSink()]
    recorder = Recorder(tapped.decision_queue, sinks)
    recorder.start()
    made = [tapped.check(VALID).decision_id for _ in range(5)]
    assert wait_until(lambda: len(sinks[1].ids) == 5)
    made += [tapped.check(VALID).decision_id for _ in range(5)]
    recorder.stop()

    assert sinks[0].ids == sinks[1].ids == made
    assert sinks[0].ticks > 1
    assert tapped.decision_queue.on_half_full is None


def test_a_tap_that_fills_wakes_the_thread() -> None:
    """Far more records than the queue holds are consumed or counted as lost."""
    tapped, sink = RecordedVerifier(65_536), CollectingSink()
    recorder = Recorder(tapped.decision_queue, [sink])
    recorder.start()
    for _ in range(2_000):
        tapped.check(VALID)
    recorder.stop()

    assert len(sink.ids) + sink.lost == 2_000
    assert sink.lost == tapped.decision_queue.lost


def test_a_sink_that_fails_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The others get every batch; the failure is logged once a second."""
    clock = FixedClock(1_000_000)
    tapped, good = RecordedVerifier(), CollectingSink()
    recorder = Recorder(tapped.decision_queue, [CollectingSink(fails=True), good], clock=clock)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            tapped.check(VALID)
            recorder.run_once()
        clock.advance(1_000)
        tapped.check(VALID)
        recorder.run_once()

    assert (len(good.ids), recorder.failures) == (4, 4)
    assert len(caplog.records) == 2


class Hung(CollectingSink):
    """A sink on a disk that does not answer until it is let go."""

    def __init__(self) -> None:
        """Begin with a disk that hangs."""
        super().__init__()
        self.entered, self.let_go = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None

    def consume(self, records: Sequence[DecisionRecord], lost: int) -> None:
        """Wait."""
        self.thread = threading.current_thread()
        self.entered.set()
        assert self.let_go.wait(60)


def let_go(hung: Hung) -> None:
    """Have the disk answer again, and the thread end."""
    hung.let_go.set()
    assert hung.thread is not None
    hung.thread.join(60)
    assert not hung.thread.is_alive()


def test_a_disk_that_hangs_does_not_keep_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The stop gives up, says so, and leaves the sinks to the thread that is still in one."""
    monkeypatch.setattr(recorder_module, "STOP_SECONDS", 0.1)
    tapped, hung, after = RecordedVerifier(), Hung(), CollectingSink()
    recorder = Recorder(tapped.decision_queue, [hung, after])
    recorder.start()
    tapped.check(VALID)
    assert hung.entered.wait(60)
    ticks = after.ticks

    with caplog.at_level(logging.ERROR):
        stopped = recorder.stop()
    assert (stopped, after.ticks) == (False, ticks)
    assert "given up" in caplog.text
    let_go(hung)


def test_what_a_process_records_is_left_to_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream is not closed under the thread that writes it: no end is claimed."""
    monkeypatch.setattr(recorder_module, "STOP_SECONDS", 0.1)
    checker, hung = bulk_sessions.checker(), Hung()
    process = ProcessRecorder(checker, queue_bytes=1 << 20)
    process.open_audit(AuditOptions(tmp_path), Head(3, 3, b"c" * 16, b"i" * 16), "gateway")
    audit = process.audit
    assert audit is not None
    process.add(hung)
    process.start()
    checker._check(VALID, "read", "files/a", now_ms=NOW)
    assert hung.entered.wait(60)
    process.close()

    assert checker.decision_queue is None
    assert b'"kind":"end"' not in b"".join(file.read_bytes() for file in tmp_path.rglob("*.jsonl"))
    let_go(hung)
    audit.close()


def test_a_stream_is_there_until_its_last_record_is(tmp_path: Path) -> None:
    """While a stop waits for the disk, whoever asks is not told that there is nothing to record."""
    checker, hung = bulk_sessions.checker(), Hung()
    process = ProcessRecorder(checker, queue_bytes=1 << 20)
    process.open_audit(AuditOptions(tmp_path), Head(3, 3, b"c" * 16, b"i" * 16), "gateway")
    process.add(hung)
    process.start()
    checker._check(VALID, "read", "files/a", now_ms=NOW)
    assert hung.entered.wait(60)
    closing = threading.Thread(target=process.close)
    closing.start()
    assert wait_until(lambda: checker.decision_queue is None)
    closing.join(0.2)

    assert closing.is_alive() and process.audit is not None
    let_go(hung)
    closing.join(60)
    assert process.audit is None


def test_an_embedded_verifier_has_a_stream_of_its_own(tmp_path: Path) -> None:
    """An embedded verifier with ``audit`` records its decisions, and signs the end when it is closed."""
    state, audit = tmp_path / "state", tmp_path / "audit"
    StateWriter.open(state, create=True).close()
    verifier = Verifier.embedded(state, audience="gw", audit=AuditOptions(audit))
    with verifier:
        made = [verifier.check(VALID, "read", "files/a")]
        made += list(verifier.check_batch([(VALID, "read", "files/b")] * 3))
    assert verifier.decision_queue is None

    begin = records(audit, "begin")[0]
    assert (begin["process"], begin["audience"]) == ("embedded", "gw")
    assert ids(records(audit, "decision")) == [each.decision_id.hex() for each in made]
    assert records(audit, "end")[0]["next"] == -1
