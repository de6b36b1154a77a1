"""The list of a server's hosts, which is written beside its beats where it changed."""

from __future__ import annotations

import pytest

from sessauth.clock import FixedClock
from sessauth.model.host import ServerKey
from sessauth.server.cluster.cluster_feed import MARGIN_MS, BeatWriter, FollowedHosts, HostReport
from sessauth.state.replication.carrier import CarrierError, EngineSource
from tests.support.carried import OneEngine

BOUND_MS = 3_000


def test_hosts_are_listed_anew_only_when_they_change() -> None:
    """A list that had no answer is written again; without hosts a beat refers to none."""
    engine, clock, followed = OneEngine(), FixedClock(1_000_000), FollowedHosts()
    beats = BeatWriter(b"c" * 16, "two", ServerKey(b"k" * 32), followed, lambda: 7, clock)
    source = EngineSource(engine, "two", beats, beats.stored, beats.hosts)

    def lists(applied: int) -> bool:
        """Return True if a barrier writes a list for what a host says."""
        before = engine.beat_of.get("two/hosts", b"")
        followed.store(HostReport("host-1", "p", b"i" * 16, applied, clock.steady_ms(), BOUND_MS))
        source.barrier()
        return engine.beat_of["two/hosts"] != before

    assert [lists(applied) for applied in (0, 0, 1, 1, 2)] == [True, False, True, False, True]

    engine.silent = True
    with pytest.raises(CarrierError):
        lists(3)
    engine.silent = False
    assert lists(2)

    clock.advance(BOUND_MS + MARGIN_MS + 1)
    source.barrier()
    assert beats.hosts.number == 0
