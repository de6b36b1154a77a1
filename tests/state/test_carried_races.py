"""Threads of two servers against each other: the lead is stolen, answers are lost, and callers ask again."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from sessauth.clock import SystemClock
from sessauth.errors import NotLeader, OutcomeUnknown, StateError
from sessauth.model.change import ChangeOutcome
from sessauth.state.integrity.verify import verify
from sessauth.state.replication.carrier import AppendStatus, CarrierError, CompactedRecords, EngineSource
from sessauth.state.replication.follower import ReplicationThread
from tests.support.carried import OneEngine
from tests.support.carried_threads import Host, hosts_of, until
from tests.support.changes import opening

CALLERS, CALLS = 4, 30


def call(hosts: list[Host], change_id: str, rng: random.Random) -> ChangeOutcome:
    """Ask servers in turn until one answers for sure."""
    change = opening(change_id)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return rng.choice(hosts).member.writer.submit(change).result(20)
        except (NotLeader, OutcomeUnknown):
            time.sleep(0.005)
    raise AssertionError(f"{change_id}: nobody answered")


def disturb(engine: OneEngine, rng: random.Random, done: threading.Event) -> None:
    """Take the lead away, lose answers and fall silent, at random moments."""
    while not done.wait(rng.uniform(0.02, 0.15)):
        fault = rng.randrange(4)
        if fault == 0:
            engine.leading = None
        elif fault == 1:
            engine.answers.append((AppendStatus.UNKNOWN, bool(rng.getrandbits(1))))
        elif fault == 2:
            engine.silent = True
            done.wait(0.05)
            engine.silent = False


def test_each_request_has_one_effect_whoever_led(tmp_path: Path) -> None:
    """Rows and outcomes are equal at the end, and no thread raised an alarm or engaged a brake."""
    rng, outcomes, done = random.Random(14), {}, threading.Event()
    with hosts_of(tmp_path, SystemClock()) as (engine, hosts):
        for host in hosts:
            host.start()

        def calls(caller: int) -> None:
            mine = random.Random(caller)
            for number in range(CALLS):
                change_id = f"{caller}-{number}"
                outcomes[change_id] = call(hosts, change_id, mine)

        threads = [threading.Thread(target=calls, args=(caller,)) for caller in range(CALLERS)]
        trouble = threading.Thread(target=disturb, args=(engine, rng, done))
        for thread in (*threads, trouble):
            thread.start()
        for thread in threads:
            thread.join(80)
        done.set()
        trouble.join()
        engine.answers.clear()
        assert len(outcomes) == CALLERS * CALLS and all(each.applied for each in outcomes.values())
        until(lambda: all(host.follower.position.number == engine.head.number for host in hosts))
        for host in hosts:
            host.election.close()
        until(lambda: all(host.follower.position.number == engine.head.number for host in hosts))
        one, two = (host.member for host in hosts)
        assert one.tables() == two.tables()
        assert len(one.tables()["sessions"]) == len(outcomes)
        for host in hosts:
            assert not host.alarms and not host.member.writer.braked
            for change_id, outcome in outcomes.items():
                assert host.member.writer.outcome(change_id) == outcome
            host.member.writer.run(lambda group: verify(group.rows))


def test_a_source_that_repeats_itself(tmp_path: Path) -> None:
    """Records that the host holds cost few commits, and no alarm."""
    with hosts_of(tmp_path) as (engine, (_, two)):
        two.member.follow()
        first = engine.read(0, 2)
        two.follower._source.read = lambda after, limit: first  # type: ignore[method-assign]
        jobs = []
        run = two.member.writer.run
        two.member.writer.run = lambda work: (jobs.append(1), run(work))[1]  # type: ignore[method-assign]
        two.follower.start()
        time.sleep(0.5)
        two.follower.close()
        assert 1 <= len(jobs) <= 12 and not two.alarms


@pytest.mark.parametrize("error", [CarrierError("no answer"), StateError("the brake is engaged")])
def test_what_can_not_be_followed_is_logged_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """It is tried ten times a second; records that were applied make the next failure a new one."""
    with hosts_of(tmp_path) as (engine, (one, two)):
        one.member.lead()
        read, attempts, failing = engine.read, [0], threading.Event()
        failing.set()

        def fail(after: int, limit: int) -> list[tuple[int, bytes]]:
            attempts[0] += 1
            if failing.is_set():
                raise error
            return read(after, limit)

        two.follower._source.read = fail  # type: ignore[method-assign]
        two.follower.start()
        until(lambda: attempts[0] > 3)
        assert caplog.text.count(str(error)) == 1
        failing.clear()
        until(lambda: two.member.number == engine.head.number)
        failing.set()
        until(lambda: caplog.text.count(str(error)) == 2, "the next failure")


def test_a_snapshot_that_fails_oddly(tmp_path: Path) -> None:
    """The thread goes on, and a later attempt counts."""
    with hosts_of(tmp_path) as (engine, (one, two)):
        one.member.lead()
        read, attempts = engine.read, []

        def compacted(after: int, limit: int) -> list[tuple[int, bytes]]:
            if len(attempts) < 2:
                raise CompactedRecords(9)
            return read(after, limit)

        def snapshot(decided_behind: int | None) -> None:
            attempts.append(1)
            raise OSError("no space") if len(attempts) == 1 else StateError("not yet")

        engine.read = compacted  # type: ignore[method-assign]
        follower = ReplicationThread(EngineSource(engine, "two"), two.member.writer, on_compacted=snapshot)
        follower.start()
        until(lambda: follower.position.number == engine.head.number, "the end of the log")
        follower.close()
        assert len(attempts) == 2 and follower.alarm is None


def test_a_snapshot_that_fails_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each attempt may carry the whole state: they become rarer, and the failure is logged once."""
    with hosts_of(tmp_path) as (engine, (one, two)):
        one.member.lead()
        read, pauses, done = engine.read, list[float](), threading.Event()

        def compacted(after: int, limit: int) -> list[tuple[int, bytes]]:
            if not done.is_set():
                raise CompactedRecords(9)
            return read(after, limit)

        def snapshot(decided_behind: int | None) -> None:
            if len(pauses) < 6:
                raise StateError("free some space")
            done.set()

        monkeypatch.setattr(engine, "read", compacted)
        follower = ReplicationThread(EngineSource(engine, "two"), two.member.writer, on_compacted=snapshot)
        monkeypatch.setattr(follower._closing, "wait", pauses.append)
        follower.start()
        until(lambda: follower.position.number == engine.head.number, "the end of the log")
        follower.close()
        assert pauses[:6] == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
        assert caplog.text.count("free some space") == 1 and follower.alarm is None
