"""The effective status: what is shown, listed and counted is what a check finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from sessauth.clock import FixedClock
from sessauth.crypto.keys import KeyStatus
from sessauth.model.change import add_key, end_session, new_incarnation, resume_session, suspend_session
from sessauth.model.session import EndCause, Session, SessionStatus
from sessauth.reasons import Reason, Stage
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier
from tests.support.changes import HOUR, NOW, opening
from tests.support.token_forger import id16
from tests.vectors.world import AUDIENCE, ISSUER, root, token

TOP, MIDDLE, CHILD = LINE = (id16("top"), id16("middle"), id16("child"))
LEASE = 10_000
ACTIVE, SUSPENDED, ENDED = SessionStatus.ACTIVE, SessionStatus.SUSPENDED, SessionStatus.ENDED


def open_line(writer: StateWriter, line: tuple[bytes, ...] = LINE, lease_ms: int = 0) -> None:
    """Open a session, one below it, and one below that; with a lease for the first."""
    for depth, session_id in enumerate(line):
        terms = {"parent_id": line[depth - 1]} if depth else {"lease_ms": lease_ms}
        assert writer.submit(opening(f"open {session_id.hex()}", session_id, **terms)).result().applied


def shown(writer: StateWriter, session_id: bytes = CHILD) -> Session:
    """Return a session as a server shows it."""
    session = writer.effective_session(session_id)
    assert session is not None
    return session


def summary(writer: StateWriter, session_id: bytes = CHILD) -> tuple[object, ...]:
    """Return status, cause, time and reason of a session, and the id that it inherits them from."""
    session = shown(writer, session_id)
    return session.status, session.end_cause, session.ended_at_ms, session.reason, session.inherited_from


@pytest.mark.parametrize("above", [TOP, MIDDLE])
def test_an_end_is_that_of_all_below(writer: StateWriter, clock: FixedClock, above: bytes) -> None:
    """Time, reason and id are those of the session that ended, the cause says so; epoch and row stay."""
    open_line(writer)
    clock.advance(5)
    before = writer.get_session(CHILD)
    writer.submit(end_session("end", above, "the user left")).result()

    expected = (ENDED, EndCause.PARENT_ENDED, NOW + 5, "the user left", above)
    assert summary(writer) == expected
    assert summary(writer, above) == (ENDED, EndCause.ASKED, NOW + 5, "the user left", b"")
    assert writer.get_session(CHILD) == before and before is not None
    assert (shown(writer).epoch, shown(writer).revision) == (before.epoch, before.revision)
    # It stays so when the child's own time is over, before the sweep has written that and after it.
    clock.advance(HOUR)
    assert summary(writer)[0] is ENDED
    assert writer.sweep().ended == len(LINE) - 1
    assert summary(writer) == expected


def test_a_suspension_is_that_of_all_below(writer: StateWriter) -> None:
    """One of the session itself is named first, an end decides before both, and a resumption lifts it."""
    open_line(writer)
    writer.submit(suspend_session("1", TOP, "look at it")).result()
    assert summary(writer) == (SUSPENDED, EndCause.UNSPECIFIED, 0, "look at it", TOP)
    writer.submit(suspend_session("2", CHILD, "this one too")).result()
    assert summary(writer) == (SUSPENDED, EndCause.UNSPECIFIED, 0, "this one too", b"")
    writer.submit(resume_session("3", TOP)).result()
    assert summary(writer)[:1] == (SUSPENDED,)
    writer.submit(resume_session("4", CHILD)).result()
    assert summary(writer) == (ACTIVE, EndCause.UNSPECIFIED, 0, "", b"")
    writer.submit(suspend_session("5", MIDDLE)).result()
    writer.submit(end_session("6", TOP, "over")).result()
    assert summary(writer) == (ENDED, EndCause.PARENT_ENDED, NOW, "over", TOP)


@pytest.mark.parametrize("swept", [False, True])
def test_a_time_that_has_passed_is_an_end(writer: StateWriter, clock: FixedClock, swept: bool) -> None:
    """A lease and a lifetime end before the sweep has written it as after it."""
    open_line(writer, lease_ms=LEASE)
    short = id16("short")
    assert writer.submit(opening("short", short, ttl_ms=LEASE)).result().applied
    clock.advance(LEASE - 1)
    assert {shown(writer, each).status for each in (*LINE, short)} == {ACTIVE}
    clock.advance(1)
    if swept:
        assert writer.sweep().ended == 2
    assert summary(writer, short) == (ENDED, EndCause.EXPIRED, NOW + LEASE, "", b"")
    assert summary(writer, TOP) == (ENDED, EndCause.LEASE_LAPSED, NOW + LEASE, "", b"")
    assert summary(writer) == (ENDED, EndCause.PARENT_ENDED, NOW + LEASE, "", TOP)


def test_a_clock_that_goes_back_revives_nothing(writer: StateWriter, clock: FixedClock) -> None:
    """The time is never earlier than the last logged change, as for a check."""
    open_line(writer, lease_ms=LEASE)
    clock.advance(LEASE)
    assert writer.submit(opening("later")).result().applied
    clock.advance(-LEASE)
    assert shown(writer).status is ENDED


def test_an_incarnation_ends_all(writer: StateWriter) -> None:
    """Each has the cause of its own."""
    open_line(writer)
    writer.submit(new_incarnation("n", b"n" * 16, NOW, "restored")).result()
    assert {summary(writer, each) for each in LINE} == {(ENDED, EndCause.RESTORED, NOW, "restored", b"")}


def test_what_a_written_end_concerns_is_not_cut_off_again(writer: StateWriter, clock: FixedClock) -> None:
    """A session below an ended one is over; one whose time has passed is ended, lest the clock go back."""
    open_line(writer, lease_ms=LEASE)
    other = id16("other")
    writer.submit(opening("other", other, lease_ms=LEASE)).result()
    writer.submit(end_session("end", MIDDLE)).result()
    clock.advance(LEASE)
    ids, _, more = writer.page_of_living(b"", 10, lambda _: True)
    assert (set(ids), more) == ({TOP, other}, False)


def listed(writer: StateWriter, status: int) -> dict[bytes, Session]:
    """List the sessions of a status by id."""
    found, _, more = writer.page_of_sessions(b"", 1000, status=status)
    assert not more
    return {session.id: session for session in found}


class Plays:
    """Random changes of lines of three sessions, with a token of each last one."""

    def __init__(self, folder: Path) -> None:
        """Open a state and a verifier on it."""
        self.clock = FixedClock(NOW)
        self.writer = StateWriter.open(folder, create=True, map_size=32 << 20, clock=self.clock)
        self.verifier = Verifier(self.writer.source(), audience=AUDIENCE)
        self.writer.submit(add_key("key", ISSUER.public, status=KeyStatus.ACTIVE)).result()
        self.lines: list[tuple[bytes, ...]] = []

    def open(self, number: int, rng: Random) -> None:
        """Open a line."""
        line = tuple(id16(f"{number} {depth}") for depth in range(3))
        open_line(self.writer, line, rng.choice((0, LEASE, 2 * LEASE)))
        self.lines.append(line)

    def change(self, rng: Random, number: int) -> None:
        """Change a session, or let time pass."""
        session_id = rng.choice(rng.choice(self.lines))
        make = rng.choice((suspend_session, suspend_session, resume_session, resume_session, end_session))
        roll = rng.random()
        if roll < 0.1:
            self.clock.advance(rng.choice((1, LEASE // 2)))
        elif roll < 0.2:
            self.writer.sweep()
        else:
            self.writer.submit(make(f"c{number}", session_id)).result()

    def reason(self, session_id: bytes) -> Reason:
        """Return the reason of a check of a token of a session."""
        text = token(root("read:files/**", root_fields={"session_id": session_id}))
        decision = self.verifier._check(text, "read", "files/a", now_ms=self.clock.now_ms())
        assert decision.allowed or decision.stage is Stage.SESSION
        return Reason(decision.reason)


@pytest.fixture
def plays(tmp_path: Path) -> Iterator[Plays]:
    """A state with some lines."""
    opened = Plays(tmp_path / "state")
    yield opened
    opened.writer.close()


@pytest.mark.parametrize("seed", range(2))
def test_it_is_what_a_check_finds(plays: Plays, seed: int) -> None:
    """A session is shown active if and only if calls of it are allowed; lists and counts agree; ends stay."""
    rng = Random(seed)
    for number in range(6):
        plays.open(number, rng)
    writer, over, seen = plays.writer, set[bytes](), set[SessionStatus]()
    for number in range(50):
        plays.change(rng, number)
        every = listed(writer, 0)
        assert len(every) == 3 * len(plays.lines)
        for session_id, session in every.items():
            reason, status = plays.reason(session_id), session.status
            assert (reason is Reason.ALLOWED) is (status is ACTIVE)
            if reason is Reason.SESSION_SUSPENDED:
                assert (
                    status is SUSPENDED
                    or any(
                        writer.effective_session(each).status is ENDED  # type: ignore[union-attr]
                        for line in plays.lines
                        if session_id in line
                        for each in line[: line.index(session_id)]
                    )
                )
            else:
                assert (status is ENDED) is (reason is not Reason.ALLOWED)
            assert session_id not in over or status is ENDED
            if status is ENDED:
                over.add(session_id)
            assert writer.effective_session(session_id) == session
            assert bool(session.ended_at_ms) is (status is ENDED)
        for status in SessionStatus:
            if status:
                assert listed(writer, status) == {i: s for i, s in every.items() if s.status is status}
        counts, census = Counter(session.status for session in every.values()), writer.census()
        assert (census.active, census.suspended, census.ended) == (
            counts[ACTIVE],
            counts[SUSPENDED],
            counts[ENDED],
        )
        seen.update(counts)
    assert seen == {ACTIVE, SUSPENDED, ENDED}
