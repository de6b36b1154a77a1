"""Groups that are larger than a record: split, or refused."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.model.change import Change, ChangeOutcome, end_session
from sessauth.model.session import Fact
from sessauth.state.replication.carrier import MAX_RECORD_BYTES
from sessauth.state.writer.group import Group, GroupTooLarge
from tests.support.carried import begin_cluster
from tests.support.changes import NOW, opening


def _large(number: int) -> Change:
    """Return a change of 32,000 bytes."""
    facts = [Fact(f"f{at}", "x" * 1_000) for at in range(32)]
    return opening(f"open-{number}", number.to_bytes(16, "big"), facts=facts)


def _submit(number: int, group: Group) -> ChangeOutcome:
    return group.submit(_large(number))


def test_a_group_that_fits_into_no_record(tmp_path: Path) -> None:
    """Its jobs are written one by one; of one that is too large alone nothing is written."""
    engine, (one, two) = begin_cluster(tmp_path, FixedClock(NOW), ("one", "two"))
    one.writer.submit(opening("open", b"b" * 16)).result().raise_if_rejected()
    go, number = threading.Event(), engine.head.number
    blocker = one.writer.decide(lambda group: go.wait(10), 0)
    jobs = [one.writer.decide(partial(_submit, at), 0) for at in range(40)]
    go.set()
    assert blocker.result() and all(job.result().applied for job in jobs)
    assert engine.head.number >= number + 2
    head = engine.head
    with pytest.raises(GroupTooLarge):
        one.writer.run(lambda group: [_submit(at, group) for at in range(40, 80)])
    assert engine.head == head and not one.writer.braked and one.carried.leader is not None
    assert one.writer.submit(end_session("end", b"b" * 16)).result().applied
    two.follow()
    assert two.tables() == one.tables()
    assert max(map(len, engine.records.values())) <= MAX_RECORD_BYTES
    one.writer.close()
    two.writer.close()
