"""The leader trims what is both old and far behind, and nothing else."""

from __future__ import annotations

from sessauth.clock import FixedClock
from sessauth.state.replication.trimming import PERIOD_MS, RETAINED_MS, RETAINED_RECORDS, Trimmer
from tests.support.carried import OneEngine
from tests.support.changes import NOW


def test_old_records_that_are_far_behind_go() -> None:
    """Ten minutes and ten thousand records are left, whichever is more."""
    engine, clock = OneEngine(), FixedClock(NOW)
    trimmer = Trimmer(engine, clock)
    trimmed = []
    for minute in range(15):
        trimmed.append(trimmer.step(minute * 2_000))
        clock.advance(PERIOD_MS)
    old = RETAINED_MS // PERIOD_MS
    assert trimmed[: old + 1] == [0] * (old + 1)
    assert trimmed[old + 1 :] == [2_000, 4_000, 6_000, 8_000]
    assert engine.trimmed == trimmed[-1] <= 14 * 2_000 - RETAINED_RECORDS


def test_a_quiet_log_is_left() -> None:
    """However old: a host that was away for a week catches up by records."""
    engine, clock = OneEngine(), FixedClock(NOW)
    trimmer = Trimmer(engine, clock)
    for _ in range(30):
        assert trimmer.step(RETAINED_RECORDS) == 0
        clock.advance(PERIOD_MS)


def test_a_second_step_within_a_minute_asks_nothing() -> None:
    """It is called every second."""
    engine, clock = OneEngine(), FixedClock(NOW)
    trimmer = Trimmer(engine, clock)
    trimmer.step(50_000)
    clock.advance(RETAINED_MS)
    assert trimmer.step(100_000) == 50_000
    assert trimmer.step(100_000) == 0
    trimmer.forget()
    assert trimmer.step(100_000) == 0
