"""Batches, threads, and checks that meet changes: what the rows time is what they say."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import state_setup, workloads
from benchmarks.measure import NotMeasured, Plan, Row, measure_row
from benchmarks.stages import batch, changed_state, during_writes, threads, writer_process
from benchmarks.stages.batch import Batch, Batches
from benchmarks.stages.checks import WarmPrepared
from benchmarks.stages.writer_process import Committed
from benchmarks.state_setup import World
from benchmarks.workloads import Workload, WrongDecision
from sessauth.reasons import Reason
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Prepared

PLAN = Plan(rounds=7, blocks=1, singles=10)


def test_a_batch_counts_its_checks_and_gives_its_batches() -> None:
    """Figures are per check, and what is timed one by one is a whole batch."""
    batches = Batches([[1, 2, 3], [4, 5, 6]])

    assert len(batches) == 6
    assert list(batches) == [[1, 2, 3], [4, 5, 6]] and batches[1] == [4, 5, 6]


def test_batches_are_full_and_their_decisions_are_held(live_world: World) -> None:
    """Each batch has its size, fresh bytes, and one answer a call; another decision stops the run."""
    root = workloads.root(live_world)
    sixteen = Batch("batch/16", live_world, root, 16)

    prepared = sixteen.prepare(40)
    assert [len(each) for each in prepared] == [16, 16]
    assert len({id(call[0]) for each in prepared for call in each}) == 32
    sixteen.run(prepared)

    with pytest.raises(WrongDecision):
        Batch("batch/2", live_world, Workload("x", root.calls, Reason.OUT_OF_SCOPE), 2)


def test_every_batch_row_has_its_size_in_its_name(live_world: World) -> None:
    """The sizes that the name says are the sizes that are judged."""
    rows = list(batch.rows(live_world, None))

    assert [row.subject.name for row in rows[:4]] == ["batch/1", "batch/16", "batch/256", "batch/1024"]
    for row in rows:
        size = int(row.subject.name.split("/")[1].split("-")[0])
        assert {len(each) for each in row.subject.prepare(1)} == {size}


def test_a_prepared_token_is_judged_as_the_token(live_world: World) -> None:
    """The handle stands in the token's place, and denials come through it too."""
    root = workloads.root(live_world)
    subject = WarmPrepared("warm/prepared", live_world, root)

    assert len({id(call[0]) for call in subject.prepare(5)}) == 1
    assert isinstance(subject.prepare(1)[0][0], Prepared)
    with pytest.raises(WrongDecision):
        WarmPrepared("x", live_world, Workload("x", (root.calls[0]._replace(resource="mcp/github/other"),)))


def test_a_committer_commits_what_it_says(tmp_path: Path) -> None:
    """The changes that it counts are in the log, each applied, for one session after the other."""
    state_setup.build(tmp_path).close()
    with StateWriter.open(tmp_path / "state") as writer:
        sessions = [session.id for session in writer.list_sessions(limit=3)]
        before = writer.head().seq
        done = writer_process.commit(writer, sessions, 2000, threading.Event(), 0.2)

        assert 0 < done.changes == writer.head().seq - before
        assert 0 < done.commits <= done.changes and done.seconds >= 0.2
        values = [
            {fact.name: fact.value for fact in each.facts}["case_id"]
            for each in writer.list_sessions(limit=3)
        ]
        assert len(set(values)) == 3 and all(str(value).startswith("T-") for value in values)


def test_a_committer_stops_when_it_is_told(tmp_path: Path) -> None:
    """Told before it starts, it commits nothing more, however long it may go on."""
    state_setup.build(tmp_path).close()
    stop = threading.Event()
    stop.set()
    with StateWriter.open(tmp_path / "state") as writer:
        done = writer_process.commit(writer, [bytes(16)], 1000, stop, 60.0)

    assert done.changes == 0


def test_checks_meet_the_changes_of_another_process(live_world: World) -> None:
    """While the committer runs the revision moves on under the verifier, whose checks are all allowed."""
    subject = during_writes.WhileWriting("warm/while-writing", live_world, live_world.bystander_ids)
    before = live_world.verifier().check(*workloads.root(live_world).calls[0][:4]).revision

    subject.run(subject.prepare(50))
    running = subject._committer
    assert running is not None
    with running:
        done = running.stop()
    after = live_world.verifier().check(*workloads.root(live_world).calls[0][:4]).revision

    assert done.changes >= 1 or after > before
    assert after - before >= done.changes


@pytest.mark.parametrize("rate", [0.0, during_writes.LEAST_RATE - 1.0])
def test_a_committer_that_is_too_slow_leaves_the_row_without_figures(
    live_world: World, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    """Below 900 changes/s the row says so instead of a ratio."""

    class Slow:
        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> Slow:
            return self

        def __exit__(self, *_: object) -> None: ...

        def stop(self) -> Committed:
            return Committed(int(rate), 1, 1.0)

    monkeypatch.setattr(during_writes, "Committer", Slow)
    subject = during_writes.WhileWriting("warm/while-writing", live_world, live_world.bystander_ids)

    measured = measure_row(Row(subject, None, subject.extra), PLAN)

    assert "changes/s" in measured.missing


def test_a_committer_that_can_not_start_is_reported(live_world: World) -> None:
    """The row reports a missing state instead of a ratio."""
    subject = during_writes.WhileWriting("warm/while-writing", live_world, [])
    subject._state_dir = live_world.state_dir / "none"

    assert "ended with status 1" in measure_row(Row(subject, None, subject.extra), PLAN).missing


def test_every_verifier_finds_the_state_moved(live_world: World, tmp_path: Path) -> None:
    """Each check of a block finds a revision that its view had not; a denied call stops the run."""
    moving = changed_state.Moving(tmp_path / "moving", live_world)
    subject = changed_state.OneCheckEach("stage/view-moved", moving, moving.other)
    still = changed_state.OneCheckEach("floor/view-still", moving)

    def revisions(items: Sequence[Any]) -> set[int]:
        return {verifier.check(token, "read", workloads.RESOURCE).revision for verifier, token in items}

    first, second = revisions(subject.prepare(300)), revisions(subject.prepare(10))
    assert len(first) == len(second) == 1 and min(second) == max(first) + 1
    assert revisions(still.prepare(5)) == second
    assert len(subject.prepare(10_000)) == changed_state.VERIFIERS
    moving.token = moving.token[:-1]
    with pytest.raises(NotMeasured, match="denied"):
        subject.prepare(1)
    moving.close()


def test_threads_share_all_items_and_pass_on_what_they_raise() -> None:
    """Each item is done once, by one thread; a failure in a thread fails the measurement."""
    done: list[int] = []

    assert threads.together(3, done.extend, list(range(10))) > 0
    assert sorted(done) == list(range(10))

    def fail(_: Sequence[Any]) -> None:
        raise WrongDecision("no")

    with pytest.raises(WrongDecision):
        threads.together(2, fail, [1, 2])


def test_calls_timed_in_threads_are_all_noted() -> None:
    """One time for each item, whichever thread did it."""
    times: list[float] = []
    done: list[int] = []

    threads.together(4, threads.timing(done.extend, times), list(range(40)))

    assert len(times) == 40 and sorted(done) == list(range(40))


def test_threads_are_measured_in_rounds_of_all_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One, two and four threads, warm, cold and in batches, each against one thread in the same rounds."""
    monkeypatch.setattr(threads, "WARM_CHECKS", 1024)
    monkeypatch.setattr(threads, "COLD_CHECKS", 8)
    monkeypatch.setattr(threads, "SINGLES", {True: {"warm": 40, "cold": 8, "batch": 4}})

    rows = list(threads.measurements(tmp_path, quick=True, only="threads/"))

    assert {row.name: row.floor for row in rows} == threads.ROWS
    assert [row.floor for row in rows[:3]] == ["", "threads/warm-1", "threads/warm-1"]
    assert all(len(row.rounds) == 7 and row.extra["CPU us"] for row in rows)
    assert list(threads.measurements(tmp_path, quick=True, only="warm/root")) == []
