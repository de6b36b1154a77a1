"""Uses after the end become at most one event a session and second, and only of sessions that are over."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sessauth.model.change import open_session
from sessauth.model.session import EndCause, Session, SessionStatus
from sessauth.scopes.scope import Scope
from sessauth.server import events as uses_after_end
from sessauth.server.events import (
    MAX_BLOCK_IDS,
    Event,
    EventSubscriber,
    LogPosition,
    SessionEventPublisher,
    UsesAfterEnd,
)
from sessauth.state.writer.state_writer import StateWriter
from sessauth.usage.session_usage import UseAfterEnd
from sessauth.v1 import event_service_pb2 as pb
from tests.support.service import wait_until

ENDED, CHILD, LIVE = b"e" * 16, b"c" * 16, b"l" * 16


def _session(session_id: bytes, status: SessionStatus, parent_id: bytes = b"") -> Session:
    return Session(
        session_id,
        "agent",
        "",
        "w",
        parent_id,
        status,
        3,
        (),
        (),
        {},
        1,
        9,
        0,
        (),
        0,
        5,
        EndCause.ASKED,
        "",
        7,
    )


class World:
    """Three sessions, and what was published of them."""

    def __init__(self) -> None:
        """One ended, one of its children, and one that lives."""
        self.sessions = {
            ENDED: _session(ENDED, SessionStatus.ENDED),
            CHILD: replace(_session(CHILD, SessionStatus.ACTIVE, ENDED), revision=2),
            LIVE: _session(LIVE, SessionStatus.SUSPENDED),
        }
        self.published: list[Event] = []
        self.uses = UsesAfterEnd(self, self.published.append)

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session."""
        return self.sessions.get(session_id)

    def use(self, session_id: bytes = ENDED, *blocks: bytes, claimed: bool = False, count: int = 1) -> None:
        """Have a verifier tell of a use."""
        self.uses.on_used_after_end(session_id, "gw", UseAfterEnd(blocks, claimed, count, 100, 100))

    @property
    def counts(self) -> list[int]:
        """The counts of the events."""
        return [event.message.count for event in self.published]


def test_the_first_is_told_at_once_and_the_others_once_a_second() -> None:
    """Nothing is lost in the adding up."""
    world = World()
    world.use(ENDED, b"1" * 32)
    assert world.counts == [1]
    for n in range(100):
        world.use(ENDED, bytes([n]) * 32, count=2)
    assert world.counts == [1]
    world.uses.flush()
    assert world.counts == [1, 200]
    assert len(world.published[1].message.block_ids) == MAX_BLOCK_IDS
    world.use()
    world.uses.flush()
    world.uses.flush()
    assert world.counts == [1, 200, 1]
    world.use()
    assert world.counts == [1, 200, 1, 1]


def test_a_claim_is_one_only_while_nothing_more_is_known() -> None:
    """One use whose signatures stood makes the sum more than a claim."""
    world = World()
    world.use(claimed=True)
    world.use(claimed=True)
    world.uses.flush()
    world.use(claimed=True)
    world.use(ENDED, b"1" * 32)
    world.uses.flush()

    assert [event.message.claimed for event in world.published] == [True, True, False]


def test_a_child_is_over_with_its_parent() -> None:
    """It has the cause and the revision of the end that it went with."""
    world = World()
    world.use(CHILD)
    (event,) = world.published

    assert (event.message.session_id, event.message.parent_id) == (CHILD, ENDED)
    assert (event.message.revision, event.message.cause) == (7, EndCause.ASKED)
    assert list(event.ancestor_ids) == [ENDED]


@pytest.mark.parametrize("session_id", [LIVE, b"n" * 16])
def test_nothing_is_told_of_who_lives_or_never_was(session_id: bytes) -> None:
    """Invented ids make no events, and take no place."""
    world = World()
    for _ in range(3):
        world.use(session_id)
        world.uses.flush()
    world.use(count=0)

    assert world.published == []
    assert world.uses._sums == {}


def test_too_many_sessions_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bound uses are counted as dropped, until others have their second."""
    monkeypatch.setattr(uses_after_end, "MAX_ENDED_SESSIONS", 1)
    world = World()
    world.use(ENDED)
    world.use(CHILD, count=5)
    assert (world.counts, world.uses.dropped) == ([1], 5)
    world.uses.flush()
    world.use(CHILD)

    assert world.counts == [1, 1]


def test_threads_lose_no_use() -> None:
    """Many verifiers tell at once."""
    world = World()
    threads = [threading.Thread(target=lambda: [world.use() for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.uses.flush()

    assert sum(world.counts) == 800
    assert len(world.counts) == 2


def test_what_the_last_watcher_did_not_wait_for_is_told_to_nobody(tmp_path: Path) -> None:
    """A use after the end is published to those who watch at that moment, and not to who comes later."""
    published: list[Event] = []

    def admits(event: Event) -> bytes | None:
        published.append(event)
        return event.encoded

    with StateWriter.open(tmp_path / "state", create=True) as log:
        events = SessionEventPublisher(log.source())
        with events.open(EventSubscriber(admits, LogPosition(0, 0))):
            # Behind a change that is still to come, so that it waits.
            ahead = Event.of(pb.SessionEvent(revision=log.head().revision + 1))
            events.publish(ahead)
        with events.open(EventSubscriber(admits, LogPosition(0, 0))):
            ceiling = [Scope.parse("read:x").to_record()]
            change = open_session("one", b"n" * 16, ceiling, subject="s", ttl_ms=60_000)
            assert log.submit(change).result().applied
            assert wait_until(lambda: len(published) > 0 and not events._unlogged)
        events.drain()

    assert [event.is_logged for event in published] == [True]
