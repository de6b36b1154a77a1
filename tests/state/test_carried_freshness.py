"""Proofs of freshness: none begins late, none outlives an alarm, and what the engine lost is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sessauth.clock import FixedClock, SystemClock
from sessauth.errors import RecordRefused
from sessauth.model.host import record_digest
from sessauth.state.replication import follower
from sessauth.state.replication.carrier import Barrier, CarrierError, LogHead
from sessauth.state.replication.follower import LOG_MS
from tests.support.carried import OneEngine
from tests.support.carried_threads import hosts_of, until
from tests.support.changes import NOW, opening


def test_a_proof_begins_before_its_question(tmp_path: Path) -> None:
    """However long the barrier takes, the time counts from before it."""
    clock = FixedClock(NOW)
    with hosts_of(tmp_path, clock) as (engine, (_, two)):
        barrier = engine.barrier

        def slow(name: str = "", beat: bytes = b"") -> Barrier:
            found = barrier(name, beat)
            clock.advance(2_000)
            return found

        engine.barrier = slow  # type: ignore[method-assign]
        two.member.follow()
        began = clock.steady_ms()
        two.freshness._prove()
        assert two.grants.written == [began + 3_000]


def test_a_host_that_is_behind_has_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is granted for a head that the folder does not hold."""
    monkeypatch.setattr(follower, "APPLY_MS", 20)
    with hosts_of(tmp_path, SystemClock()) as (_, (one, two)):
        one.member.lead()
        one.member.writer.submit(opening("late")).result().raise_if_rejected()
        two.freshness._prove()
        assert two.grants.written == []
        two.member.follow()
        two.freshness._prove()
        assert len(two.grants.written) == 1 and two.freshness.proven == two.member.number


def test_a_missing_proof_is_logged_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried twice a second; a proof in between makes the next failure a new one."""
    monkeypatch.setattr(follower, "APPLY_MS", 20)
    clock = FixedClock(NOW)
    with hosts_of(tmp_path, clock) as (_, (one, two)):
        one.member.lead()
        two.member.follow()
        two.freshness._prove()
        lines = []
        for passed_ms in (0, 500, LOG_MS, 0):
            clock.advance(passed_ms)
            if not lines:
                one.member.writer.submit(opening("late")).result().raise_if_rejected()
            two.freshness._prove()
            lines.append(caplog.text.count("is not here after"))
        assert lines == [1, 1, 2, 2]
        two.member.follow()
        two.freshness._prove()
        one.member.writer.submit(opening("again")).result().raise_if_rejected()
        two.freshness._prove()
        assert caplog.text.count("is not here after") == 3


def test_an_alarm_while_a_proof_is_made(tmp_path: Path) -> None:
    """The proof that was under way is not written any more."""
    with hosts_of(tmp_path, SystemClock()) as (_, (_, two)):
        two.member.follow()
        wait_for = two.follower.wait_for

        def alarmed(number: int, timeout_ms: int) -> bool:
            found = wait_for(number, timeout_ms)
            two.follower.raise_alarm(RecordRefused("forged", "ALTERED"))
            return found

        two.follower.wait_for = alarmed  # type: ignore[method-assign]
        two.freshness._prove()
        assert two.grants.written == []


def test_an_alarm_denies_though_the_engine_is_silent(tmp_path: Path) -> None:
    """An alarm is this host's own knowledge: no answer is needed for it."""
    with hosts_of(tmp_path, SystemClock()) as (engine, (_, two)):
        two.member.follow()
        two.freshness._prove()
        engine.silent = True
        with pytest.raises(CarrierError):
            two.freshness._prove()
        two.follower.raise_alarm(RecordRefused("forged", "ALTERED"))
        two.freshness._prove()
        assert two.grants.written[-1] == 0 and len(two.grants.written) == 2


def _wiped(engine: OneEngine) -> None:
    engine.records, engine.head = {}, LogHead(0, b"")


def _restored(engine: OneEngine) -> None:
    number = engine.head.number - 1
    engine.head = LogHead(number, record_digest(engine.records[number]))
    engine.records.pop(number + 1)


def _another(engine: OneEngine) -> None:
    engine.head = LogHead(engine.head.number, b"x" * 32)


@pytest.mark.parametrize(
    ("fault", "word"),
    [(_wiped, "ENGINE_WENT_BACK"), (_restored, "ENGINE_WENT_BACK"), (_another, "OTHER_PAST")],
)
def test_an_engine_with_another_past(tmp_path: Path, fault: Callable[[OneEngine], None], word: str) -> None:
    """One alarm, calls are denied, and nothing is granted after it, whoever leads."""
    with hosts_of(tmp_path, SystemClock()) as (engine, hosts):
        for host in hosts:
            host.start()
        until(lambda: any(host.leads for host in hosts))
        until(lambda: all(host.freshness.proven == engine.head.number for host in hosts), "proofs")
        fault(engine)
        until(lambda: all(host.alarms for host in hosts), "the alarm")
        until(lambda: not any(host.leads for host in hosts) and engine.leading is None, "the step down")
        for host in hosts:
            until(lambda host=host: host.grants.written[-1] == 0, "the denial")
            host.freshness.prove_soon()
        lengths = [len(host.grants.written) for host in hosts]
        until(lambda: all(len(h.grants.written) > n for h, n in zip(hosts, lengths, strict=True)))
        assert [[alarm.fault for alarm in host.alarms] for host in hosts] == [[word], [word]]
        for host in hosts:
            granted = [at for at, until_ms in enumerate(host.grants.written) if until_ms]
            assert not any(host.grants.written[granted[-1] + 1 :])


def test_an_engine_that_went_back_to_before_a_host_that_is_behind(tmp_path: Path) -> None:
    """The host holds nothing that was lost; it knows by what the engine answered before."""
    with hosts_of(tmp_path, SystemClock()) as (engine, (one, two)):
        one.member.lead()
        two.member.follow()
        head = engine.head
        for name in ("a", "b"):
            one.member.writer.submit(opening(name)).result().raise_if_rejected()
        two.freshness._prove()
        engine.head = head
        two.freshness._prove()
        assert [alarm.fault for alarm in two.alarms] == ["ENGINE_WENT_BACK"]
        assert not any(two.grants.written)


@pytest.mark.parametrize(
    ("change", "word"), [({"engine_id": "two"}, "OTHER_PAST"), ({"engine_revision": 1}, "ENGINE_WENT_BACK")]
)
def test_an_engine_whose_own_past_is_another(tmp_path: Path, change: dict[str, object], word: str) -> None:
    """The same records under another name, or at a revision that was passed."""
    with hosts_of(tmp_path, SystemClock()) as (engine, (_, two)):
        two.member.follow()
        two.freshness._prove()
        barrier = replace(engine.barrier(), **change)  # type: ignore[arg-type]
        engine.barrier = lambda name="", beat=b"": barrier  # type: ignore[method-assign]
        two.freshness._prove()
        assert [alarm.fault for alarm in two.alarms] == [word] and two.grants.written[-1] == 0


def test_records_of_one_log_and_a_barrier_of_another(tmp_path: Path) -> None:
    """The record that was applied under the head's number is not the one that the head names."""
    with hosts_of(tmp_path, SystemClock()) as (engine, (one, two)):
        one.member.lead()
        head = replace(engine.head, digest=b"o" * 32)
        engine.barrier = lambda name="", beat=b"": Barrier(head, "one", 9)  # type: ignore[method-assign]
        two.follower.start()
        two.freshness._prove()
        assert [alarm.fault for alarm in two.alarms] == ["OTHER_PAST"] and not any(two.grants.written)
