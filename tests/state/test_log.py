"""The writer: acknowledgement, request ids, group commit, reads, clock."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from sessauth._fast import _check as kernel
from sessauth.clock import FixedClock
from sessauth.crypto.keys import KeyStatus
from sessauth.errors import StateError, StateUnusable
from sessauth.model.change import (
    ChangeOutcome,
    add_key,
    end_session,
    new_incarnation,
    revoke,
    suspend_session,
)
from sessauth.model.session import Session, SessionStatus
from sessauth.state.integrity.verify import verify
from sessauth.state.writer import state_writer
from sessauth.state.writer.group import Group, Retention
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import HOUR, NOW, opening

ID = b"s" * 16


def test_a_change_is_readable_once_acknowledged(writer: StateWriter) -> None:
    """Session, revocation and head are there when the future resolves."""
    writer.submit(opening("1", ID, lease_ms=5000)).result()
    writer.submit(revoke("2", ID, [b"b" * 32])).result()
    session = writer.get_session(ID)
    assert session is not None and session.lease_deadline_ms == NOW + 5000
    assert writer.is_revoked(ID, b"b" * 32) and not writer.is_revoked(ID, b"c" * 32)
    assert (writer.head().revision, writer.head().seq) == (2, 2)
    assert writer.get_session(b"x" * 16) is None


def test_changes_survive_a_restart(state_dir: Path, clock: FixedClock) -> None:
    """Acknowledged changes are there after close and open, and the log leads to its head."""
    with StateWriter.open(state_dir, create=True, clock=clock) as writer:
        writer.submit(opening("1", ID)).result()
        before = writer.head()
    with StateWriter.open(state_dir, clock=clock) as writer:
        assert writer.head() == before
        assert writer.get_session(ID) is not None
        assert writer.run(lambda group: verify(group.rows)).sessions == 1


def test_a_repeated_id_returns_the_first_outcome(writer: StateWriter) -> None:
    """The same content under the same id is one change, a new session id of an open aside."""
    first = writer.submit(opening("1", ID)).result()
    assert writer.submit(opening("1", os.urandom(16))).result() == first
    writer.submit(end_session("e", ID)).result()
    assert writer.submit(opening("1", ID)).result() == first
    assert writer.head().seq == 2
    assert writer.outcome("1") == first


def test_a_rejection_is_an_outcome_too(writer: StateWriter) -> None:
    """A repeated id of a rejected change is told the same, even if it would succeed by now."""
    first = writer.submit(suspend_session("1", ID)).result()
    assert first.rejection == "NOT_FOUND"
    writer.submit(opening("2", ID)).result()
    assert writer.submit(suspend_session("1", ID)).result() == first


def test_an_id_with_other_content_conflicts(writer: StateWriter) -> None:
    """Another content, actor or session under a used id is CONFLICT, and nothing is written."""
    writer.submit(opening("1", ID)).result()
    head = writer.head()
    for change in (
        opening("1", ID, subject="other"),
        opening("1", ID, actor="other"),
        suspend_session("1", ID),
    ):
        assert writer.submit(change).result().rejection == "CONFLICT"
    assert writer.head() == head


def test_the_logs_own_ids_are_reserved(writer: StateWriter) -> None:
    """A caller can't take an id that a lapse or purge would have."""
    assert writer.submit(suspend_session("sessauth/x", ID)).result().rejection == "INVALID"
    assert writer.submit(suspend_session("", ID)).result().rejection == "INVALID"
    assert writer.head().seq == 0


def test_outcomes_are_forgotten_by_age(state_dir: Path, clock: FixedClock) -> None:
    """A request id is new again after a day, and not before."""
    with StateWriter.open(state_dir, create=True, clock=clock) as writer:
        writer.submit(suspend_session("old", ID)).result()
        clock.advance(24 * HOUR)
        writer.submit(suspend_session("a", ID)).result()
        assert writer.outcome("old") is not None
        clock.advance(1)
        writer.submit(suspend_session("b", ID)).result()
        assert writer.outcome("old") is None and writer.outcome("a") is not None


def test_the_last_outcome_can_be_forgotten(writer: StateWriter, clock: FixedClock) -> None:
    """A group that remembers nothing itself, such as a sweep's, may forget all there is."""
    writer.submit(opening("1", ID)).result()
    clock.advance(25 * HOUR)
    assert writer.sweep().ended == 1
    assert writer.outcome("1") is None and not writer.braked


def test_outcomes_and_changes_are_bounded_by_count(state_dir: Path, clock: FixedClock) -> None:
    """No more than the stated numbers are kept, and what is left of the log still leads to its head."""
    keep = Retention(changes=10, outcomes=7)
    with StateWriter.open(state_dir, create=True, clock=clock, retention=keep) as writer:
        for n in range(40):
            writer.submit(suspend_session(f"id-{n}", ID)).result()
        counts = writer.run(lambda group: verify(group.rows))
        assert (counts.changes, counts.outcomes) == (10, 7)
        assert writer.outcome("id-32") is None and writer.outcome("id-33") is not None


def test_concurrent_callers_share_commits(writer: StateWriter) -> None:
    """64 callers get at most one fsync per 8 changes between them, and each its own answer."""
    commits: list[int] = []
    writer.on_fsync = commits.append
    outcomes: list[ChangeOutcome] = []

    def call(caller: int) -> None:
        for n in range(25):
            outcomes.append(writer.submit(opening(f"{caller}-{n}")).result())

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(call, range(64)))
    assert len(outcomes) == sum(commits) == 1600
    assert len(commits) == writer.stats.commits <= 200
    assert sorted(outcome.seq for outcome in outcomes) == list(range(1, 1601))


def test_a_group_is_judged_in_order(writer: StateWriter) -> None:
    """Within one commit each change sees the ones before it: only the first of many ends wins."""
    held = threading.Event()
    entered = threading.Event()

    def hold(_: Group) -> None:
        entered.set()
        assert held.wait(20)

    blocker = threading.Thread(target=writer.run, args=(hold,))
    blocker.start()
    assert entered.wait(20)
    futures = [writer.submit(opening("o", ID))] + [writer.submit(end_session(f"e{n}", ID)) for n in range(20)]
    assert not any(future.done() for future in futures)
    held.set()
    blocker.join()
    results = [future.result() for future in futures]
    assert [result.rejection for result in results] == ["", ""] + ["ALREADY_ENDED"] * 19
    assert writer.stats.commits == 1


def test_a_cancelled_caller_is_not_served(writer: StateWriter) -> None:
    """A future that was cancelled while it waited writes nothing, and the writer goes on."""
    held, entered = threading.Event(), threading.Event()

    def hold(_: Group) -> None:
        entered.set()
        assert held.wait(20)

    blocker = threading.Thread(target=writer.run, args=(hold,))
    blocker.start()
    assert entered.wait(20)
    future = writer.submit(opening("1", ID))
    assert future.cancel()
    held.set()
    blocker.join()
    assert writer.submit(opening("2")).result().seq == 1
    assert writer.get_session(ID) is None


def test_a_failing_job_does_not_stop_the_writer(writer: StateWriter) -> None:
    """An unforeseen error reaches its caller as StateError, the next change is written, no brake."""

    def fail(_: Group) -> None:
        raise ZeroDivisionError

    with pytest.raises(StateError, match="ZeroDivisionError"):
        writer.run(fail)
    assert writer.submit(opening("1", ID)).result().applied
    assert not writer.braked


def test_sessions_are_listed_in_pages(writer: StateWriter) -> None:
    """Pages are ascending, complete, without repetition, and filtered by the predicate."""
    futures: list[Future[ChangeOutcome]] = [
        writer.submit(opening(f"{n}", n.to_bytes(16, "big"), subject=f"agent-{n % 3}")) for n in range(1200)
    ]
    for future in futures:
        assert future.result().applied

    def third(session: Session) -> bool:
        return session.subject == "agent-0"

    after, seen = b"", []
    while page := writer.list_sessions(after, 150, third):
        seen += [int.from_bytes(session.id, "big") for session in page]
        after = page[-1].id
    assert seen == list(range(0, 1200, 3))
    assert len(writer.list_sessions(limit=5000)) == 1200


def test_sessions_are_found_by_what_their_ids_begin_with(writer: StateWriter) -> None:
    """Those that begin so, ascending, page by page, and no other row is read."""
    numbers = [0x5F0B << 112, *((0x5F0C << 112) + n for n in range(40)), 0x5F0D << 112, 0, (1 << 128) - 1]
    for future in [writer.submit(opening(f"{n}", n.to_bytes(16, "big"))) for n in numbers]:
        assert future.result().applied
    read: list[str] = []

    def odd(session: Session) -> bool:
        read.append(session.id.hex())
        return session.id[-1] % 2 == 1

    after, found = b"", []
    while page := writer.sessions_beginning("5f0c", after, 3, odd):
        found += [session.id[-1] for session in page]
        after = page[-1].id
    assert found == list(range(1, 40, 2))
    assert all(each.startswith("5f0c") for each in read)
    for digits, count in (("5f0c0", 40), ("5f0d", 1), ("0000", 1), ("ffff", 1), ("5f0e", 0), ("f" * 32, 1)):
        assert len(writer.sessions_beginning(digits, b"", 1000, lambda _: True)) == count


def test_one_page_is_searched_for_in_so_many_rows(
    writer: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that finds nothing stops at its bound, says where, and finds the rest from there."""
    futures = [writer.submit(opening(f"{n}", n.to_bytes(16, "big"))) for n in range(1200)]
    writer.submit(suspend_session("last", (1199).to_bytes(16, "big"))).result()
    assert all(future.result().applied for future in futures)
    monkeypatch.setattr(state_writer, "SEARCHED_ROWS", 1024)

    found, last, more = writer.page_of_sessions(b"", 10, status=SessionStatus.SUSPENDED)
    assert (found, int.from_bytes(last, "big"), more) == ([], 1023, True)
    found, _, more = writer.page_of_sessions(last, 10, status=SessionStatus.SUSPENDED)
    assert ([int.from_bytes(each.id, "big") for each in found], more) == ([1199], False)


def test_the_clock_of_the_log_never_goes_back(writer: StateWriter, clock: FixedClock) -> None:
    """Changes after a step back of the wall clock carry the last time, across a restart too."""
    writer.submit(opening("1", ID)).result()
    clock.advance(-HOUR)
    outcome = writer.submit(suspend_session("2", ID)).result()
    assert outcome.at_ms == writer.head().clock_floor_ms == NOW


def test_lowering_the_clock_floor_ends_all_sessions(writer: StateWriter, clock: FixedClock) -> None:
    """A floor that a wrong clock left is lowered by a new incarnation, and time goes on from there."""
    clock.advance(1000 * HOUR)
    writer.submit(opening("1", ID)).result()
    clock.advance(-1000 * HOUR)
    writer.submit(new_incarnation("2", os.urandom(16), NOW)).result()
    session = writer.get_session(ID)
    assert session is not None and session.status is SessionStatus.ENDED
    assert writer.submit(opening("3")).result().at_ms == NOW


def test_there_is_one_writer(writer: StateWriter, state_dir: Path) -> None:
    """A second writer of a folder is refused, in the same process too, and says whose it is."""
    with pytest.raises(StateUnusable, match="writer already") as caught:
        StateWriter.open(state_dir)
    assert caught.value.problem == "IN_USE"
    assert writer.submit(opening("1")).result().applied


def test_a_closed_writer_refuses(state_dir: Path) -> None:
    """A closed writer accepts nothing, reads raise, and a second close does nothing."""
    writer = StateWriter.open(state_dir, create=True)
    waiting = [writer.submit(opening(f"{n}")) for n in range(50)]
    writer.close()
    writer.close()
    assert all(future.result().applied for future in waiting)
    with pytest.raises(StateError, match="closed"):
        writer.submit(opening("x"))
    with pytest.raises(StateError, match="closed"):
        writer.head()


def test_create_is_asked_for(tmp_path: Path) -> None:
    """Without ``create`` a missing or empty folder is refused; with it, again is no harm."""
    with pytest.raises(StateUnusable) as caught:
        StateWriter.open(tmp_path / "state")
    assert caught.value.problem == "MISSING"
    StateWriter.open(tmp_path / "state", create=True).close()
    with StateWriter.open(tmp_path / "state", create=True) as writer:
        first = writer.head().cluster_id
    with StateWriter.open(tmp_path / "state") as writer:
        assert writer.head().cluster_id == first


def test_modes_are_set_whatever_the_umask(tmp_path: Path) -> None:
    """The folder is 0750, data 0640, the lock file 0660, under any umask."""
    old = os.umask(0o077)
    try:
        StateWriter.open(tmp_path / "state", create=True).close()
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o750
    assert modes.pop("lock.mdb") == 0o660
    assert modes.pop("writer.lock") & 0o077 == 0
    assert modes == dict.fromkeys(("data.mdb", "brake", "owner.json", "anchor"), 0o640)


def test_keys_are_listed(writer: StateWriter) -> None:
    """Issuer keys come back with their status."""
    public = kernel.public_key(b"k" * 32)
    writer.submit(add_key("1", public, status=KeyStatus.ACTIVE)).result()
    assert [(key.public_key, key.status) for key in writer.keys()] == [(public, KeyStatus.ACTIVE)]
