"""Elections: one server leads, a former leader writes nothing, and none blocks the others."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from sessauth.clock import FixedClock, SystemClock
from sessauth.crypto.keys import KeyStatus
from sessauth.errors import NotLeader, OutcomeUnknown, Rejected, StateError
from sessauth.model.change import end_session, set_key_status
from sessauth.server.status import word_of
from sessauth.state.replication.carrier import Appended, AppendStatus, BeatReplaced, CarrierError, Leader
from tests.support.carried import OneEngine
from tests.support.carried_threads import hosts_of, until
from tests.support.changes import NOW, opening


def _lead_engine(engine: OneEngine, name: str) -> Leader:
    """Have the engine give the lead to a server that takes no part."""
    engine.leading = None
    leader = engine.lead(name, f"{name}:1", 5_000)
    assert leader is not None
    return leader


def test_one_leads_and_the_others_say_who(tmp_path: Path) -> None:
    """The other one refuses and names the leader; once that one stops, it leads."""
    with hosts_of(tmp_path) as (_, hosts):
        for host in hosts:
            host.start()
        until(lambda: any(host.leads for host in hosts))
        leader, other = sorted(hosts, key=lambda host: not host.leads)
        until(lambda: (refusal := other.member.carried.refusal()) is not None and refusal.address)
        with pytest.raises(NotLeader) as refused:
            other.member.writer.submit(opening("there")).result()
        assert refused.value.address == f"{leader.member.name}:1"
        leader.election.close()
        until(lambda: other.leads, "the take-over")
        until(lambda: not other.member.writer.submit(opening("here")).exception())


def test_a_leader_that_was_paused_writes_nothing(tmp_path: Path) -> None:
    """Another one led meanwhile: the append is fenced, callers hear it, and it follows again."""
    with hosts_of(tmp_path) as (engine, (one, two)):
        one.member.lead()
        engine.leading = None
        two.member.lead()
        with pytest.raises(NotLeader):
            one.member.writer.submit(opening("late")).result()
        assert not one.leads and len(one.lost) == 1 and not one.member.writer.braked
        one.member.follow()
        assert one.member.tables() == two.member.tables()


def test_a_leader_whose_name_was_taken_over_gives_the_lead_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, without waiting for its lease, and it leads no more; nothing is an alarm."""
    replaced = threading.Event()

    def hold(engine: OneEngine, leader: Leader) -> bool:
        if replaced.is_set() and leader.name == "one":
            raise BeatReplaced("one")
        return engine.leading == leader

    def lead(engine: OneEngine, name: str, address: str, ttl_ms: int) -> Leader | None:
        if replaced.is_set() and name == "one":
            raise BeatReplaced("one")
        return given(engine, name, address, ttl_ms)

    given = OneEngine.lead
    monkeypatch.setattr(OneEngine, "hold", hold)
    monkeypatch.setattr(OneEngine, "lead", lead)
    with hosts_of(tmp_path) as (_, (one, two)):
        one.start()
        until(lambda: one.leads)
        two.start()
        replaced.set()
        until(lambda: two.leads, "the take-over")
        assert not one.leads and not one.alarms
        assert one.lost[-1].startswith("another process runs as server 'one'")
        until(lambda: not two.member.writer.submit(opening("here")).exception())


@pytest.mark.parametrize("effect", [True, False])
def test_an_append_without_an_answer(tmp_path: Path, effect: bool) -> None:
    """One effect once asked again, whatever came of the first; and no server sends callers to itself."""
    change = opening("asked", b"a" * 16)
    with hosts_of(tmp_path) as (engine, (one, two)):
        number = engine.head.number
        one.start()
        until(lambda: one.leads and engine.head.number > number)
        engine.answers = [(AppendStatus.UNKNOWN, effect)]
        with pytest.raises(OutcomeUnknown):
            one.member.writer.submit(change).result()
        refusal = one.member.carried.refusal()
        assert refusal is None or refusal.address != "one:1"
        follow = one.member.carried.follow
        addresses: list[str] = []
        one.member.carried.follow = lambda other: (  # type: ignore[method-assign]
            addresses.append(other.address if other else ""), follow(other)
        )[1]  # fmt: skip
        until(lambda: one.leads, "the lead again")
        assert "one:1" not in addresses and not one.member.writer.braked
        until(lambda: not one.member.writer.submit(change).exception())
        outcome = one.member.writer.submit(change).result()
        assert outcome.applied
        two.member.follow()
        assert two.member.writer.outcome("asked") == outcome
        assert two.member.tables() == one.member.tables()


@pytest.mark.parametrize(
    ("status", "word", "message"),
    [
        (AppendStatus.REFUSED, "STATE_UNUSABLE", "refused the record"),
        (AppendStatus.FULL, "ENGINE_FULL", "is full and takes no write"),
    ],
)
def test_a_refused_record_leaves_the_lead(
    tmp_path: Path, status: AppendStatus, word: str, message: str
) -> None:
    """The engine takes no such request: callers hear why, and the next change is written."""
    with hosts_of(tmp_path) as (engine, (one, _)):
        one.member.lead()
        engine.answers = [(status, False)]
        with pytest.raises(StateError, match=message) as refused:
            one.member.writer.submit(opening("large")).result()
        assert word_of(refused.value) == word
        assert one.leads and not one.member.writer.braked
        assert one.member.writer.submit(opening("next")).result().applied


def test_a_clock_that_is_behind_gives_the_key_back(tmp_path: Path) -> None:
    """A server whose clock is behind the log does not lead, and does not keep others from it."""
    clock = FixedClock(NOW)
    with hosts_of(tmp_path, clock) as (engine, (one, two)):
        one.member.lead()
        one.member.writer.submit(opening("stamped")).result().raise_if_rejected()
        one.member.carried.step_down("for the test")
        engine.leading = None
        clock.advance(-60_000)
        two.start()
        until(lambda: engine.terms >= 4, "attempts")
        assert not two.leads
        two.election.close()
        assert engine.leading is None and not two.member.writer.braked


def test_a_server_whose_disk_failed_does_not_take_the_lead(tmp_path: Path) -> None:
    """It would hold the key until its take-over fails, while others could lead."""
    with hosts_of(tmp_path) as (engine, (one, _)):
        one.member.writer._brake.engage("the disk is gone")
        terms = engine.terms
        one.start()
        until(lambda: one.follower.position.number or True)
        threading.Event().wait(1.0)
        assert engine.terms == terms and engine.leading is None


def test_a_take_over_of_an_engine_with_another_past(tmp_path: Path) -> None:
    """It raises the alarm itself and gives the key back; nothing is written."""
    with hosts_of(tmp_path) as (engine, (one, _)):
        engine.head = type(engine.head)(0, b"")
        engine.records = {}
        one.election.start()
        until(lambda: one.alarms, "the alarm")
        until(lambda: engine.leading is None)
        assert one.alarms[0].fault == "ENGINE_WENT_BACK" and engine.head.number == 0 and not one.leads


def test_two_threads_step_down_once(tmp_path: Path) -> None:
    """One of them ends the term; a late answer of an earlier term ends none."""
    with hosts_of(tmp_path) as (engine, (one, _)):
        one.member.lead()
        first = one.member.carried.leader
        threads = [
            threading.Thread(target=one.member.carried.step_down, args=(str(n), first)) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(one.lost) == 1
        engine.leading = None
        one.member.lead()
        one.member.carried.step_down("late", first)
        assert one.leads and len(one.lost) == 1


def test_an_answer_to_an_earlier_term_does_not_end_the_present_one(tmp_path: Path) -> None:
    """The writer waits for the engine while the election loses the lead and takes it again."""
    with hosts_of(tmp_path) as (engine, (one, _)):
        one.member.lead()
        append, waiting, go = engine.append, threading.Event(), threading.Event()

        def slow(*arguments: Any) -> Appended:
            waiting.set()
            go.wait(10)
            return append(*arguments)

        engine.append = slow  # type: ignore[method-assign]
        future = one.member.writer.submit(opening("slow"))
        assert waiting.wait(10)
        one.member.carried.step_down("the key is gone")
        leader = _lead_engine(engine, "one")
        one.member.carried.lead(leader)
        go.set()
        with pytest.raises(NotLeader):
            future.result()
        assert one.member.carried.leader == leader
        one.member.writer.run(one.member.carried.begin_term)
        assert one.member.writer.submit(opening("slow")).result().applied


def test_jobs_that_wait_while_the_lead_goes(tmp_path: Path) -> None:
    """All of them hear that nothing was written."""
    with hosts_of(tmp_path) as (engine, (one, two)):
        one.member.lead()
        go = threading.Event()
        blocker = one.member.writer.decide(lambda group: go.wait(10), 0)
        futures = [one.member.writer.submit(opening(f"waits-{n}")) for n in range(50)]
        engine.leading = None
        two.member.lead()
        one.member.carried.step_down("for the test")
        go.set()
        blocker.exception()
        assert all(isinstance(future.exception(), NotLeader) for future in futures)
        one.member.follow()
        assert one.member.tables() == two.member.tables()


def test_a_follower_judges_no_renewal(tmp_path: Path) -> None:
    """A session that it does not know yet is not refused for good: the leader has to be asked."""
    session = b"n" * 16
    with hosts_of(tmp_path) as (_, (one, two)):
        one.member.lead()
        one.member.writer.submit(opening("new", session, lease_ms=60_000)).result().raise_if_rejected()
        with pytest.raises(NotLeader):
            two.member.writer.keep_alive(session).result()
        one.member.writer.submit(end_session("end", session)).result().raise_if_rejected()
        with pytest.raises(Rejected):
            one.member.writer.keep_alive(session).result()


def test_every_close_returns(tmp_path: Path) -> None:
    """While the engine is silent, before a start, and in the middle of a take-over."""
    with hosts_of(tmp_path, SystemClock()) as (engine, (one, two)):
        engine.silent = True
        one.start()
        with pytest.raises(CarrierError):
            engine.leader()
        threading.Event().wait(0.3)
        for part in (one.election, one.freshness, one.follower, two.election, two.freshness, two.follower):
            part.close()


@pytest.mark.parametrize("status", [KeyStatus.RETIRED, KeyStatus.DISTRUSTED])
def test_a_leader_whose_key_is_no_longer_active(tmp_path: Path, status: KeyStatus) -> None:
    """It writes nothing that the others would refuse: the other one leads, and nobody raises an alarm."""
    with hosts_of(tmp_path) as (engine, (one, two)):
        number = engine.head.number
        one.start()
        until(lambda: one.leads and engine.head.number > number)
        move = set_key_status("move", one.member.key.key_id, status)
        assert one.member.writer.submit(move).result().applied
        with pytest.raises(NotLeader):
            one.member.writer.submit(opening("after")).result()
        two.start()
        until(lambda: two.leads, "the other one")
        until(lambda: not two.member.writer.submit(opening("after")).exception())
        until(lambda: one.follower.position.number == engine.head.number)
        assert not one.alarms and not two.alarms
        terms = engine.terms
        two.election.close()
        threading.Event().wait(0.7)
        assert engine.terms == terms and not one.leads
