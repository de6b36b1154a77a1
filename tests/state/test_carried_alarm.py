"""The alarm of a host: it stands over restarts, until an operator decides."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from sessauth.clock import SystemClock
from sessauth.errors import RecordRefused
from sessauth.model.host import record_digest
from sessauth.state.replication import follower as follower_module
from sessauth.state.replication.carried_log import apply_records
from sessauth.state.replication.carrier import LogHead
from sessauth.state.replication.follower import StoredAlarm
from sessauth.state.replication.snapshot import install
from tests.support.carried import Member, OneEngine
from tests.support.carried_threads import Host, hosts_of, until
from tests.support.changes import opening


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[OneEngine, list[Host]]]:
    """Two hosts that hold the same; the first one leads, and no thread runs."""
    monkeypatch.setattr(follower_module, "DECISION_SECONDS", 0.05)
    monkeypatch.setattr(follower_module, "SNAPSHOT_SECONDS", (0.05, 0.1))
    with hosts_of(tmp_path, SystemClock()) as (engine, hosts):
        hosts[0].member.lead()
        write(hosts[0].member, "first")
        hosts[1].member.follow()
        yield engine, hosts


def write(member: Member, name: str) -> None:
    """Have a record written by the leader."""
    member.writer.submit(opening(name)).result().raise_if_rejected()


def lose(engine: OneEngine, number: int) -> None:
    """Put a backup back that ends with a record; 0: nothing is left."""
    engine.records = {n: record for n, record in engine.records.items() if n <= number}
    engine.head = LogHead(number, record_digest(engine.records[number]) if number else b"")


def restarted(host: Host, hosts: list[Host]) -> Host:
    """Return the host of a new process on the same folder."""
    for part in (host.freshness, host.follower):
        part.close()
    host.member.restart()
    again = Host(host.member, SystemClock())
    hosts[hosts.index(host)] = again
    return again


def adopt(engine: OneEngine, member: Member) -> None:
    """Have the log go on from a member's folder, as ``cluster adopt`` does."""
    if member.carried.leader is not None:
        engine.resign(member.carried.leader)
        member.carried.step_down("for the test")
    position = member.number
    with member.writer.source().rows() as rows:
        head = follower_module.read_position(rows)
    assert head is not None and head.number == position
    assert engine.seed(engine.head, LogHead(head.number, head.digest))
    engine.trimmed = head.number
    leader = engine.lead(member.name, f"{member.name}:1", 5000)
    assert leader is not None
    member.carried.lead(leader, engine.barrier().engine_id)
    member.writer.run(member.carried.begin_engine)


def test_a_restart_does_not_forget_it(play: tuple[OneEngine, list[Host]]) -> None:
    """A host that was behind finds nothing wrong with the log that was put back: it would allow."""
    engine, hosts = play
    one, two = hosts
    two.freshness._prove()
    write(one.member, "lost")
    two.follower.wait_for = lambda number, timeout_ms: False  # type: ignore[method-assign]
    two.freshness._prove()
    lose(engine, two.member.number)
    two.freshness._prove()
    assert [alarm.fault for alarm in two.alarms] == ["ENGINE_WENT_BACK"]

    again = restarted(two, hosts)
    again.start(election=False)
    until(lambda: again.grants.written and again.alarms, "the alarm of before")
    again.freshness._prove()
    assert set(again.grants.written) == {0}
    assert (again.alarms[0].fault, str(again.alarms[0])) == ("ENGINE_WENT_BACK", str(two.alarms[0]))
    assert not again.follower.wait_for(again.member.number + 1, 0)

    # What it would do without it.
    again.member.writer.clear_alarm()
    forgetful = restarted(again, hosts)
    forgetful.freshness._prove()
    assert forgetful.grants.written[-1] > 0


@pytest.mark.parametrize("restart", [False, True])
def test_an_operators_decision_ends_it(play: tuple[OneEngine, list[Host]], restart: bool) -> None:
    """The record says so, by a key of this host's own state; checks are denied until the next proof."""
    engine, hosts = play
    one, two = hosts
    two.start(election=False)
    until(lambda: two.grants.written and two.grants.written[-1] > 0, "a proof")
    lose(engine, 0)
    until(lambda: two.alarms, "the alarm")
    if restart:
        two = restarted(two, hosts)
        two.start(election=False)
    decided: list[int] = []
    two.follower.on_decision = decided.append
    adopt(engine, one.member)
    until(lambda: two.grants.written[-1] > 0, "a proof")
    assert decided == [engine.head.number]
    assert two.follower.alarm is None
    assert not two.member.writer.alarm
    write(one.member, "later")
    until(lambda: two.member.number == one.member.number)


def test_an_earlier_decision_is_none(play: tuple[OneEngine, list[Host]]) -> None:
    """A host that is behind reads it behind its own record, and it is older than the alarm."""
    engine, hosts = play
    one, two = hosts
    adopt(engine, one.member)
    two.follower.raise_alarm(RecordRefused("went back", "ENGINE_WENT_BACK"), engine.head.number)
    two.start(election=False)
    until(lambda: two.grants.written)
    two.follower._look_for_decision(StoredAlarm("ENGINE_WENT_BACK", engine.head.number, "went back"))
    assert two.follower.alarm is not None
    assert two.member.number < engine.head.number
    assert set(two.grants.written) == {0}


def test_a_host_that_holds_more_stays_in_alarm(play: tuple[OneEngine, list[Host]]) -> None:
    """The log goes on from another folder, which never had its last record."""
    engine, hosts = play
    one, two = hosts
    write(one.member, "more")
    lose(engine, 0)
    one.follower.raise_alarm(RecordRefused("went back", "ENGINE_WENT_BACK"), 0)
    one.member.carried.step_down("an alarm")
    engine.leading = None
    adopt(engine, two.member)
    write(two.member, "other")
    adopted = engine.trimmed
    # A second decision, with a number that is behind all that this host holds.
    adopt(engine, two.member)
    engine.trimmed = adopted
    one.start(election=False)
    until(lambda: one.grants.written)
    with pytest.raises(RecordRefused):
        one.follower._look_for_decision(StoredAlarm("ENGINE_WENT_BACK", one.member.number, "went back"))
    assert one.follower.alarm is not None
    assert set(one.grants.written) == {0}


def test_a_process_that_died_before_it_ended_the_alarm(play: tuple[OneEngine, list[Host]]) -> None:
    """The decision is in the folder, the alarm in the page still."""
    engine, hosts = play
    one, two = hosts
    lose(engine, 0)
    two.follower.raise_alarm(RecordRefused("went back", "ENGINE_WENT_BACK"), 0)
    adopt(engine, one.member)
    encoded = [engine.records[engine.head.number]]
    two.member.writer.run(partial(apply_records, records=encoded))
    again = restarted(two, hosts)
    assert again.follower.alarm is not None
    again.start(election=False)
    until(lambda: again.grants.written and again.grants.written[-1] > 0, "a proof")


@pytest.mark.parametrize("decided", [False, True])
def test_a_snapshot_ends_it_if_it_has_the_decision(play: tuple[OneEngine, list[Host]], decided: bool) -> None:
    """A host that was behind when the engine was wiped has no record to read."""
    engine, hosts = play
    one, two = hosts
    write(one.member, "more")
    two.follower.raise_alarm(RecordRefused("went back", "ENGINE_WENT_BACK"), 0)
    if decided:
        adopt(engine, one.member)
    write(one.member, "even more")
    engine.trim(engine.head.number)
    asked: list[int | None] = []

    def fetch(decided_behind: int | None) -> None:
        with one.member.writer.source().rows() as rows:
            asked.append(decided_behind)
            two.member.writer.run(lambda group: install(group, rows, decided_behind))

    two.follower._on_compacted = fetch
    two.start(election=False)
    if decided:
        until(lambda: two.grants.written and two.grants.written[-1] > 0, "a proof")
    else:
        until(lambda: len(asked) > 1, "two attempts")
        assert set(two.grants.written) == {0}
        assert two.member.number < engine.head.number


@pytest.mark.parametrize("fault", ["NEWER_FORMAT", "COMPACTED", "OLD"])
def test_what_a_restart_meets_again(play: tuple[OneEngine, list[Host]], fault: str) -> None:
    """An upgrade or a snapshot is the cure, so nobody need clear it."""
    _, hosts = play
    hosts[1].follower.raise_alarm(RecordRefused("later", fault))
    assert restarted(hosts[1], hosts).follower.alarm is None


def test_an_alarm_that_can_not_be_read_stands(play: tuple[OneEngine, list[Host]]) -> None:
    """A page that was damaged, and one without a text; a long message is cut."""
    _, hosts = play
    two = hosts[1]
    for text in ("", "nonsense", "A x y"):
        two.member.writer.raise_alarm(text)
        two = restarted(two, hosts)
        assert two.follower.alarm is not None
        assert two.follower.alarm.fault == "UNREADABLE"
    two.member.writer.raise_alarm(StoredAlarm("ALTERED", 7, "m" * 2_000).encode())
    stored = StoredAlarm.decode(two.member.writer.alarm)
    assert stored is not None and (stored.fault, stored.beyond) == ("ALTERED", 7)
    assert len(stored.message) < 1_000
