"""A group is carried to other servers and leads to equal rows there, whatever it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import RecordRefused
from sessauth.model.change import end_session
from sessauth.model.host import CarriedPosition
from sessauth.state.lmdb.cluster_rows import write_position
from sessauth.state.replication.snapshot import install
from sessauth.state.writer.group import Group
from tests.support.carried import begin_cluster
from tests.support.changes import NOW, opening


def test_a_follower_has_the_leaders_rows(tmp_path: Path) -> None:
    """Opened, renewed, swept and ended on one server; equal rows on the other."""
    clock = FixedClock(NOW)
    _, (one, two) = begin_cluster(tmp_path, clock, ("one", "two"))
    for number in range(20):
        change = opening(f"open-{number}", number.to_bytes(16, "big"), lease_ms=60_000)
        assert one.writer.submit(change).result().applied
    clock.advance(40_000)
    one.writer.keep_alive((3).to_bytes(16, "big")).result()
    one.writer.submit(end_session("end-4", (4).to_bytes(16, "big"))).result().raise_if_rejected()
    clock.advance(40_000)
    one.writer.sweep()
    two.follow()
    assert two.tables() == one.tables()
    one.writer.close()
    two.writer.close()


def test_a_snapshot_that_ends_with_another_record(tmp_path: Path) -> None:
    """The same number with another digest: the log was written twice, and the rows stay."""
    _, (one, two) = begin_cluster(tmp_path, FixedClock(NOW), ("one", "two"))
    two.follow()

    number = two.number

    def fork(group: Group) -> None:
        write_position(group.rows, CarriedPosition(number, b"f" * 32, 1))
        group.dirty = True

    two.writer.run(fork)
    before = two.tables()
    with one.writer.source().rows() as rows, pytest.raises(RecordRefused) as refused:
        two.writer.run(lambda group: install(group, rows))
    assert refused.value.fault == "OTHER_PAST" and two.tables() == before
    one.writer.close()
    two.writer.close()
