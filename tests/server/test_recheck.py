"""Times at which the recheck thread judges: changes, the brake, a due time, and at an interval."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sessauth.clock import FixedClock, SystemClock
from sessauth.limits import MAX_TIME_MS
from sessauth.model.change import Change, add_key
from sessauth.server.watch import POLL_SECONDS, WatchedStream, Watching
from sessauth.state import layout
from sessauth.state.host.brake import Brake
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier
from tests.support.token_forger import key


class _Stream:
    """A stream that counts how often it was looked at."""

    def __init__(self, due_ms: int = MAX_TIME_MS) -> None:
        self.looks: list[int] = []
        self.callers = 0
        self.error: BaseException | None = None
        self.broken: Exception | None = None
        self.watchlist = SimpleNamespace(due_ms=due_ms, recheck=self._recheck)

    def _recheck(self, now_ms: int) -> None:
        if self.broken is not None:
            raise self.broken
        self.looks.append(now_ms)

    def require_caller(self) -> None:
        self.callers += 1

    def fail(self, error: BaseException) -> None:
        self.error = error


class _World:
    def __init__(self, folder: Path) -> None:
        self.writer = StateWriter.open(folder, create=True, map_size=64 << 20)
        self.clock = FixedClock(1_000)
        self.watching = Watching(Verifier(self.writer.source()), clock=self.clock)
        self.number = 0

    def add(self, **given: Any) -> _Stream:
        """A stream that is looked after, by hand."""
        stream = _Stream(**given)
        self.watching._members.add(cast("WatchedStream", stream))
        return stream

    def change(self) -> None:
        """Move the revision."""
        self.number += 1
        change: Change = add_key(f"c{self.number}", key(f"k{self.number}").public, owner="")
        self.writer.submit(change).result(10).raise_if_rejected()

    def look(self) -> float | None:
        """Look once, as the thread does."""
        return self.watching._poll_members()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[_World]:
    """A state, and what looks at it, which has looked at all once."""
    made = _World(tmp_path / "state")
    made.add()
    made.look()
    made.watching._members.clear()
    made.watching._all_again_at = float("inf")
    yield made
    made.writer.close()


def test_nothing_is_judged_while_nothing_changed(world: _World) -> None:
    """The state stands still and no time has come: a hundred looks judge nothing."""
    stream = world.add(due_ms=1_001)
    for _ in range(100):
        pause = world.look()
        assert pause is not None
        assert pause >= POLL_SECONDS
    assert (stream.looks, stream.callers) == ([], 0)


def test_every_change_has_all_streams_judged_once(world: _World) -> None:
    """The look that follows a change judges, the one after it does not."""
    streams = [world.add(), world.add()]
    for _ in range(3):
        world.change()
        world.look()
        world.look()
    assert [each.looks for each in streams] == [[1_000] * 3] * 2


def test_the_brake_has_all_streams_judged(world: _World) -> None:
    """Engaging and clearing it move no revision, and are seen all the same."""
    stream = world.add()
    world.writer._brake.engage("a test")
    world.look()
    world.look()
    assert len(stream.looks) == 1
    world.writer.clear_brake()
    world.look()
    assert len(stream.looks) == 2


def test_a_host_that_goes_stale_has_all_streams_judged(world: _World, tmp_path: Path) -> None:
    """A freshness bound that passes moves no revision, nor does one that is set anew."""
    follower = Brake(tmp_path / "state" / layout.BRAKE_FILE)
    stream = world.add()
    for judged in (1, 2):
        follower.deny_now()
        world.look()
        world.look()
        assert len(stream.looks) == 2 * judged - 1
        follower.fresh_until(SystemClock().steady_ms() + 30_000)
        world.look()
        world.look()
        assert len(stream.looks) == 2 * judged
    follower.close()


def test_a_stream_is_judged_when_its_time_has_come(world: _World) -> None:
    """The time is exact to the millisecond, and no other stream is judged with it."""
    due, later = world.add(due_ms=2_000), world.add(due_ms=2_001)
    world.clock.advance(999)
    world.look()
    assert (due.looks, later.looks) == ([], [])
    world.clock.advance(1)
    world.look()
    assert (due.looks, later.looks) == ([2_000], [])


def test_now_and_then_every_stream_is_judged_and_its_caller_asked(world: _World) -> None:
    """The interval finds what no revision shows: a clock that was set, swapped files, a lost credential."""
    stream = world.add()
    world.watching._all_again_at = 0.0
    world.look()
    world.look()
    assert (stream.looks, stream.callers) == ([1_000], 1)


def test_a_state_that_can_not_be_read_is_judged_at_every_look(world: _World) -> None:
    """Not knowing whether anything changed is as if it had."""
    stream = world.add()
    world.writer.close()
    for _ in range(3):
        world.look()
    assert len(stream.looks) == 3


def test_a_stream_that_can_not_be_judged_fails_alone(world: _World) -> None:
    """The others are judged as ever."""
    streams = [world.add() for _ in range(5)]
    streams[2].broken = RuntimeError("a fault")
    world.change()
    world.look()
    assert [each.error for each in streams] == [None, None, streams[2].broken, None, None]
    assert [len(each.looks) for each in streams] == [1, 1, 0, 1, 1]


def test_without_streams_nobody_looks(world: _World) -> None:
    """The thread ends with the last stream."""
    assert world.look() is None
    assert world.watching._thread is None
