"""The leader trims what is both old and far behind, and nothing else; each server compacts every minute."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from sessauth.clock import FixedClock
from sessauth.state.replication.carrier import (
    PERIOD_MS,
    RETAINED_MS,
    RETAINED_RECORDS,
    CarrierError,
    Compactor,
    EngineRoom,
    Trimmer,
)
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


def test_the_history_goes_each_minute_from_the_first_one_on() -> None:
    """However few records there are, and whoever leads: beats alone fill an engine."""
    engine, clock = OneEngine(), FixedClock(NOW)
    compactor = Compactor(engine, clock)
    for minute in range(1, 6):
        compactor.step()
        compactor.step()
        assert engine.compacted == minute
        clock.advance(PERIOD_MS)


def test_an_engine_that_is_full_is_told_once() -> None:
    """Again only after it had room; a minute in which it is silent changes nothing."""
    engine, clock, told = OneEngine(), FixedClock(NOW), list[EngineRoom]()
    compactor = Compactor(engine, clock, told.append)
    full, free = EngineRoom(2_000, 2_000, full=True), EngineRoom(100, 2_000, full=False)
    for room, silent in (
        (free, False),
        (full, False),
        (full, True),
        (full, False),
        (free, False),
        (full, False),
    ):
        engine.has_room, engine.silent = room, silent
        with pytest.raises(CarrierError) if silent else nullcontext():
            compactor.step()
        assert compactor.room == room
        clock.advance(PERIOD_MS)
    assert told == [full, full]
