"""The queue of the writer's jobs: its bounds, and cancelled jobs."""

from __future__ import annotations

import pytest

from sessauth.errors import StateError
from sessauth.state import layout
from sessauth.state.writer.committer import Job, JobQueue
from sessauth.state.writer.group import Group


def nothing(group: Group) -> None:
    """Take nothing."""


def job(*, only_removes_authority: bool = False) -> Job[None]:
    """A job of a size."""
    return Job(nothing, 1, only_removes_authority=only_removes_authority)


def test_a_flood_leaves_room_for_what_takes_authority_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past three quarters only ends, revocations and their like may still wait; past all, nobody."""
    monkeypatch.setattr(layout, "MAX_QUEUE", 8)
    monkeypatch.setattr(layout, "QUEUE_FOR_ALL", 6)
    queue = JobQueue(1 << 20)
    for _ in range(6):
        queue.add(job())

    with pytest.raises(StateError, match="6 changes wait"):
        queue.add(job())
    queue.add(job(only_removes_authority=True))
    queue.add(job(only_removes_authority=True))
    with pytest.raises(StateError, match="8 changes wait"):
        queue.add(job(only_removes_authority=True))
    assert queue.waiting == 8


def test_who_gave_up_before_the_turn_is_not_served() -> None:
    """A future that was cancelled while it waited is left out of its group; one that is taken can't be."""
    queue = JobQueue(1 << 20)
    given_up, kept = queue.add(job()), queue.add(job())
    assert given_up.cancel()

    group = queue.next_group()

    assert [each.future for each in group] == [kept]
    assert not kept.cancel()
