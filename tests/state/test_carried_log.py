"""A group is carried to other servers and leads to equal rows there, whatever it holds."""

from __future__ import annotations

from pathlib import Path

from sessauth.clock import FixedClock
from sessauth.model.change import end_session
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
