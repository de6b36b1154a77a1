"""Leases, the sweep, and purging: what ends by itself, and that it stays ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import Rejected
from sessauth.model.change import end_session, resume_session, revoke, suspend_session
from sessauth.model.session import EndCause, SessionStatus
from sessauth.state.writer.group import Retention
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import HOUR, NOW, opening

ID = b"s" * 16
LEASE = 10_000


def cause(writer: StateWriter, session_id: bytes = ID) -> EndCause:
    """Return why a session ended."""
    session = writer.get_session(session_id)
    assert session is not None
    return session.end_cause


def test_a_renewal_is_written_past_half_the_lease(writer: StateWriter, clock: FixedClock) -> None:
    """Renewals before half of the lease write nothing; later ones move the deadline and no epoch."""
    writer.submit(opening("1", ID, lease_ms=LEASE)).result()
    commits, head = writer.stats.commits, writer.head()
    clock.advance(LEASE // 2 - 1)
    assert writer.keep_alive(ID).result() == NOW + LEASE
    assert writer.stats.commits == commits
    clock.advance(1)
    assert writer.keep_alive(ID).result() == NOW + LEASE // 2 + LEASE
    assert writer.stats.commits == commits + 1
    assert writer.head() == head
    session = writer.get_session(ID)
    assert session is not None and (session.epoch, session.lease_deadline_ms) == (1, NOW + 15_000)


def test_a_deadline_only_moves_later(writer: StateWriter, clock: FixedClock) -> None:
    """A wall clock that goes back never shortens a lease that was promised."""
    writer.submit(opening("1", ID, lease_ms=LEASE)).result()
    clock.advance(-HOUR)
    assert writer.keep_alive(ID).result() >= NOW + LEASE


def test_a_lapse_is_final(writer: StateWriter, clock: FixedClock) -> None:
    """A session can't be renewed, changed or resumed after its deadline; it ends as lapsed."""
    writer.submit(opening("1", ID, lease_ms=LEASE)).result()
    writer.submit(suspend_session("2", ID)).result()
    clock.advance(LEASE)
    with pytest.raises(Rejected) as caught:
        writer.keep_alive(ID).result()
    assert caught.value.word == "ALREADY_ENDED"
    assert cause(writer) is EndCause.LEASE_LAPSED
    assert writer.submit(resume_session("3", ID)).result().rejection == "ALREADY_ENDED"
    assert writer.submit(end_session("4", ID)).result().rejection == "ALREADY_ENDED"


def test_a_lapsed_parent_is_ended_before_a_child_is_judged(writer: StateWriter, clock: FixedClock) -> None:
    """No child opens or changes under a parent whose lease has passed, swept or not."""
    writer.submit(opening("1", ID, lease_ms=LEASE)).result()
    writer.submit(opening("2", b"c" * 16, parent_id=ID)).result()
    clock.advance(LEASE)
    assert writer.submit(suspend_session("3", b"c" * 16)).result().rejection == "ALREADY_ENDED"
    assert cause(writer) is EndCause.LEASE_LAPSED
    assert writer.submit(opening("4", b"d" * 16, parent_id=ID)).result().rejection == "PARENT_NOT_LIVE"
    with pytest.raises(Rejected):
        writer.keep_alive(b"c" * 16).result()


@pytest.mark.parametrize(
    ("kind", "word"), [("unknown", "NOT_FOUND"), ("no lease", "INVALID"), ("ended", "ALREADY_ENDED")]
)
def test_keep_alive_is_refused(writer: StateWriter, kind: str, word: str) -> None:
    """A session that is not there, has no lease or has ended is not kept alive."""
    if kind != "unknown":
        writer.submit(opening("1", ID, lease_ms=LEASE if kind == "ended" else 0)).result()
    if kind == "ended":
        writer.submit(end_session("2", ID)).result()
    with pytest.raises(Rejected) as caught:
        writer.keep_alive(ID).result()
    assert caught.value.word == word


def test_a_child_is_not_kept_alive_under_a_lapsed_parent(writer: StateWriter, clock: FixedClock) -> None:
    """A child whose own lease is fresh is refused once an ancestor's has passed, swept or not."""
    writer.submit(opening("1", ID, lease_ms=LEASE)).result()
    writer.submit(opening("2", b"c" * 16, parent_id=ID, lease_ms=10 * LEASE)).result()
    assert writer.keep_alive(b"c" * 16).result() == NOW + 10 * LEASE
    clock.advance(LEASE)
    with pytest.raises(Rejected) as caught:
        writer.keep_alive(b"c" * 16).result()
    assert caught.value.word == "ALREADY_ENDED"


def test_the_sweep_ends_what_is_over(writer: StateWriter, clock: FixedClock) -> None:
    """Lapsed leases and hard ends become changes with their cause; what lives stays."""
    writer.submit(opening("1", ID, lease_ms=LEASE)).result()
    writer.submit(opening("2", b"e" * 16, ttl_ms=LEASE)).result()
    writer.submit(opening("3", b"l" * 16, ttl_ms=HOUR)).result()
    writer.submit(opening("4", b"k" * 16, lease_ms=LEASE)).result()
    clock.advance(LEASE - 1)
    writer.keep_alive(b"k" * 16).result()
    assert writer.sweep().ended == 0
    clock.advance(1)
    assert writer.sweep().ended == 2
    assert (cause(writer), cause(writer, b"e" * 16)) == (EndCause.LEASE_LAPSED, EndCause.EXPIRED)
    for live in (b"l" * 16, b"k" * 16):
        session = writer.get_session(live)
        assert session is not None and session.status is SessionStatus.ACTIVE
    assert writer.sweep() == writer.sweep()


def test_the_sweep_comes_back_for_a_renewed_lease(writer: StateWriter, clock: FixedClock) -> None:
    """A lease that was renewed and then let go lapses at its last deadline."""
    writer.submit(opening("1", ID, lease_ms=LEASE)).result()
    for _ in range(5):
        clock.advance(LEASE - 1)
        writer.keep_alive(ID).result()
        assert writer.sweep().ended == 0
    clock.advance(LEASE)
    assert writer.sweep().ended == 1


def test_a_child_of_an_ended_parent_ends_as_such(writer: StateWriter, clock: FixedClock) -> None:
    """A child of an ended parent ends with that cause at the end of its lease."""
    writer.submit(opening("1", ID)).result()
    writer.submit(opening("2", b"c" * 16, parent_id=ID, lease_ms=LEASE)).result()
    clock.advance(LEASE // 2)
    writer.keep_alive(b"c" * 16).result()
    writer.submit(end_session("3", ID)).result()
    clock.advance(LEASE // 2)
    assert writer.sweep().ended == 1
    assert cause(writer, b"c" * 16) is EndCause.PARENT_ENDED


@pytest.mark.parametrize("lease_ms", [0, LEASE])
def test_the_parents_end_is_the_cause_if_it_came_first(
    writer: StateWriter, clock: FixedClock, lease_ms: int
) -> None:
    """Not the child's own time, which passed later; a child that was over before has a cause of its own."""
    for parent, child in ((ID, b"c" * 16), (b"p" * 16, b"d" * 16)):
        writer.submit(opening(parent.hex(), parent, ttl_ms=2 * HOUR)).result()
        opened = opening(child.hex(), child, parent_id=parent, lease_ms=lease_ms, ttl_ms=HOUR)
        writer.submit(opened).result()
    clock.advance(lease_ms - 1 if lease_ms else HOUR - 1)
    writer.submit(end_session("first", ID)).result()
    clock.advance(2)
    writer.submit(end_session("later", b"p" * 16)).result()
    assert writer.sweep().ended == 2
    assert cause(writer, b"c" * 16) is EndCause.PARENT_ENDED
    assert cause(writer, b"d" * 16) is (EndCause.LEASE_LAPSED if lease_ms else EndCause.EXPIRED)


def test_ended_sessions_are_purged_past_their_hard_end(state_dir: Path, clock: FixedClock) -> None:
    """A row goes only after the hard end and the time it is kept; its revocations go with it."""
    keep = Retention(ended_ms=HOUR)
    with StateWriter.open(state_dir, create=True, clock=clock, retention=keep) as writer:
        writer.submit(opening("1", ID, ttl_ms=5 * HOUR)).result()
        writer.submit(revoke("2", ID, [b"b" * 32])).result()
        writer.submit(end_session("3", ID)).result()
        clock.advance(6 * HOUR - 1)
        assert writer.sweep().purged == 0
        assert writer.is_revoked(ID, b"b" * 32)
        clock.advance(1)
        assert writer.sweep().purged == 1
        assert writer.get_session(ID) is None and not writer.is_revoked(ID, b"b" * 32)


def test_a_sweep_is_bounded(writer: StateWriter, clock: FixedClock) -> None:
    """A thousand sessions at a time: the rest is left for the next sweep, none is forgotten."""
    futures = [writer.submit(opening(f"{n}", ttl_ms=1000)) for n in range(1100)]
    assert all(future.result().applied for future in futures)
    clock.advance(1000)
    first = writer.sweep()
    assert (first.ended, first.more) == (1000, True)
    assert writer.sweep().ended == 100
