"""Clocks of a cluster's servers: one that is ahead does not lead, and a floor that it left can be lowered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import NotLeader, Rejected, StateError
from sessauth.model.host import ServerBeat
from sessauth.server.cluster.repair import lower_floor
from sessauth.state.replication.election import LOOK_MS, Election, Peers
from tests.support.carried import Member, OneEngine, begin_cluster
from tests.support.carried_threads import Host, hosts_of, until
from tests.support.changes import NOW, opening

TEN_MINUTES: Final = 600_000


class Cluster:
    """Server one with a clock of its own, and what others write of theirs."""

    def __init__(self, engine: OneEngine, hosts: list[Host], clock: FixedClock, told: list[str]) -> None:
        """Know nothing of the others yet."""
        self.engine, self.clock = engine, clock
        self.hosts = {host.member.name: host for host in hosts}
        self.one = self.hosts["one"]
        self.peers = Peers(engine, "one", self.one.member.writer.source(), clock, told.append)
        self._number = 0

    def say(self, clocks: dict[str, int], not_leading: str = "") -> None:
        """Have others write a beat, each with a clock that is so much ahead of the right one, in ms."""
        for name, ahead_ms in clocks.items():
            self._number += 1
            cluster = self.one.member.writer.head().cluster_id
            beat = ServerBeat(
                cluster, name, self._number, 0, 0, at_ms=NOW + ahead_ms, not_leading=not_leading
            )
            signed = beat.signed_by(self.hosts[name].member.key)
            self.engine.barrier(name, signed.encode())

    def hear(self, clocks: dict[str, int], rounds: int = 2) -> None:
        """Have others write beats, and look behind each."""
        for _ in range(rounds):
            self.say(clocks)
            self.peers.poll()


@pytest.fixture
def told() -> list[str]:
    """Everything that was told of clocks."""
    return []


@pytest.fixture
def cluster(tmp_path: Path, told: list[str]) -> Iterator[Cluster]:
    """Three servers, of which no thread runs."""
    clock = FixedClock(NOW)
    with hosts_of(tmp_path, clock, "one", "two", "three") as (engine, hosts):
        yield Cluster(engine, hosts, clock, told)


@pytest.mark.parametrize(
    ("others", "floor", "differs", "refused"),
    [
        ({}, 0, "", False),
        ({"two": 0}, 0, "", False),
        ({"two": 1_900}, 0, "", False),
        ({"two": -1_900}, 0, "", False),
        # Ahead of the only other one, whose clock no stamp contradicts.
        ({"two": -TEN_MINUTES}, -TEN_MINUTES, "600000 ms ahead of server two", True),
        # Stamps contradict the other one.
        ({"two": -TEN_MINUTES}, 0, "600000 ms ahead of server two", False),
        ({"two": TEN_MINUTES}, 0, "600000 ms behind server two", False),
        ({"two": -TEN_MINUTES, "three": 0}, -TEN_MINUTES, "600000 ms ahead of server two", False),
        (
            {"two": -TEN_MINUTES, "three": -TEN_MINUTES},
            -TEN_MINUTES,
            "600000 ms ahead of server three, 600000 ms ahead of server two",
            True,
        ),
    ],
)
def test_a_server_ahead_of_most_others_may_not_lead(
    cluster: Cluster, told: list[str], others: dict[str, int], floor: int, differs: str, refused: bool
) -> None:
    """A difference is told once; two seconds are permitted."""
    cluster.hear(others, rounds=4)

    assert cluster.peers.clock_differs == differs
    assert told == ([differs] if differs else [])
    if refused:
        with pytest.raises(StateError, match=r"this host's clock is 600000 ms ahead of that of server t"):
            cluster.peers.require_clock(NOW + floor)
    else:
        cluster.peers.require_clock(NOW + floor)


@pytest.mark.parametrize(
    ("two", "step", "refused"),
    [
        (0, -TEN_MINUTES, True),
        (0, -1_900, False),
        # Behind the log itself; and one that no longer runs.
        (-TEN_MINUTES, -TEN_MINUTES, False),
        (None, -TEN_MINUTES, False),
    ],
)
def test_a_leader_whose_clock_is_set_back_leaves_it_to_another_one(
    cluster: Cluster, two: int | None, step: int, refused: bool
) -> None:
    """Unless that one can't lead: alone it still writes ends."""
    cluster.hear({"two": two or 0})
    if two is None:
        cluster.peers.poll()
    cluster.clock.step(step)

    if refused:
        with pytest.raises(StateError, match=f"this host's clock is {-step} ms behind the log"):
            cluster.peers.require_not_behind(NOW)
    else:
        cluster.peers.require_not_behind(NOW)


def test_a_beat_that_does_not_move_says_nothing_of_a_clock(cluster: Cluster) -> None:
    """Its server may have died long ago; nor does one that nobody signed."""
    cluster.say({"two": -TEN_MINUTES})
    for number in range(3):
        cluster.engine.barrier("three", b"%d" % number)
        cluster.peers.poll()

    assert cluster.peers.clock_differs == ""


def test_a_clock_that_was_seen_counts_after_its_server_stopped(cluster: Cluster) -> None:
    """So a step of this server's own clock is found, and the time that passes is none."""
    cluster.hear({"two": 0})
    cluster.clock.advance(TEN_MINUTES)
    cluster.peers.poll()
    cluster.peers.require_clock(NOW)

    cluster.clock.step(10_000)

    with pytest.raises(StateError, match="10000 ms ahead of that of server two"):
        cluster.peers.require_clock(NOW)


def test_a_slow_look_accuses_nobody(cluster: Cluster) -> None:
    """A beat is as old as the time since the look before, at most: so much is not held against a clock."""
    cluster.hear({"two": 0})
    cluster.say({"two": 1_000})
    cluster.clock.advance(TEN_MINUTES)
    cluster.peers.poll()

    assert cluster.peers.clock_differs == ""


def test_a_server_that_starts_looks_before_it_leads(cluster: Cluster) -> None:
    """It takes a second where beats of others are; a server that is alone need not wait."""
    alone = Peers(OneEngine(), "one", cluster.one.member.writer.source(), cluster.clock)
    assert alone.settle()

    cluster.say({"two": 0})
    assert not cluster.peers.settle()
    cluster.clock.advance(LOOK_MS)
    cluster.say({"two": -TEN_MINUTES})
    assert cluster.peers.settle()
    with pytest.raises(StateError, match="ahead of that of server two"):
        cluster.peers.require_clock(NOW - TEN_MINUTES)


def test_a_leader_that_is_ahead_gives_the_lead_back(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not take it again, and callers hear what each server says."""
    one = cluster.one
    one.election = Election(
        one.member.carried, one.follower, one.member.writer, "one:1", ttl_ms=600, peers=cluster.peers
    )
    one.member.carried.reasons = lambda: f"one: {one.election.reason}"
    one.start()
    until(lambda: one.leads)
    monkeypatch.setattr(cluster.peers, "require_clock", _refuse)

    until(lambda: one.election.reason == "this clock is ahead")

    assert one.lost == ["this clock is ahead"] and cluster.engine.leading is None
    with pytest.raises(NotLeader, match=r"no server .* leads at the moment \(one: this clock is ahead\)"):
        one.member.writer.submit(opening("there")).result()
    monkeypatch.undo()
    until(lambda: one.leads and not one.election.reason, "the lead again")


def _refuse(floor_ms: int) -> None:
    raise StateError("this clock is ahead")


def test_the_others_say_why_they_do_not_lead(cluster: Cluster) -> None:
    """One that is silent says nothing."""
    cluster.say({"two": 0}, "its disk failed")
    cluster.say({"three": 0}, "its key is not active")
    cluster.peers.poll()
    cluster.say({"two": 0}, "its disk failed")
    cluster.peers.poll()

    assert cluster.peers.reasons == {"two": "its disk failed", "three": ""}


@pytest.fixture
def ahead(tmp_path: Path) -> Iterator[tuple[OneEngine, Member, Member]]:
    """Two servers whose log has a time that lies ten minutes ahead of their clocks."""
    engine, members = begin_cluster(tmp_path, FixedClock(NOW + TEN_MINUTES), ("one", "two"))
    members[0].writer.submit(opening("ahead", b"a" * 16)).result().raise_if_rejected()
    engine.leading, clock = None, FixedClock(NOW)
    for member in members:
        member.writer.close()
    one, two = (Member(engine, each.folder, each.name, each.key, clock) for each in members)
    yield engine, one, two
    one.writer.close()
    two.writer.close()


def test_an_operator_lowers_the_floor(ahead: tuple[OneEngine, Member, Member]) -> None:
    """The log goes on by the host's clock, on each host; every session ends, and new ones can be opened."""
    engine, one, two = ahead
    assert one.writer.head().clock_floor_ms == NOW + TEN_MINUTES

    lowered = lower_floor(one.writer, one.carried, "one:1", 5_000)

    assert lowered["clock_floor_ms"] == one.writer.head().clock_floor_ms == NOW
    assert engine.leading is None
    two.follow()
    assert two.tables() == one.tables()
    assert two.writer.head().clock_floor_ms == NOW
    two.lead()
    with pytest.raises(Rejected, match="ALREADY_ENDED"):
        two.writer.keep_alive(b"a" * 16).result()
    two.writer.submit(opening("right", b"r" * 16)).result().raise_if_rejected()
    assert two.writer.head().clock_floor_ms == NOW


def test_a_floor_is_lowered_only_from_the_end_of_the_log(ahead: tuple[OneEngine, Member, Member]) -> None:
    """Nor while a server leads, nor one that lies in the past."""
    engine, one, two = ahead
    with pytest.raises(StateError, match="and this folder holds"):
        lower_floor(two.writer, two.carried, "two:1", 5_000)
    assert engine.leading is None
    lower_floor(one.writer, one.carried, "one:1", 5_000)
    with pytest.raises(StateError, match="nothing to lower"):
        lower_floor(one.writer, one.carried, "one:1", 5_000)
