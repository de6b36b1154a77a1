from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest

from sessauth.errors import OutcomeUnknown, Rejected
from sessauth.model.change import end_session, narrow_session, revoke
from sessauth.model.costs import ledger_id
from sessauth.reasons import Reason, Stage
from sessauth.scopes.scope import Scope
from tests.support.writer_fixture import SESSION, Till

BUDGET = 'read:doc/** where cost >= 0 needs budget("api", 10, "eur", cost)'


@pytest.fixture
def till(tmp_path: Path) -> Iterator[Till]:
    """A till with one session."""
    folder = tmp_path / "state"
    made = Till(folder)
    yield made
    made.close()


def test_a_scope_is_used_so_often_and_no_more(till: Till) -> None:
    """Of a scope that may be used three times, three calls are allowed and the fourth is not."""
    token = till.mint("read:doc/** needs uses(3)")

    reasons = [till.check(token).decision.reason for _ in range(5)]

    assert reasons == [Reason.ALLOWED] * 3 + [Reason.USES_EXHAUSTED] * 2
    assert till.writer._source is not None
    denied = till.check(token).decision
    assert (denied.stage, denied.index, denied.scope) == (Stage.NEEDS, 0, 0)
    assert denied.session_id == SESSION


def test_the_first_scope_whose_needs_are_met_decides(till: Till) -> None:
    """What one scope has no more of the next one gives; a denial has the reason of the first."""
    token = till.mint("read:doc/1 needs uses(1)", "read:doc/* needs uses(2)")

    decisions = [till.check(token).decision for _ in range(4)]

    assert [each.matched_scope for each in decisions] == [0, 1, 1, -1]
    assert decisions[-1].reason is Reason.USES_EXHAUSTED
    assert decisions[-1].scope == 0


def test_a_call_that_costs_nothing_writes_nothing(till: Till) -> None:
    """A free scope of a block decides before one that costs, and the log does not move."""
    token = till.mint("read:doc/** needs uses(1)", "read:doc/**")
    before = till.writer.head().seq

    assert all(till.check(token).decision for _ in range(3))
    assert till.writer.head().seq == before


def test_a_budget_is_charged_by_the_argument(till: Till) -> None:
    """Amounts add up exactly to the limit, and what would pass it is denied; the ledger says what is gone."""
    token = till.mint(BUDGET)

    def reason(cost: str) -> Reason:
        return till.check(token, arguments=b'{"cost": %s}' % cost.encode()).decision.reason

    assert [reason(cost) for cost in ("4", "5.999999999", "0.000000002")] == [
        Reason.ALLOWED,
        Reason.ALLOWED,
        Reason.BUDGET_EXHAUSTED,
    ]
    assert reason("0.000000001") is Reason.ALLOWED
    with till.writer._rows() as rows:
        ledger = rows.ledger(SESSION, ledger_id("api", "eur"))
    assert (str(ledger.spent), str(ledger.reserved)) == ("10", "0")


def test_an_amount_that_is_none_fails_its_condition(till: Till) -> None:
    """A text, a negative number and no argument at all charge nothing and are denied by name."""
    token = till.mint('read:doc/** free cost needs budget("api", 10, "eur", cost)')

    for arguments in (b'{"cost": "4"}', b'{"cost": -1}', b"{}", b'{"cost": 1e40}'):
        denied = till.check(token, arguments=arguments).decision
        assert (denied.reason, denied.stage, denied.argument) == (
            Reason.CONDITION_FAILED,
            Stage.NEEDS,
            "cost",
        )


def test_what_a_child_takes_comes_out_of_its_parent_too(till: Till) -> None:
    """A child with two uses of its own, below a parent with three, uses both up at once."""
    parent = till.mint("read:doc/** needs uses(3)", ending="open")
    child = parent.attenuate(scopes=["read:doc/** needs uses(2)"])

    assert [till.check(child).decision.reason for _ in range(3)] == [
        Reason.ALLOWED,
        Reason.ALLOWED,
        Reason.USES_EXHAUSTED,
    ]
    denied = till.check(child).decision
    assert denied.index == 1
    sibling = parent.attenuate(scopes=["read:doc/**"])
    assert [till.check(sibling).decision.reason for _ in range(2)] == [
        Reason.ALLOWED,
        Reason.USES_EXHAUSTED,
    ]


def test_nothing_is_taken_where_anything_denies(till: Till) -> None:
    """A child without uses left takes none of its parent's, block after block, and writes nothing."""
    parent = till.mint("read:doc/** needs uses(3)", ending="open")
    child = parent.attenuate(scopes=["read:doc/** needs uses(1)"])
    till.check(child)
    before = till.writer.head().seq

    assert till.check(child).decision.reason is Reason.USES_EXHAUSTED
    assert till.writer.head().seq == before
    with till.writer._rows() as rows:
        assert rows.uses(SESSION, parent.block_ids[0], 0) == 1


def test_root_blocks_share_a_budget_by_name_and_unit(till: Till) -> None:
    """Two tokens of a session that name the same budget spend one sum; another unit is another."""
    one, other = till.mint(BUDGET), till.mint(BUDGET, label="other")
    third = till.mint(BUDGET.replace("eur", "usd"))

    assert till.check(one, arguments=b'{"cost": 6}').decision
    assert till.check(other, arguments=b'{"cost": 5}').decision.reason is Reason.BUDGET_EXHAUSTED
    assert till.check(other, arguments=b'{"cost": 4}').decision
    assert till.check(third, arguments=b'{"cost": 10}').decision


def test_the_writer_judges_by_what_came_before_in_its_own_group(till: Till) -> None:
    """Of calls and an end that share a commit, those behind the end are denied."""
    token = till.mint("read:doc/** needs uses(100)")
    ask = till.ask(token)

    def work(group: object) -> list[Reason]:
        before = till.arbiter.check(group, ask).decision.reason  # type: ignore[arg-type]
        group.submit(end_session("the-end", SESSION))  # type: ignore[attr-defined]
        return [before, till.arbiter.check(group, ask).decision.reason]  # type: ignore[arg-type]

    assert till.writer.decide(work, 1024).result(10) == [Reason.ALLOWED, Reason.SESSION_ENDED]


def test_what_was_seen_in_an_aborted_group_is_not_believed(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation that was never committed leaves no mark that hides a later one."""
    token = till.mint("read:doc/** needs uses(100)")
    other = till.mint("read:doc/** needs uses(100)", label="other")

    def work(group: object) -> Reason:
        group.submit(revoke("never", SESSION, [other.block_ids[0]]))  # type: ignore[attr-defined]
        till.arbiter.check(group, till.ask(token))  # type: ignore[arg-type]
        raise lmdb.Error("no more")

    with pytest.raises(OutcomeUnknown):
        till.writer.decide(work, 1024).result(10)
    till.writer.clear_brake()
    till.do(revoke("for-good", SESSION, [token.block_ids[0]]))

    assert till.check(token).decision.reason is Reason.REVOKED


def test_a_retry_takes_nothing_again(till: Till) -> None:
    """The same gateway, retry id and call: allowed as often as asked, taken once, with the first permit."""
    token = till.mint("read:doc/** needs uses(1)")
    first = till.check(token, retry_id=b"attempt", permit_ms=1000)

    again = [till.check(token, retry_id=b"attempt", permit_ms=1000) for _ in range(3)]

    assert first.decision
    assert len(first.permit) == 32
    assert all(each.decision for each in again)
    assert {each.permit for each in again} == {first.permit}
    assert {each.permit_expires_at_ms for each in again} == {first.permit_expires_at_ms}
    assert till.check(token).decision.reason is Reason.USES_EXHAUSTED


def test_a_retry_id_names_one_call_of_one_gateway(till: Till) -> None:
    """Another request, token or arguments under a known retry id is refused; another gateway's is its own."""
    token = till.mint("read:doc/** free * needs uses(9)")
    other = till.mint("read:doc/** free * needs uses(9)", label="other")
    till.check(token, retry_id=b"attempt")

    for wrong in (
        till.check(token, "doc/2", retry_id=b"attempt"),
        till.check(token, arguments=b'{"a":1}', retry_id=b"attempt"),
        till.check(other, retry_id=b"attempt"),
    ):
        assert wrong.decision.reason is Reason.MALFORMED_REQUEST
        assert wrong.decision.argument == "retry_id"
    with till.writer._rows() as rows:
        assert rows.uses(SESSION, token.block_ids[0], 0) == 1
    assert till.check(token, retry_id=b"attempt", gateway="gw-2").decision
    with till.writer._rows() as rows:
        assert rows.uses(SESSION, token.block_ids[0], 0) == 2


def test_a_retry_is_judged_anew_up_to_needs(till: Till) -> None:
    """A call that was allowed and paid is denied under its retry id once its session has ended."""
    token = till.mint("read:doc/** needs uses(1)")
    till.check(token, retry_id=b"attempt")
    till.do(end_session("end", SESSION))

    assert till.check(token, retry_id=b"attempt").decision.reason is Reason.SESSION_ENDED


def test_a_denied_attempt_is_not_remembered(till: Till) -> None:
    """What was denied under a retry id may be asked about again, and is judged as if for the first time."""
    token = till.mint(BUDGET)
    assert not till.check(token, arguments=b'{"cost": 11}', retry_id=b"a").decision
    assert till.check(token, arguments=b'{"cost": 3}', retry_id=b"a").decision


def test_a_permit_reserves_and_commit_spends(till: Till) -> None:
    """What a permit reserves nobody else gets; committing spends it, and a second time there is none."""
    token = till.mint(BUDGET)
    ask = till.ask(token, arguments=b'{"cost": 6}', permit_ms=1000)
    verdict = till.decide(ask)
    assert till.check(token, arguments=b'{"cost": 5}').decision.reason is Reason.BUDGET_EXHAUSTED

    assert till.commit(ask, verdict.permit).decision
    assert till.commit(ask, verdict.permit).decision.reason is Reason.BAD_PERMIT
    with till.writer._rows() as rows:
        ledger = rows.ledger(SESSION, ledger_id("api", "eur"))
        assert rows.counts(SESSION).open_permits == 0
    assert (str(ledger.spent), str(ledger.reserved)) == ("6", "0")


def test_a_released_permit_gives_back(till: Till) -> None:
    """What was reserved is free again, and the permit is no more: to commit and to release."""
    token = till.mint(BUDGET)
    ask = till.ask(token, arguments=b'{"cost": 6}', permit_ms=1000)
    permit = till.decide(ask).permit

    with pytest.raises(Rejected, match="NOT_FOUND"):
        till.release(permit, gateway="gw-2")
    till.release(permit)

    assert till.check(token, arguments=b'{"cost": 10}').decision
    assert till.commit(ask, permit).decision.reason is Reason.BAD_PERMIT
    with pytest.raises(Rejected, match="NOT_FOUND"):
        till.release(permit)


@pytest.mark.parametrize("how", ["released", "committed", "over"])
def test_a_retry_is_not_paid_by_a_permit_that_is_gone(till: Till, how: str) -> None:
    """Once its reserve was given back or spent, the first attempt's permit pays for no further attempt."""
    token = till.mint(BUDGET)
    ask = till.ask(token, arguments=b'{"cost": 4}', retry_id=b"attempt", permit_ms=1000)
    first = till.decide(ask)
    assert till.decide(replace(ask, permit_ms=0)).permit == first.permit
    if how == "released":
        till.release(first.permit)
    elif how == "committed":
        assert till.commit(ask, first.permit).decision
    else:
        till.clock.advance(1000)

    again = till.decide(replace(ask, permit_ms=0))

    assert (again.decision.reason, again.decision.stage, again.permit) == (
        Reason.BAD_PERMIT,
        Stage.NEEDS,
        b"",
    )


def test_a_permit_is_bound_to_its_call(till: Till) -> None:
    """Another gateway, request, token, arguments or permit does not commit it; its own call does."""
    token, other = till.mint("read:doc/** free *"), till.mint("read:doc/** free *", label="other")
    ask = till.ask(token, permit_ms=1000)
    permit = till.decide(ask).permit

    for wrong in (
        till.commit(till.ask(token, gateway="gw-2"), permit),
        till.commit(till.ask(token, "doc/2"), permit),
        till.commit(till.ask(token, arguments=b'{"a":1}'), permit),
        till.commit(till.ask(other), permit),
        till.commit(ask, permit[:-1] + bytes([permit[-1] ^ 1])),
        till.commit(ask, bytes(32)),
        till.commit(ask, b""),
    ):
        assert (wrong.decision.reason, wrong.decision.stage) == (Reason.BAD_PERMIT, Stage.NEEDS)
    assert till.commit(ask, permit).decision


def test_a_permit_ends_with_its_deadline(till: Till) -> None:
    """A moment before the deadline it commits; at the deadline it does not."""
    token = till.mint("read:doc/**")
    early, late = till.ask(token, permit_ms=1000), till.ask(token, "doc/2", permit_ms=1000)
    permits = [till.decide(early).permit, till.decide(late).permit]

    till.clock.advance(999)
    assert till.commit(early, permits[0]).decision
    till.clock.advance(1)
    assert till.commit(late, permits[1]).decision.reason is Reason.BAD_PERMIT


def test_a_session_that_moved_takes_its_permits_along(till: Till) -> None:
    """After narrowing, a permit of before is none; after the end, the end is the reason."""
    token = till.mint("read:doc/**")
    ask = till.ask(token, permit_ms=1000)
    first, second = till.decide(ask).permit, till.decide(ask).permit
    till.do(narrow_session("narrow", SESSION, [Scope.parse("read:doc/1").to_record()]))

    assert till.commit(ask, first).decision.reason is Reason.BAD_PERMIT
    till.do(end_session("end", SESSION))
    assert till.commit(ask, second).decision.reason is Reason.SESSION_ENDED


def test_a_session_has_so_many_permits_open(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a permit is denied, and nothing is taken; a release makes room for another."""
    monkeypatch.setattr("sessauth.limits.MAX_OPEN_PERMITS", 2)
    token = till.mint("read:doc/** needs uses(9)")
    permits = [till.check(token, permit_ms=1000).permit for _ in range(2)]

    denied = till.check(token, permit_ms=1000)
    assert denied.decision.reason is Reason.BUDGET_EXHAUSTED
    with till.writer._rows() as rows:
        assert rows.uses(SESSION, token.block_ids[0], 0) == 2
    till.release(permits[0])
    assert till.check(token, permit_ms=1000).decision
