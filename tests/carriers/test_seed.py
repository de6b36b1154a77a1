"""An operator has an engine that lost its past go on behind a record that it does not have."""

from __future__ import annotations

import pytest

from sessauth.state.replication.carrier import CompactedRecords, LogHead
from tests.carriers.conftest import Engine
from tests.support.log_writer import START, LogWriter, digest, new_leader

SEEDED = LogHead(40, digest(b"record 40"))


def test_records_follow_a_seeded_head(engine: Engine) -> None:
    """The next one has its number, and whoever is behind it must take a snapshot."""
    one, two = engine.open("one"), engine.open("two")
    assert one.seed(START, SEEDED)
    writer = LogWriter(one, new_leader(one), SEEDED)
    writer.append(b"record 41")

    assert two.barrier("two", b"").head == LogHead(41, digest(b"record 41"))
    assert two.read(40, 10) == [(41, b"record 41")]
    with pytest.raises(CompactedRecords):
        two.read(3, 10)


def test_only_the_expected_head_is_replaced(engine: Engine) -> None:
    """A log that somebody else began, or that is longer, stays."""
    one = engine.open("one")
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first", b"second")

    assert not one.seed(START, SEEDED)
    assert not one.seed(LogHead(1, digest(b"first")), SEEDED)
    assert one.barrier("one", b"").head.number == 2
    assert one.seed(LogHead(2, digest(b"second")), SEEDED)
    # Said again, since the answer may have been lost.
    assert one.seed(LogHead(2, digest(b"second")), SEEDED)


def test_a_head_without_records_behind_it_is_a_gap(engine: Engine) -> None:
    """No record before it is there, although nothing was trimmed."""
    one = engine.open("one")
    assert one.seed(START, SEEDED)
    with pytest.raises(CompactedRecords):
        one.read(0, 10)
    assert one.read(40, 10) == []
