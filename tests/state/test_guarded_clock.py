"""The writer's wall clock is set wrong: nothing of it stays behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sessauth import limits
from sessauth.clock import FixedClock, SystemClock
from sessauth.crypto.keys import IssuerKey, KeyStatus
from sessauth.errors import StateError
from sessauth.model.change import (
    Change,
    add_key,
    end_session,
    narrow_session,
    resume_session,
    revoke,
    set_key_status,
    suspend_session,
    update_facts,
)
from sessauth.model.session import EndCause, Fact, SessionStatus
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import HOUR, NOW, opening, scopes

ID = b"s" * 16
LEASE = 30_000
KEY = IssuerKey(b"k" * 32)


@pytest.fixture
def living(writer: StateWriter) -> StateWriter:
    """A writer with one session on a lease and one prepared key."""
    assert writer.submit(opening("open", ID, lease_ms=LEASE, ttl_ms=10 * HOUR)).result().applied
    assert writer.submit(add_key("key", KEY.public_key)).result().applied
    return writer


@pytest.mark.parametrize("step", [HOUR, -HOUR, limits.CLOCK_STEP_MS + 1, -limits.CLOCK_STEP_MS - 1])
@pytest.mark.parametrize(
    "change",
    [
        opening("x"),
        update_facts("x", ID, set_facts=[Fact("case", "7")]),
        resume_session("x", ID),
        add_key("x", IssuerKey(b"n" * 32).public_key),
        set_key_status("x", KEY.key_id, KeyStatus.ACTIVE),
        set_key_status("x", KEY.key_id, KeyStatus.RETIRED),
    ],
    ids=["open", "facts", "resume", "add key", "activate", "retire"],
)
def test_nothing_is_granted_by_a_wrong_clock(
    living: StateWriter, clock: FixedClock, change: Change, step: int
) -> None:
    """Changes that give authority fail with the cause, until the clock is right again."""
    clock.step(step)
    head = living.head()
    with pytest.raises(StateError, match="wall clock moved") as caught:
        living.submit(change).result()
    assert type(caught.value) is StateError
    assert living.head() == head
    clock.step(-step)
    assert living.submit(opening("right")).result().applied


@pytest.mark.parametrize("step", [HOUR, -HOUR, 1000 * HOUR])
@pytest.mark.parametrize(
    "change",
    [
        end_session("x", ID),
        suspend_session("x", ID),
        narrow_session("x", ID, scopes("read:files/a/**")),
        revoke("x", ID, [b"b" * 32]),
        set_key_status("x", KEY.key_id, KeyStatus.DISTRUSTED),
    ],
    ids=["end", "suspend", "narrow", "revoke", "distrust"],
)
def test_what_takes_away_is_written_and_leaves_the_floor(
    living: StateWriter, clock: FixedClock, change: Change, step: int
) -> None:
    """Authority can always be taken away; the floor never gets ahead of the time that really passed."""
    clock.step(step)
    clock.advance(1000)
    assert living.submit(change).result().applied
    assert NOW <= living.head().clock_floor_ms <= NOW + 1000


def test_a_small_step_is_believed(living: StateWriter, clock: FixedClock) -> None:
    """A minute more or less is what clocks are corrected by."""
    clock.step(limits.CLOCK_STEP_MS)
    assert living.submit(opening("x")).result().at_ms == NOW + limits.CLOCK_STEP_MS


def test_no_lease_lapses_by_a_wrong_clock(living: StateWriter, clock: FixedClock) -> None:
    """Neither the sweep nor a renewal ends a session that is alive by the time that really passed."""
    clock.step(HOUR)
    clock.advance(LEASE - 1)
    assert living.sweep().ended == 0
    assert living.keep_alive(ID).result() == NOW + 2 * LEASE - 1
    clock.step(-HOUR)
    session = living.get_session(ID)
    assert session is not None and session.status is SessionStatus.ACTIVE
    assert living.head().clock_floor_ms == NOW


def test_a_lease_lapses_under_a_wrong_clock(living: StateWriter, clock: FixedClock) -> None:
    """The dead-man switch goes by the time that really passed, and so does its stamp."""
    clock.step(HOUR)
    clock.advance(LEASE)
    assert living.sweep().ended == 1
    session = living.get_session(ID)
    assert session is not None and session.end_cause is EndCause.LEASE_LAPSED
    assert session.ended_at_ms == living.head().clock_floor_ms == NOW + LEASE


def test_a_clock_behind_lengthens_no_lease(living: StateWriter, clock: FixedClock) -> None:
    """Renewed under a clock that was set back, a lease still lapses when the clock is right again."""
    clock.step(-HOUR)
    clock.advance(LEASE - 1)
    assert living.keep_alive(ID).result() <= NOW + LEASE
    clock.step(HOUR)
    clock.advance(1)
    assert living.sweep().ended == 1


def test_a_repeated_id_finds_its_outcome(living: StateWriter, clock: FixedClock) -> None:
    """The first outcome is told whatever the clock says, for it was judged before."""
    clock.step(HOUR)
    assert living.submit(add_key("key", KEY.public_key)).result().applied


def test_a_restart_believes_the_clock_as_it_is(state_dir: Path, clock: FixedClock) -> None:
    """A clock that was set right for good is taken by opening the state again."""
    with StateWriter.open(state_dir, create=True, clock=clock) as writer:
        clock.step(HOUR)
        assert "restart" in writer.clock_suspect
        with pytest.raises(StateError):
            writer.now_ms()
    with StateWriter.open(state_dir, clock=clock) as writer:
        assert writer.clock_suspect == ""
        assert writer.now_ms() == NOW + HOUR
        assert writer.submit(opening("x", os.urandom(16))).result().at_ms == NOW + HOUR


def test_the_systems_clocks_keep_step() -> None:
    """The machine's own two clocks are in ms and run alike."""
    clock = SystemClock()
    before = clock.now_ms() - clock.steady_ms()
    assert abs(clock.now_ms() - clock.steady_ms() - before) < 1000
