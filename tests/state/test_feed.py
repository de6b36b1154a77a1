"""The feed: changes in order, gaps and compaction said aloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import Rejected
from sessauth.model.change import end_session
from sessauth.state.lmdb.feed import ChangeLog
from sessauth.state.writer.group import Retention
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import MemoryRows, opening

ID = b"s" * 16


def test_a_follower_reaches_the_same_head(writer: StateWriter) -> None:
    """Applying the feed's changes gives the leader's sessions, revision and digest."""
    for n in range(30):
        writer.submit(opening(f"o{n}", bytes([n]) * 16)).result()
        writer.submit(end_session(f"e{n}", bytes([n // 2]) * 16)).result()
    feed, follower = ChangeLog(writer.source()), MemoryRows()
    while changes := feed.changes(follower.head().seq, limit=7):
        for _, change in changes:
            follower.do(change, change.at_ms)
    assert follower.head().digest == feed.head().digest
    assert follower.head().revision == feed.head().revision
    assert [follower.session(s.id) for s in writer.list_sessions()] == writer.list_sessions()


def test_what_was_compacted_is_said(state_dir: Path, clock: FixedClock) -> None:
    """A seq behind the oldest kept change is COMPACTED; one ahead of the log is another log's."""
    with StateWriter.open(state_dir, create=True, clock=clock, retention=Retention(changes=5)) as writer:
        for n in range(20):
            writer.submit(opening(f"{n}")).result()
        feed = ChangeLog(writer.source())
        assert [seq for seq, _ in feed.changes(15)] == [16, 17, 18, 19, 20]
        for since, word in ((14, "COMPACTED"), (0, "COMPACTED"), (21, "INVALID"), (-1, "INVALID")):
            with pytest.raises(Rejected) as caught:
                feed.changes(since)
            assert caught.value.word == word
