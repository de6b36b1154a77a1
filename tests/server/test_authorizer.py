from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest

from sessauth.clock import SystemClock
from sessauth.errors import OutcomeUnknown, Rejected
from sessauth.model.change import end_session, ledger_id, narrow_session, open_session, revoke
from sessauth.reasons import Level, Reason, Stage
from sessauth.scopes.scope import Scope
from tests.support.writer_fixture import SESSION, WriterFixture

BUDGET = 'read:doc/** where cost >= 0 needs budget("api", 10, "eur", cost)'


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[WriterFixture]:
    """A writer with one session."""
    folder = tmp_path / "state"
    made = WriterFixture(folder)
    yield made
    made.close()


def test_a_scope_is_used_so_often_and_no_more(writer: WriterFixture) -> None:
    """A scope with three uses allows three calls and denies the fourth."""
    token = writer.mint("read:doc/** needs uses(3)")

    reasons = [writer.check(token).decision.reason for _ in range(5)]

    assert reasons == [Reason.ALLOWED] * 3 + [Reason.USES_EXHAUSTED] * 2
    assert writer.state_writer._source is not None
    denied = writer.check(token).decision
    assert (denied.stage, denied.index, denied.scope) == (Stage.NEEDS, 0, 0)
    assert denied.session_id == SESSION


def test_the_first_scope_whose_needs_are_met_decides(writer: WriterFixture) -> None:
    """An exhausted scope leaves the call to the next one; a denial has the reason of the first."""
    token = writer.mint("read:doc/1 needs uses(1)", "read:doc/* needs uses(2)")

    decisions = [writer.check(token).decision for _ in range(4)]

    assert [each.matched_scope for each in decisions] == [0, 1, 1, -1]
    assert decisions[-1].reason is Reason.USES_EXHAUSTED
    assert decisions[-1].scope == 0


def test_a_call_that_costs_nothing_writes_nothing(writer: WriterFixture) -> None:
    """A free scope of a block decides before one that costs, and the log does not move."""
    token = writer.mint("read:doc/** needs uses(1)", "read:doc/**")
    before = writer.state_writer.head().seq

    assert all(writer.check(token).decision for _ in range(3))
    assert writer.state_writer.head().seq == before


def test_a_budget_is_charged_by_the_argument(writer: WriterFixture) -> None:
    """Amounts add up exactly to the limit, and what would pass it is denied; the ledger says what is gone."""
    token = writer.mint(BUDGET)

    def reason(cost: str) -> Reason:
        return writer.check(token, arguments=b'{"cost": %s}' % cost.encode()).decision.reason

    assert [reason(cost) for cost in ("4", "5.999999999", "0.000000002")] == [
        Reason.ALLOWED,
        Reason.ALLOWED,
        Reason.BUDGET_EXHAUSTED,
    ]
    assert reason("0.000000001") is Reason.ALLOWED
    with writer.state_writer.source().rows() as rows:
        ledger = rows.ledger(SESSION, ledger_id("api", "eur"))
    assert (str(ledger.spent), str(ledger.reserved)) == ("10", "0")


def test_an_amount_that_is_none_fails_its_condition(writer: WriterFixture) -> None:
    """A text, a list, a negative number and no argument at all charge nothing and are denied by name."""
    token = writer.mint('read:doc/** free cost needs budget("api", 10, "eur", cost)')

    lists = (
        b'{"cost": [4]}',
        b'{"cost": []}',
        b'{"cost": [4, 5]}',
        b'{"cost": {"0": 4}}',
        b'{"cost": [[4]]}',
    )
    for arguments in (b'{"cost": "4"}', b'{"cost": -1}', b"{}", b'{"cost": 1e40}', *lists):
        denied = writer.check(token, arguments=arguments).decision
        assert (denied.reason, denied.stage, denied.argument) == (
            Reason.CONDITION_FAILED,
            Stage.NEEDS,
            "cost",
        )


def test_what_a_child_takes_comes_out_of_its_parent_too(writer: WriterFixture) -> None:
    """A child with two uses of its own, below a parent with three, uses both up at once."""
    parent = writer.mint("read:doc/** needs uses(3)", ending="open")
    child = parent.attenuate(scopes=["read:doc/** needs uses(2)"])

    assert [writer.check(child).decision.reason for _ in range(3)] == [
        Reason.ALLOWED,
        Reason.ALLOWED,
        Reason.USES_EXHAUSTED,
    ]
    denied = writer.check(child).decision
    assert denied.index == 1
    sibling = parent.attenuate(scopes=["read:doc/**"])
    assert [writer.check(sibling).decision.reason for _ in range(2)] == [
        Reason.ALLOWED,
        Reason.USES_EXHAUSTED,
    ]


def test_nothing_is_taken_where_anything_denies(writer: WriterFixture) -> None:
    """A child without uses left takes none of its parent's, block after block, and writes nothing."""
    parent = writer.mint("read:doc/** needs uses(3)", ending="open")
    child = parent.attenuate(scopes=["read:doc/** needs uses(1)"])
    writer.check(child)
    before = writer.state_writer.head().seq

    assert writer.check(child).decision.reason is Reason.USES_EXHAUSTED
    assert writer.state_writer.head().seq == before
    with writer.state_writer.source().rows() as rows:
        assert rows.uses(SESSION, parent.block_ids[0], 0) == 1


def test_root_blocks_share_a_budget_by_name_and_unit(writer: WriterFixture) -> None:
    """Two tokens of a session that name the same budget spend one sum; another unit is another."""
    one, other = writer.mint(BUDGET), writer.mint(BUDGET, label="other")
    third = writer.mint(BUDGET.replace("eur", "usd"))

    assert writer.check(one, arguments=b'{"cost": 6}').decision
    assert writer.check(other, arguments=b'{"cost": 5}').decision.reason is Reason.BUDGET_EXHAUSTED
    assert writer.check(other, arguments=b'{"cost": 4}').decision
    assert writer.check(third, arguments=b'{"cost": 10}').decision


def test_the_writer_judges_by_what_came_before_in_its_own_group(writer: WriterFixture) -> None:
    """Calls that share a commit with an end are denied behind it and allowed before it."""
    token = writer.mint("read:doc/** needs uses(100)")
    ask = writer.ask(token)

    def work(group: object) -> list[Reason]:
        before = writer.authorizer.check(group, ask).decision.reason  # type: ignore[arg-type]
        group.submit(end_session("the-end", SESSION))  # type: ignore[attr-defined]
        return [before, writer.authorizer.check(group, ask).decision.reason]  # type: ignore[arg-type]

    assert writer.state_writer.decide(work, 1024).result(10) == [Reason.ALLOWED, Reason.SESSION_ENDED]


def test_what_was_seen_in_an_aborted_group_is_not_believed(
    writer: WriterFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation that was never committed leaves no mark that hides a later one."""
    token = writer.mint("read:doc/** needs uses(100)")
    other = writer.mint("read:doc/** needs uses(100)", label="other")

    def work(group: object) -> Reason:
        group.submit(revoke("never", SESSION, [other.block_ids[0]]))  # type: ignore[attr-defined]
        writer.authorizer.check(group, writer.ask(token))  # type: ignore[arg-type]
        raise lmdb.Error("no more")

    with pytest.raises(OutcomeUnknown):
        writer.state_writer.decide(work, 1024).result(10)
    writer.state_writer.clear_brake()
    writer.do(revoke("for-good", SESSION, [token.block_ids[0]]))

    assert writer.check(token).decision.reason is Reason.REVOKED


def test_a_stale_host_charges_for_nothing(writer: WriterFixture) -> None:
    """The writer judges by its own rows, and no longer than they are known to be current: permits too."""
    token = writer.mint("read:doc/** needs uses(1)")
    follower = writer.state_writer._brake
    before = writer.state_writer.head().seq
    follower.deny_now()
    assert writer.check(token).decision.reason is Reason.STALE_STATE
    assert writer.state_writer.head().seq == before
    follower.fresh_until(SystemClock().steady_ms() + 30_000)
    made = writer.check(token, permit_ms=60_000)
    assert made.decision.reason is Reason.ALLOWED and made.permit
    follower.deny_now()
    assert writer.commit(writer.ask(token), made.permit).decision.reason is Reason.STALE_STATE
    follower.fresh_until(SystemClock().steady_ms() + 30_000)
    assert writer.commit(writer.ask(token), made.permit).decision.reason is Reason.ALLOWED


def test_a_retry_takes_nothing_again(writer: WriterFixture) -> None:
    """The same gateway, retry id and call: allowed as often as asked, taken once, with the first permit."""
    token = writer.mint("read:doc/** needs uses(1)")
    first = writer.check(token, retry_id=b"attempt", permit_ms=1000)

    again = [writer.check(token, retry_id=b"attempt", permit_ms=1000) for _ in range(3)]

    assert first.decision
    assert len(first.permit) == 32
    assert all(each.decision for each in again)
    assert {each.permit for each in again} == {first.permit}
    assert {each.permit_expires_at_ms for each in again} == {first.permit_expires_at_ms}
    assert writer.check(token).decision.reason is Reason.USES_EXHAUSTED


def test_a_retry_id_names_one_call_of_one_gateway(writer: WriterFixture) -> None:
    """Another request, token or arguments under a known retry id is refused; another gateway's is its own."""
    token = writer.mint("read:doc/** free * needs uses(9)")
    other = writer.mint("read:doc/** free * needs uses(9)", label="other")
    writer.check(token, retry_id=b"attempt")

    for wrong in (
        writer.check(token, "doc/2", retry_id=b"attempt"),
        writer.check(token, arguments=b'{"a":1}', retry_id=b"attempt"),
        writer.check(other, retry_id=b"attempt"),
    ):
        assert wrong.decision.reason is Reason.MALFORMED_REQUEST
        assert wrong.decision.argument == "retry_id"
    with writer.state_writer.source().rows() as rows:
        assert rows.uses(SESSION, token.block_ids[0], 0) == 1
    assert writer.check(token, retry_id=b"attempt", gateway="gw-2").decision
    with writer.state_writer.source().rows() as rows:
        assert rows.uses(SESSION, token.block_ids[0], 0) == 2


def test_a_retry_is_judged_anew_up_to_needs(writer: WriterFixture) -> None:
    """A call that was allowed and paid is denied under its retry id once its session has ended."""
    token = writer.mint("read:doc/** needs uses(1)")
    writer.check(token, retry_id=b"attempt")
    writer.do(end_session("end", SESSION))

    assert writer.check(token, retry_id=b"attempt").decision.reason is Reason.SESSION_ENDED


def test_a_denied_attempt_is_not_remembered(writer: WriterFixture) -> None:
    """A denied call may be repeated under its retry id, and is judged as if for the first time."""
    token = writer.mint(BUDGET)
    assert not writer.check(token, arguments=b'{"cost": 11}', retry_id=b"a").decision
    assert writer.check(token, arguments=b'{"cost": 3}', retry_id=b"a").decision


def test_a_permit_reserves_and_commit_spends(writer: WriterFixture) -> None:
    """A reserved amount is nobody else's; commit spends it, and a second commit is BAD_PERMIT."""
    token = writer.mint(BUDGET)
    ask = writer.ask(token, arguments=b'{"cost": 6}', permit_ms=1000)
    verdict = writer.decide(ask)
    assert writer.check(token, arguments=b'{"cost": 5}').decision.reason is Reason.BUDGET_EXHAUSTED

    assert writer.commit(ask, verdict.permit).decision
    assert writer.commit(ask, verdict.permit).decision.reason is Reason.BAD_PERMIT
    with writer.state_writer.source().rows() as rows:
        ledger = rows.ledger(SESSION, ledger_id("api", "eur"))
        assert rows.counts(SESSION).open_permits == 0
    assert (str(ledger.spent), str(ledger.reserved)) == ("6", "0")


def test_a_released_permit_gives_back(writer: WriterFixture) -> None:
    """The reserved amount is free again, and the permit can be neither committed nor released."""
    token = writer.mint(BUDGET)
    ask = writer.ask(token, arguments=b'{"cost": 6}', permit_ms=1000)
    permit = writer.decide(ask).permit

    with pytest.raises(Rejected, match="NOT_FOUND"):
        writer.release(permit, gateway="gw-2")
    writer.release(permit)

    assert writer.check(token, arguments=b'{"cost": 10}').decision
    assert writer.commit(ask, permit).decision.reason is Reason.BAD_PERMIT
    with pytest.raises(Rejected, match="NOT_FOUND"):
        writer.release(permit)


@pytest.mark.parametrize("how", ["released", "committed", "over"])
def test_a_retry_is_not_paid_by_a_permit_that_is_gone(writer: WriterFixture, how: str) -> None:
    """Once its reserve was given back or spent, the first attempt's permit pays for no further attempt."""
    token = writer.mint(BUDGET)
    ask = writer.ask(token, arguments=b'{"cost": 4}', retry_id=b"attempt", permit_ms=1000)
    first = writer.decide(ask)
    assert writer.decide(replace(ask, permit_ms=0)).permit == first.permit
    if how == "released":
        writer.release(first.permit)
    elif how == "committed":
        assert writer.commit(ask, first.permit).decision
    else:
        writer.clock.advance(1000)

    again = writer.decide(replace(ask, permit_ms=0))

    assert (again.decision.reason, again.decision.stage, again.permit) == (
        Reason.BAD_PERMIT,
        Stage.NEEDS,
        b"",
    )


def test_a_permit_is_bound_to_its_call(writer: WriterFixture) -> None:
    """Another gateway, request, token, arguments or permit does not commit it; its own call does."""
    token, other = writer.mint("read:doc/** free *"), writer.mint("read:doc/** free *", label="other")
    ask = writer.ask(token, permit_ms=1000)
    permit = writer.decide(ask).permit

    for wrong in (
        writer.commit(writer.ask(token, gateway="gw-2"), permit),
        writer.commit(writer.ask(token, "doc/2"), permit),
        writer.commit(writer.ask(token, arguments=b'{"a":1}'), permit),
        writer.commit(writer.ask(other), permit),
        writer.commit(ask, permit[:-1] + bytes([permit[-1] ^ 1])),
        writer.commit(ask, bytes(32)),
        writer.commit(ask, b""),
    ):
        assert (wrong.decision.reason, wrong.decision.stage) == (Reason.BAD_PERMIT, Stage.NEEDS)
    assert writer.commit(ask, permit).decision


def test_a_permit_ends_with_its_deadline(writer: WriterFixture) -> None:
    """A moment before the deadline it commits; at the deadline it does not."""
    token = writer.mint("read:doc/**")
    early, late = writer.ask(token, permit_ms=1000), writer.ask(token, "doc/2", permit_ms=1000)
    permits = [writer.decide(early).permit, writer.decide(late).permit]

    writer.clock.advance(999)
    assert writer.commit(early, permits[0]).decision
    writer.clock.advance(1)
    assert writer.commit(late, permits[1]).decision.reason is Reason.BAD_PERMIT


def test_a_session_that_moved_takes_its_permits_along(writer: WriterFixture) -> None:
    """A permit from before a narrowing is BAD_PERMIT; after the end, the end is the reason."""
    token = writer.mint("read:doc/**")
    ask = writer.ask(token, permit_ms=1000)
    first, second = writer.decide(ask).permit, writer.decide(ask).permit
    writer.do(narrow_session("narrow", SESSION, [Scope.parse("read:doc/1").to_record()]))

    assert writer.commit(ask, first).decision.reason is Reason.BAD_PERMIT
    writer.do(end_session("end", SESSION))
    assert writer.commit(ask, second).decision.reason is Reason.SESSION_ENDED


@pytest.mark.parametrize("observe", [False, True], ids=["narrowed", "enforced"])
def test_a_commit_is_judged_by_what_the_parent_holds_now(writer: WriterFixture, observe: bool) -> None:
    """A permit names its own session's epoch; its call is judged again below every ancestor's ceiling."""
    parent, child = b"parent--of--call", b"child---of--call"
    scope = Scope.parse("read:doc/1" if observe else "read:doc/**").to_record()
    terms = {"subject": "agent", "ttl_ms": 3_600_000, "observe": observe}
    writer.do(open_session("parent", parent, [scope], **terms))
    writer.do(open_session("child", child, [scope], parent_id=parent, **terms))
    token = writer.issuer.mint(child, ["read:doc/**"], ["gateway"], ttl_ms=3_600_000)
    inside, outside = (writer.ask(token, f"doc/{number}", permit_ms=1_000) for number in (1, 2))
    permits = [writer.decide(ask).permit for ask in (inside, outside)]
    assert all(permits)
    held = [] if observe else [Scope.parse("read:doc/1").to_record()]
    writer.do(narrow_session("narrow", parent, held, enforce=observe))

    refused = writer.commit(outside, permits[1]).decision
    assert (refused.reason, refused.level, refused.index) == (Reason.OUT_OF_SCOPE, Level.CEILING, 1)
    assert writer.commit(inside, permits[0]).decision.allowed


def test_a_session_has_so_many_permits_open(writer: WriterFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a permit is denied, and nothing is taken; a release makes room for another."""
    monkeypatch.setattr("sessauth.limits.MAX_OPEN_PERMITS", 2)
    token = writer.mint("read:doc/** needs uses(9)")
    permits = [writer.check(token, permit_ms=1000).permit for _ in range(2)]

    denied = writer.check(token, permit_ms=1000)
    assert denied.decision.reason is Reason.BUDGET_EXHAUSTED
    with writer.state_writer.source().rows() as rows:
        assert rows.uses(SESSION, token.block_ids[0], 0) == 2
    writer.release(permits[0])
    assert writer.check(token, permit_ms=1000).decision
