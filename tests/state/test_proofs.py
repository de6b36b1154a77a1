"""Proofs of freshness need the host's row, and come at once behind the end of a session."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.clock import SystemClock
from sessauth.model.change import end_session
from sessauth.state.replication.carrier import EngineSource
from sessauth.state.replication.follower import Freshness, ReplicationThread
from tests.support.carried import Member, OneEngine, begin_cluster
from tests.support.changes import opening
from tests.support.service import wait_until

SESSION = b"s" * 16


class Proving:
    """A server that follows another one, and what its proofs write."""

    def __init__(self, engine: OneEngine, member: Member, bound_ms: int, registered_ms: int) -> None:
        """Start to follow and to prove."""
        self.registered_ms = registered_ms
        self.until: list[int] = []
        self.beats: list[tuple[int, int]] = []
        self.clock = SystemClock()
        source = EngineSource(engine, member.name, self._beat)
        self.follower = ReplicationThread(source, member.writer)
        self.freshness = Freshness(
            source,
            self.follower,
            self.clock,
            self.until.append,
            self.until.clear,
            bound_ms=bound_ms,
            registered_ms=lambda: self.registered_ms,
        )
        self.follower.start()
        self.freshness.start()

    def _beat(self) -> bytes:
        self.beats.append((self.clock.steady_ms(), self.follower.position.number))
        return b""

    def close(self) -> None:
        """Stop."""
        self.freshness.close()
        self.follower.close()


@pytest.fixture
def members(tmp_path: Path) -> Iterator[tuple[OneEngine, Member, Member]]:
    """An engine, its leader, and another server."""
    engine, (one, two) = begin_cluster(tmp_path, SystemClock(), ("one", "two"))
    yield engine, one, two
    one.writer.close()
    two.writer.close()


def test_without_a_row_nothing_is_proved(members: tuple[OneEngine, Member, Member]) -> None:
    """Then the shorter one of both bounds holds."""
    proving = Proving(members[0], members[2], bound_ms=3_000, registered_ms=0)
    assert wait_until(lambda: len(proving.beats) > 2)
    assert proving.until == []
    proving.registered_ms = 1_000
    assert wait_until(lambda: bool(proving.until))
    assert proving.until[-1] <= proving.clock.steady_ms() + 1_000
    proving.close()


def test_an_end_is_acknowledged_at_once(
    members: tuple[OneEngine, Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record causes a barrier, whose beat says that the folder holds it; other records cause none."""
    monkeypatch.setattr("sessauth.state.replication.follower.PERIOD_MS", 60_000)
    engine, one, two = members
    proving = Proving(engine, two, bound_ms=3_000, registered_ms=3_000)
    assert wait_until(lambda: bool(proving.until))
    one.writer.submit(opening("open", SESSION)).result().raise_if_rejected()
    assert wait_until(lambda: proving.follower.position.number == engine.head.number)
    threading.Event().wait(0.2)
    assert len(proving.beats) == 1
    one.writer.submit(end_session("end", SESSION)).result().raise_if_rejected()
    assert wait_until(lambda: proving.beats[-1][1] == engine.head.number)
    assert len(proving.beats) == 2
    proving.close()
