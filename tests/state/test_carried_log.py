"""A snapshot that a host can't take for the continuation of what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import RecordRefused
from sessauth.model.host import CarriedPosition
from sessauth.state.lmdb.cluster_rows import write_position
from sessauth.state.replication.snapshot import install
from sessauth.state.writer.group import Group
from tests.support.carried import begin_cluster
from tests.support.changes import NOW


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
