"""The brake of a whole cluster: a row of the log that each host turns into its own page."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import NotLeader, RecordRefused
from sessauth.model.change import end_session
from sessauth.model.host import CarriedRow, ClusterBrake
from sessauth.state import layout
from sessauth.state.backup import backup_source, restore
from sessauth.state.host.brake import Brake
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb import cluster_rows
from sessauth.state.replication.membership import leave
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateWriter
from tests.support.carried import Member, begin_cluster, join
from tests.support.carried_play import Play
from tests.support.changes import NOW, opening

SESSION = b"s" * 16
BRAKED = "cluster frozen by desk: drill"


@pytest.fixture
def members(tmp_path: Path) -> Iterator[tuple[Member, Member]]:
    """Two servers, the first of which leads."""
    _, (one, two) = begin_cluster(tmp_path, FixedClock(NOW), ("one", "two"))
    one.writer.submit(opening("open", SESSION)).result().raise_if_rejected()
    two.follow()
    yield one, two
    for member in (one, two):
        member.writer.close()


def engage(member: Member, reason: str = "drill") -> None:
    """Set the cluster's brake."""
    member.writer.run(partial(cluster_rows.set_brake, reason=reason, principal="desk"))


def release(member: Member) -> None:
    """Release it."""
    member.writer.run(cluster_rows.release_brake)


def page(member: Member) -> Brake:
    """Map a member's page anew."""
    return Brake(member.folder / layout.BRAKE_FILE)


def test_each_host_has_it_with_the_record(members: tuple[Member, Member]) -> None:
    """The leader before it answers, another host with the commit that applies the record; ends go through."""
    one, two = members
    engage(one)
    assert one.writer.braked == one.writer.cluster_brake == BRAKED
    assert not two.writer.braked
    two.follow()
    assert two.writer.braked == BRAKED
    assert one.tables() == two.tables()
    one.writer.submit(end_session("end", SESSION)).result().raise_if_rejected()
    two.writer.run(lambda group: verify(group.rows))

    release(one)
    assert not one.writer.braked
    assert two.writer.braked
    two.follow()
    assert not two.writer.braked


def test_only_the_leader_sets_it(members: tuple[Member, Member]) -> None:
    """A host that follows changes no row, and not its page."""
    with pytest.raises(NotLeader):
        engage(members[1])
    assert not members[1].writer.braked


def test_a_set_brake_is_not_written_twice(members: tuple[Member, Member]) -> None:
    """The same reason costs no record; another one replaces it."""
    one, _ = members
    engage(one)
    number = one.number
    engage(one)
    assert one.number == number
    engage(one, "worse")
    assert one.number == number + 1
    assert one.writer.braked == "cluster frozen by desk: worse"


def test_a_persons_brake_stays(members: tuple[Member, Member]) -> None:
    """None of the three holds releases another."""
    one, _ = members
    by_hand = page(one)
    by_hand.engage("set by hand", by_hand=True)
    engage(one)
    assert one.writer.braked == f"set by hand; {BRAKED}"
    release(one)
    assert one.writer.braked == "set by hand"
    engage(one)
    by_hand.release(by_hand=True)
    assert one.writer.braked == BRAKED
    by_hand.engage("disk")
    by_hand.release()
    assert one.writer.braked == BRAKED
    by_hand.close()


def test_nobody_reads_the_row_before_the_page(
    members: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is engaged before the commit, and released behind it: another thread may wait for the row."""
    one, two = members
    moved: list[object] = []
    set_for_cluster = Brake.set_for_cluster

    def watched(self: Brake, reason: str | None) -> None:
        holders = [member.name for member in members if member.writer.cluster_brake]
        with one.writer.source().rows() as ones, two.writer.source().rows() as twos:
            rows = [cluster_rows.cluster_brake(rows) is not None for rows in (ones, twos)]
        moved.append((holders, rows))
        set_for_cluster(self, reason)

    monkeypatch.setattr(Brake, "set_for_cluster", watched)
    for move in (engage, release):
        move(one)
        two.follow()

    assert moved == [
        ([], [False, False]),
        (["one"], [True, False]),
        (["one", "two"], [False, True]),
        (["two"], [False, False]),
    ]


def test_a_restart_goes_by_the_row(members: tuple[Member, Member]) -> None:
    """A process that died between the commit and the page, both ways, and a page that was made anew."""
    one, two = members
    engage(one)
    two.follow()
    two.writer.close()
    lost = page(two)
    lost.set_for_cluster(None)
    lost.close()
    two._open()
    assert two.writer.braked == BRAKED
    release(one)
    two.follow()
    two.writer.close()
    left = page(two)
    left.set_for_cluster("of before")
    left.close()
    two._open()
    assert not two.writer.braked


def test_a_host_that_joins_later_has_it(members: tuple[Member, Member], tmp_path: Path) -> None:
    """The snapshot has it; one without it releases what the host had."""
    one, _ = members
    engage(one)
    join(tmp_path / "late", one.writer.source(), FixedClock(NOW))
    late = Brake(tmp_path / "late" / layout.BRAKE_FILE)
    assert late.cluster_reason == BRAKED
    release(one)
    late.close()


def test_a_host_that_leaves_goes_on_to_deny(members: tuple[Member, Member]) -> None:
    """The cluster can release it no longer: a person does."""
    one, two = members
    engage(one)
    two.follow()
    two.writer.close()
    leave(two.folder)
    left = page(two)
    assert not left.cluster_reason
    assert left.by_hand.engaged
    assert "left its cluster" in left.reason
    left.close()
    with StateWriter.open(two.folder) as single:
        assert not single.cluster_brake
        assert single.braked


def test_a_backup_of_a_braked_cluster_is_restored_as_a_braked_host(
    members: tuple[Member, Member], tmp_path: Path
) -> None:
    """No cluster can release it there, so a person can; the cluster's hosts are not this one's."""
    one, _ = members
    engage(one)
    backup_source(one.writer.source(), tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "single")
    with StateWriter.open(tmp_path / "single") as single:
        assert not single.cluster_brake
        assert single.braked_by_hand.engaged and BRAKED in single.braked
        assert not single.hosts()
        with single.source().rows() as rows:
            assert cluster_rows.cluster_brake(rows) is None


def test_a_backup_from_before_the_brake_restores_none(members: tuple[Member, Member], tmp_path: Path) -> None:
    """The restored host may allow."""
    one, _ = members
    backup_source(one.writer.source(), tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "single")
    with StateWriter.open(tmp_path / "single") as single:
        assert not single.braked


@pytest.mark.parametrize(
    "row",
    [
        CarriedRow(layout.EVIDENCE, b"b", b"\xff"),
        CarriedRow(layout.EVIDENCE, b"bx", ClusterBrake("r", "p", 1).encode()),
        CarriedRow(layout.EVIDENCE, b"b", ClusterBrake("r" * 257, "p", 1).encode()),
        CarriedRow(layout.EVIDENCE, b"b", b""),
        CarriedRow(layout.EVIDENCE, b"b", b"x", removed=True),
    ],
)
def test_no_record_brakes_by_another_row(play: Play, row: CarriedRow) -> None:
    """It is refused, and the page is as it was."""
    assert play.refuse(play.altered(rows=(*play.record.rows, row))) == "FOREIGN_ROW"
    assert not play.two.writer.braked


def test_a_group_that_is_not_committed_moves_no_page(members: tuple[Member, Member]) -> None:
    """The row was written, and the group then refused."""
    one, _ = members

    def work(group: Group) -> None:
        cluster_rows.set_brake(group, "drill", "desk")
        raise RecordRefused("no", "FOREIGN")

    with pytest.raises(RecordRefused):
        one.writer.run(work)
    assert not one.writer.cluster_brake
