"""Judging within the writer's transaction: shared commits, no commit for a refusal, retries, the sweep."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import OutcomeUnknown, Rejected, StateError
from sessauth.model.change import (
    ChangeOutcome,
    Ledger,
    SessionCounts,
    Settlement,
    answer_approval,
    end_session,
    once_change_id,
    request_approval,
    retry_change_id,
    settle_permit,
)
from sessauth.scopes.value import Number
from sessauth.state import layout
from sessauth.state.integrity.verify import verify
from sessauth.state.writer.group import Group, Retention
from sessauth.state.writer.state_writer import StateWriter, sweep
from tests.support.changes import HOUR, NOW, opening
from tests.support.costs import BLOCK, GATEWAY, LEDGER, charge, pending_record, signing, spending, use

ID = b"s" * 16
PERMIT = b"p" * 16


def spend(writer: StateWriter, **given: object) -> ChangeOutcome:
    """Have the writer take something in a group, and wait."""
    change_id = str(given.pop("change_id", ""))
    return writer.decide(lambda group: group.submit(spending(ID, change_id, **given)), 512).result()


@pytest.fixture
def opened(writer: StateWriter) -> StateWriter:
    """A writer with a session that lives for two days."""
    assert writer.submit(opening("open", ID, ttl_ms=48 * HOUR)).result().applied
    return writer


class Held:
    """Holds the writer thread, so that what is queued meanwhile is one group."""

    def __init__(self, writer: StateWriter) -> None:
        """Hold it at once."""
        self._go, entered = threading.Event(), threading.Event()

        def hold(_: Group) -> None:
            entered.set()
            assert self._go.wait(20)

        self._thread = threading.Thread(target=writer.run, args=(hold,))
        self._thread.start()
        assert entered.wait(20)

    def let_go(self) -> None:
        """Let the writer go on."""
        self._go.set()
        self._thread.join()


def test_judgements_share_a_commit_with_changes(opened: StateWriter) -> None:
    """Each job of a group sees the rows of the jobs before it, and one fsync makes all durable."""
    before, held = opened.stats.commits, Held(opened)
    futures: list[Future[ChangeOutcome]] = [
        opened.decide(lambda group: group.submit(spending(ID, uses=[use(3)])), 512) for _ in range(5)
    ]
    futures.append(opened.submit(end_session("e", ID)))
    late = opened.decide(lambda group: group.submit(spending(ID, uses=[use(9)])), 512)
    held.let_go()
    words = [future.result().rejection for future in futures]
    assert words == ["", "", "", "USES_EXHAUSTED", "USES_EXHAUSTED", ""]
    assert late.result().rejection == "ALREADY_ENDED"
    assert opened.stats.commits == before + 1


def test_a_refusal_costs_no_commit(opened: StateWriter) -> None:
    """Rejected calls of agents and gateways are neither logged nor stored, and a read costs no commit."""
    assert spend(opened, uses=[use(1)]).applied
    commits, head = opened.stats.commits, opened.head()
    refused = spend(opened, change_id=retry_change_id(GATEWAY, b"1"), uses=[use(1)])
    assert (refused.rejection, refused.seq, refused.revision) == ("USES_EXHAUSTED", 0, head.revision)
    for change in (
        settle_permit(once_change_id(), ID, PERMIT, Settlement.COMMIT, gateway=GATEWAY),
        request_approval(once_change_id(), pending_record(ID, b"a" * 16, threshold=9)),
    ):
        assert not opened.decide(lambda group, change=change: group.submit(change), 512).result().applied
    assert opened.decide(lambda group: group.rows.uses(ID, BLOCK, 0), 0).result() == 1
    assert (opened.stats.commits, opened.head()) == (commits, head)


def test_a_retry_finds_the_first_outcome(opened: StateWriter) -> None:
    """The same call under the same name takes once and has the first permit; another call is a conflict."""
    name = retry_change_id(GATEWAY, b"attempt")
    first = spend(opened, change_id=name, uses=[use(5)], permit_id=PERMIT, permit_deadline_ms=NOW + 1_000)
    again = spend(opened, change_id=name, uses=[use(5)], permit_id=b"q" * 16, permit_deadline_ms=NOW + 2_000)
    assert again == first and first.permit_id == PERMIT
    assert spend(opened, change_id=name) == first
    for given in ({"token_digest": b"o" * 32}, {"request_digest": b"o" * 32}, {"gateway": "gateway-b"}):
        assert spend(opened, change_id=name, **given).rejection == "CONFLICT"
    assert opened.decide(lambda group: group.rows.uses(ID, BLOCK, 0), 0).result() == 1
    assert opened.decide(lambda group: group.first_outcome(name), 0).result() == first


def test_a_refused_attempt_may_succeed_later(opened: StateWriter) -> None:
    """A name under which nothing was taken is as new."""
    name = retry_change_id(GATEWAY, b"attempt")
    permit = {"permit_id": PERMIT, "permit_deadline_ms": NOW + 1_000}
    assert spend(opened, budgets=[charge(10, 10)], **permit).applied
    assert spend(opened, change_id=name, budgets=[charge(10, 10)]).rejection == "BUDGET_EXHAUSTED"
    release = settle_permit(once_change_id(), ID, PERMIT, Settlement.RELEASE, gateway=GATEWAY)
    assert opened.decide(lambda group: group.submit(release), 512).result().applied
    assert spend(opened, change_id=name, budgets=[charge(10, 10)]).applied


def test_what_never_comes_again_is_not_remembered(opened: StateWriter) -> None:
    """A consumption without a name leaves no outcome, so that it pushes out nobody's."""
    outcomes = opened.run(lambda group: verify(group.rows)).outcomes
    assert spend(opened, uses=[use(9)]).applied
    assert opened.run(lambda group: verify(group.rows)).outcomes == outcomes


def test_the_names_of_attempts_are_out_of_reach(opened: StateWriter) -> None:
    """A caller can't take the id of a retry in advance, whatever request it makes."""
    name = retry_change_id(GATEWAY, b"attempt")
    assert name.startswith(layout.SYSTEM_PREFIX) and once_change_id().startswith(layout.SYSTEM_PREFIX)
    assert opened.submit(end_session(name, ID)).result().rejection == "INVALID"
    assert spend(opened, change_id=name, uses=[use(1)]).applied


def test_an_error_of_a_judgement_reaches_its_caller(opened: StateWriter) -> None:
    """The caller gets the error of its work; other jobs of the group are committed."""
    held = Held(opened)

    def refuse(_: Group) -> None:
        raise Rejected("NOT_FOUND", "no such thing")

    def fail(_: Group) -> None:
        raise ZeroDivisionError

    refused, failed = opened.decide(refuse, 0), opened.decide(fail, 0)
    served = opened.decide(lambda group: group.submit(spending(ID, uses=[use(1)])), 512)
    held.let_go()
    assert served.result().applied and not opened.braked
    with pytest.raises(Rejected):
        refused.result()
    with pytest.raises(StateError, match="ZeroDivisionError"):
        failed.result()


def test_a_group_says_whether_it_is_durable(opened: StateWriter) -> None:
    """It is once committed, and where nothing was written; it never is where the commit failed."""
    groups: list[Group] = []

    def look(group: Group) -> None:
        groups.append(group)

    def write(group: Group) -> None:
        groups.append(group)
        assert not group.durable
        group.submit(spending(ID, uses=[use(9)]))

    def break_it(group: Group) -> None:
        write(group)
        group.rows.txn.abort()

    opened.decide(look, 0).result()
    opened.decide(write, 512).result()
    with pytest.raises(OutcomeUnknown):
        opened.decide(break_it, 512).result()
    assert [group.durable for group in groups] == [True, True, False]
    opened.clear_brake()
    assert opened.decide(lambda group: group.rows.uses(ID, BLOCK, 0), 0).result() == 1


def test_a_hundred_reserve_ten(opened: StateWriter) -> None:
    """100 callers at once want one of a budget of 10: exactly 10 have a permit, and the rest a refusal."""
    start = threading.Barrier(100)
    outcomes: list[ChangeOutcome] = []

    def reserve(number: int) -> None:
        change = spending(
            ID,
            budgets=[charge(1, 10)],
            permit_id=number.to_bytes(16, "big"),
            permit_deadline_ms=NOW + 60_000,
        )
        start.wait(20)
        outcomes.append(opened.decide(lambda group: group.submit(change), 512).result())

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(reserve, range(100)))
    words = sorted(outcome.rejection for outcome in outcomes)
    assert words == [""] * 10 + ["BUDGET_EXHAUSTED"] * 90
    assert opened.counts(ID) == SessionCounts(open_permits=10, counters=1)
    ledger = opened.decide(lambda group: group.rows.ledger(ID, LEDGER), 0).result()
    assert ledger == Ledger(Number(0), Number(10))


def test_the_sweep_gives_back_what_permits_held(opened: StateWriter, clock: FixedClock) -> None:
    """At its deadline, and not before, an open permit goes and its reserve is free; a settled one stays."""
    for permit_id, ms in ((PERMIT, 1_000), (b"q" * 16, 1_000), (b"r" * 16, 1_001)):
        permit = {"permit_id": permit_id, "permit_deadline_ms": NOW + ms}
        assert spend(opened, budgets=[charge(1, 10)], **permit).applied
    commit = settle_permit(once_change_id(), ID, b"q" * 16, Settlement.COMMIT, gateway=GATEWAY)
    assert opened.decide(lambda group: group.submit(commit), 512).result().applied
    clock.advance(999)
    assert opened.sweep().permits == 0
    clock.advance(1)
    assert opened.sweep().permits == 1
    assert opened.permit(ID, PERMIT) is None and opened.permit(ID, b"r" * 16) is not None
    ledger = opened.decide(lambda group: group.rows.ledger(ID, LEDGER), 0).result()
    assert ledger == Ledger(Number(1), Number(1))
    clock.advance(1)
    assert opened.sweep().permits == 1 and opened.sweep().permits == 0
    assert opened.counts(ID) == SessionCounts(counters=1)


def test_the_sweep_removes_approvals_past_their_expiry(opened: StateWriter, clock: FixedClock) -> None:
    """A request that nobody answered goes at its expiry, and its session says how many wait."""
    for number, ms in ((1, 1_000), (2, 2_000)):
        record = pending_record(ID, bytes([number]) * 16, scope=number, expires_at_ms=NOW + ms)
        change = request_approval(once_change_id(), record)
        assert opened.decide(lambda group, change=change: group.submit(change), 4096).result().applied
    session = opened.get_session(ID)
    assert session is not None and (session.open_approvals, session.open_permits) == (2, 0)
    clock.advance(1_000)
    assert opened.sweep().approvals == 1
    session = opened.list_sessions()[0]
    assert session.open_approvals == 1
    assert opened.approval(ID, b"\1" * 16) is None and opened.approval(ID, b"\2" * 16) is not None


def test_a_sweep_is_bounded(opened: StateWriter, clock: FixedClock) -> None:
    """More permits than a step takes are given back step by step."""

    def open_permits(group: Group) -> None:
        for number in range(20):
            permit_id = number.to_bytes(16, "big")
            group.submit(spending(ID, permit_id=permit_id, permit_deadline_ms=NOW + 1_000))

    opened.decide(open_permits, 8192).result()
    clock.advance(1_000)

    def step(group: Group) -> tuple[int, bool]:
        swept = sweep(group, 8)
        return swept.permits, swept.more

    assert [opened.run(step) for _ in range(3)] == [(8, True), (8, True), (4, False)]


def test_approvals_are_listed_in_pages(opened: StateWriter) -> None:
    """Pages are ascending, complete, of one session or all, and filtered by record and session."""
    assert opened.submit(opening("other", b"o" * 16, owner="other")).result().applied
    for session_id in (ID, b"o" * 16):
        for number in range(40):
            record = pending_record(
                session_id, number.to_bytes(16, "big"), request_digest=bytes([number]) * 32
            )
            change = request_approval(once_change_id(), record)
            assert opened.decide(lambda group, change=change: group.submit(change), 4096).result().applied
    seen, after = [], b""
    while page := opened.approvals(after=after, limit=7):
        after = page[-1].session_id + page[-1].id
        seen += [(record.session_id, record.id) for record in page]
    assert seen == sorted(seen) and len(set(seen)) == 80
    assert {record.session_id for record in opened.approvals(ID, limit=100)} == {ID}
    assert len(opened.approvals(ID, after=ID + (37).to_bytes(16, "big"))) == 2
    others = opened.approvals(limit=100, predicate=lambda record, session: session.owner == "other")
    assert [record.session_id for record in others] == [b"o" * 16] * 40


def test_what_is_open_survives_a_restart(state_dir: Path, clock: FixedClock) -> None:
    """Counts, ledgers, permits, approvals and retries are there after close and open, and all rows agree."""
    name = retry_change_id(GATEWAY, b"attempt")
    with StateWriter.open(state_dir, create=True, clock=clock) as writer:
        assert writer.submit(opening("open", ID)).result().applied
        first = spend(
            writer, change_id=name, uses=[use(2)], budgets=[charge(4, 10)],
            permit_id=PERMIT, permit_deadline_ms=NOW + 1_000,
        )  # fmt: skip
        record = pending_record(ID, b"a" * 16)
        change = request_approval(once_change_id(), record)
        assert writer.decide(lambda group: group.submit(change), 4096).result().applied
        answer = answer_approval("g", ID, b"a" * 16, statement=signing(record), actor="alice")
        assert writer.submit(answer).result().applied
    with StateWriter.open(state_dir, clock=clock) as writer:
        counts = writer.run(lambda group: verify(group.rows))
        assert (counts.permits, counts.approvals) == (1, 1)
        assert spend(writer, change_id=name) == first
        assert writer.counts(ID) == SessionCounts(1, 1, 1, 2)
        approval = writer.approval(ID, b"a" * 16)
        assert approval is not None and len(approval.statements) == 1
        assert spend(writer, budgets=[charge(7, 10)]).rejection == "BUDGET_EXHAUSTED"


def test_a_purged_session_leaves_no_row(state_dir: Path, clock: FixedClock) -> None:
    """The tables of costs are empty after the purge, whatever was open, and nothing is due for the sweep."""
    keep = Retention(ended_ms=1_000)
    with StateWriter.open(state_dir, create=True, clock=clock, retention=keep) as writer:
        assert writer.submit(opening("open", ID, ttl_ms=5_000)).result().applied
        permit = {"permit_id": PERMIT, "permit_deadline_ms": NOW + 60_000}
        assert spend(
            writer, uses=[use(2)], budgets=[charge(4, 10)], approval_ids=[b"u" * 16], **permit
        ).applied
        change = request_approval(once_change_id(), pending_record(ID, b"a" * 16))
        assert writer.decide(lambda group: group.submit(change), 4096).result().applied
        clock.advance(6_000)
        assert writer.sweep().ended == 1
        clock.advance(1_000)
        assert writer.sweep().purged == 1
        counts = writer.run(lambda group: verify(group.rows))
        assert (counts.counters, counts.permits, counts.approvals) == (0, 0, 0)
        clock.advance(60_000)
        assert writer.sweep().permits == 0
