"""The rules of what calls cost, judged without a disk: all of it or nothing, and never beyond a limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sessauth import limits
from sessauth.model.change import (
    BudgetClaim,
    Change,
    ChangeOutcome,
    Ledger,
    SessionCounts,
    Settlement,
    end_session,
    narrow_session,
    purge_session,
    resume_session,
    settle_permit,
    suspend_session,
)
from sessauth.scopes.value import Number
from sessauth.state import layout
from sessauth.state.rules.effects import counts_key
from tests.support.changes import HOUR, NOW, MemoryRows, opening, scopes
from tests.support.costs import BLOCK, GATEWAY, LEDGER, REQUEST, TOKEN, charge, spending, use

ID = b"s" * 16
PERMIT = b"p" * 16
DEADLINE = NOW + 60_000


def live(**given: Any) -> MemoryRows:
    """Return rows with one live session."""
    rows = MemoryRows()
    assert rows.do(opening("open", ID, **given)).applied
    return rows


def permitted(rows: MemoryRows, permit_id: bytes = PERMIT, **given: Any) -> ChangeOutcome:
    """Take something with a permit."""
    return rows.do(spending(ID, permit_id=permit_id, permit_deadline_ms=DEADLINE, **given))


def settled(
    rows: MemoryRows, settlement: Settlement, at_ms: int = NOW, gateway: str = GATEWAY, actor: str = ""
) -> ChangeOutcome:
    """Close the permit."""
    return rows.do(settle_permit("settle", ID, PERMIT, settlement, gateway=gateway, actor=actor), at_ms)


def cost_rows(rows: MemoryRows) -> tuple[dict[bytes, bytes], ...]:
    """Return a copy of every row that a cost can move."""
    return tuple(dict(rows.tables[name]) for name in (layout.COUNTERS, layout.PERMITS, layout.APPROVALS))


def test_a_use_counts_for_its_session_alone() -> None:
    """The same block id in another session has a count of its own."""
    rows = live()
    assert rows.do(opening("other", b"o" * 16)).applied
    assert rows.do(spending(ID, uses=[use(1)])).applied
    assert rows.do(spending(b"o" * 16, uses=[use(1)])).applied


def test_a_budget_is_spent_to_its_last_billionth() -> None:
    """Amounts add up exactly, and the smallest amount beyond the limit is refused."""
    rows = live()
    third = Number(0, 333_333_333)
    for _ in range(3):
        assert rows.do(spending(ID, budgets=[BudgetClaim(LEDGER, third, Number(1))])).applied
    assert rows.ledger(ID, LEDGER) == Ledger(Number(0, 999_999_999), Number(0))
    beyond = rows.do(spending(ID, budgets=[BudgetClaim(LEDGER, Number(0, 2), Number(1))]))
    assert beyond.rejection == "BUDGET_EXHAUSTED" and "0.999999999 of 1 are spent" in beyond.detail
    assert rows.do(spending(ID, budgets=[BudgetClaim(LEDGER, Number(0, 1), Number(1))])).applied
    assert rows.ledger(ID, LEDGER).spent == Number(1)


def test_amounts_at_the_ends_of_the_range_do_not_wrap() -> None:
    """The largest number fits once; anything more is refused, never negative."""
    rows = live()
    most = Number(2**63 - 1, 999_999_999)
    assert rows.do(spending(ID, budgets=[BudgetClaim(LEDGER, most, most)])).applied
    for amount in (Number(0, 1), Number(1), most):
        refused = rows.do(spending(ID, budgets=[BudgetClaim(LEDGER, amount, most)]))
        assert refused.rejection == "BUDGET_EXHAUSTED"
    assert rows.ledger(ID, LEDGER).spent == most


def test_a_narrower_limit_sees_what_a_wider_one_took() -> None:
    """Two tokens with other limits share a ledger: what is gone is gone for both."""
    rows = live()
    assert rows.do(spending(ID, budgets=[charge(8, 10)])).applied
    assert rows.do(spending(ID, budgets=[charge(0, 5)])).rejection == "BUDGET_EXHAUSTED"
    assert rows.do(spending(ID, budgets=[charge(2, 10)])).applied


def test_a_consumption_is_whole_or_nothing() -> None:
    """None of the claims is consumed if one is rejected, whichever it is."""
    rows = live()
    assert rows.do(spending(ID, uses=[use(1)], budgets=[charge(1, 10)], approval_ids=[b"a" * 16])).applied
    before = cost_rows(rows)
    fresh = {"uses": [use(9, scope=1)], "budgets": [charge(1, 10)], "approval_ids": [b"n" * 16]}
    for spoiled, word in (
        ({"uses": [use(9, scope=1), use(1)]}, "USES_EXHAUSTED"),
        ({"budgets": [charge(1, 10), charge(9, 5, b"m" * 32)]}, "BUDGET_EXHAUSTED"),
        ({"approval_ids": [b"n" * 16, b"a" * 16]}, "APPROVAL_USED"),
        ({"permit_id": PERMIT, "permit_deadline_ms": NOW}, "INVALID"),
    ):
        assert rows.do(spending(ID, **{**fresh, **spoiled})).rejection == word
        assert cost_rows(rows) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"expected_epoch": 0},
        {"gateway": ""},
        {"token_digest": b"short"},
        {"request_digest": b""},
        {"uses": [use(0)]},
        {"uses": [use(1, scope=limits.MAX_SCOPES)]},
        {"uses": [use(1, block_id=b"short")]},
        {"uses": [use(5), use(5)]},
        {"budgets": [charge(-1, 5)]},
        {"budgets": [charge(1, 5, b"short")]},
        {"budgets": [charge(1, 5), charge(1, 5)]},
        {"approval_ids": [b"short"]},
        {"approval_ids": [b"a" * 16, b"a" * 16]},
        {"permit_id": b"short", "permit_deadline_ms": DEADLINE},
        {"permit_id": PERMIT, "permit_deadline_ms": NOW},
        {"permit_id": PERMIT, "permit_deadline_ms": NOW + limits.MAX_PERMIT_MS + 1},
    ],
)
def test_a_consumption_against_the_form_is_refused(fields: dict[str, Any]) -> None:
    """Sizes, ranges and repetitions are held, and nothing is written."""
    rows = live()
    assert rows.do(spending(ID, **fields)).rejection == "INVALID"
    assert cost_rows(rows) == ({}, {}, {})


@pytest.mark.parametrize("field", ["uses", "budgets", "approval_ids"])
def test_a_consumption_claims_no_more_than_a_chain_has_blocks(field: str) -> None:
    """Each block of a chain has one deciding scope, so 16 claims of a kind are the most."""
    claims: dict[str, Callable[[int], Any]] = {
        "uses": lambda n: use(9, block_id=bytes([n]) * 32),
        "budgets": lambda n: charge(1, 9, bytes([n]) * 32),
        "approval_ids": lambda n: bytes([n]) * 16,
    }
    many = [claims[field](n) for n in range(limits.MAX_BLOCKS + 1)]
    assert live().do(spending(ID, **{field: many})).rejection == "LIMIT"
    assert live().do(spending(ID, **{field: many[1:]})).applied


def test_an_epoch_that_moved_takes_nothing() -> None:
    """A consumption that was decided before a narrowing is rejected after it."""
    rows = live()
    assert rows.do(narrow_session("n", ID, scopes("read:files/a/**"))).applied
    assert rows.do(spending(ID, uses=[use(9)])).rejection == "EPOCH_MISMATCH"
    assert rows.do(spending(ID, uses=[use(9)], expected_epoch=2)).applied


@pytest.mark.parametrize(
    ("change", "at_ms", "word"),
    [
        (lambda: suspend_session("x", ID), NOW, "EPOCH_MISMATCH"),
        (lambda: end_session("x", ID), NOW, "ALREADY_ENDED"),
        (lambda: suspend_session("x", b"p" * 16), NOW, "WRONG_STATUS"),
        (lambda: end_session("x", b"p" * 16), NOW, "ALREADY_ENDED"),
        (None, NOW + HOUR, "ALREADY_ENDED"),
    ],
)
def test_only_a_live_and_active_line_pays(change: Callable[[], Change] | None, at_ms: int, word: str) -> None:
    """A session that is over or suspended, or one of its ancestors, gives nothing away."""
    rows = MemoryRows()
    assert rows.do(opening("p", b"p" * 16)).applied
    assert rows.do(opening("o", ID, parent_id=b"p" * 16)).applied
    if change is not None:
        assert rows.do(change()).applied
    assert rows.do(spending(ID, uses=[use(9)]), at_ms).rejection == word
    assert rows.do(spending(b"x" * 16, uses=[use(9)])).rejection == "NOT_FOUND"


def test_a_suspended_session_pays_nothing_at_its_new_epoch() -> None:
    """Being at the right epoch is not enough."""
    rows = live()
    assert rows.do(suspend_session("s", ID)).applied
    assert rows.do(spending(ID, uses=[use(9)], expected_epoch=2)).rejection == "WRONG_STATUS"
    assert rows.do(resume_session("r", ID)).applied
    assert rows.do(spending(ID, uses=[use(9)], expected_epoch=3)).applied


def test_taking_moves_no_session_record() -> None:
    """Costs have rows of their own: the session's record keeps its bytes."""
    rows = live()
    before = rows.tables[layout.SESSIONS][ID]
    assert permitted(rows, uses=[use(9)], budgets=[charge(1, 5)], approval_ids=[b"a" * 16]).applied
    assert rows.tables[layout.SESSIONS][ID] == before


def test_a_permit_reserves_and_a_commit_spends() -> None:
    """Reserved amounts count against the limit; a commit spends them and closes the permit."""
    rows = live()
    outcome = permitted(rows, uses=[use(9)], budgets=[charge(6, 10)])
    assert (outcome.permit_id, outcome.permit_deadline_ms) == (PERMIT, DEADLINE)
    permit = rows.permit(ID, PERMIT)
    assert permit is not None and permit.handle == ID + PERMIT
    assert (permit.gateway, permit.epoch, permit.deadline_ms) == (GATEWAY, 1, DEADLINE)
    assert (permit.token_digest, permit.request_digest) == (TOKEN, REQUEST)
    assert rows.ledger(ID, LEDGER) == Ledger(Number(0), Number(6))
    assert rows.counts(ID) == SessionCounts(open_permits=1, counters=2)
    assert rows.do(spending(ID, budgets=[charge(5, 10)])).rejection == "BUDGET_EXHAUSTED"
    assert settled(rows, Settlement.COMMIT).applied
    assert rows.ledger(ID, LEDGER) == Ledger(Number(6), Number(0))
    assert rows.counts(ID) == SessionCounts(counters=2)
    assert settled(rows, Settlement.COMMIT).rejection == "BAD_PERMIT"


def test_a_permit_expires_by_the_log_alone_and_at_its_deadline() -> None:
    """A commit at the deadline is too late; only the log gives the reserve back from then on."""
    rows = live()
    assert permitted(rows, budgets=[charge(10, 10)]).applied
    system = {"gateway": "", "actor": layout.SYSTEM_ACTOR}
    assert settled(rows, Settlement.EXPIRE, DEADLINE - 1, **system).rejection == "INVALID"
    assert settled(rows, Settlement.EXPIRE, DEADLINE).rejection == "INVALID"
    assert settled(rows, Settlement.COMMIT, DEADLINE).rejection == "BAD_PERMIT"
    assert settled(rows, Settlement.EXPIRE, DEADLINE, **system).applied
    assert rows.ledger(ID, LEDGER) == Ledger() and rows.counts(ID) == SessionCounts(counters=1)


@pytest.mark.parametrize("how", ["narrowed", "suspended and resumed", "ended", "parent suspended", "expired"])
def test_a_permit_dies_with_what_it_was_given_for(how: str) -> None:
    """Nothing is committed after the epoch moved or the session went; a release gives back all the same."""
    rows = MemoryRows()
    assert rows.do(opening("p", b"p" * 16)).applied
    assert rows.do(opening("o", ID, parent_id=b"p" * 16, ttl_ms=1_000)).applied
    assert permitted(rows, budgets=[charge(3, 10)]).applied
    at_ms = NOW + 1_000 if how == "expired" else NOW
    changes = {
        "narrowed": [narrow_session("n", ID, scopes("read:files/a/**"))],
        "suspended and resumed": [suspend_session("s", ID), resume_session("r", ID)],
        "ended": [end_session("e", ID)],
        "parent suspended": [suspend_session("s", b"p" * 16)],
    }
    for change in changes.get(how, []):
        assert rows.do(change).applied
    assert settled(rows, Settlement.COMMIT, at_ms).rejection == "BAD_PERMIT"
    assert rows.ledger(ID, LEDGER) == Ledger(Number(0), Number(3))
    assert settled(rows, Settlement.RELEASE, at_ms).applied
    assert rows.ledger(ID, LEDGER) == Ledger()


def test_open_permits_are_bounded() -> None:
    """A session has at most so many; closing one makes room for one."""
    rows = live()
    for number in range(limits.MAX_OPEN_PERMITS):
        assert permitted(rows, PERMIT if not number else number.to_bytes(16, "big")).applied
    refused = permitted(rows, b"x" * 16, uses=[use(9)])
    assert refused.rejection == "LIMIT" and "permit" in refused.detail
    assert rows.uses(ID, BLOCK, 0) == 0
    assert settled(rows, Settlement.RELEASE).applied
    assert permitted(rows, b"x" * 16).applied
    assert permitted(rows, b"x" * 16).rejection == "LIMIT"


def test_counters_are_bounded() -> None:
    """However many blocks a holder makes up, a session counts so many things; those go on being counted."""
    rows = live()
    assert rows.do(spending(ID, uses=[use(9)], budgets=[charge(1, 9)], approval_ids=[b"a" * 16])).applied
    assert rows.counts(ID).counters == 3
    full = SessionCounts(counters=layout.MAX_COUNTERS - 1)
    rows.tables[layout.COUNTERS][counts_key(ID)] = full.encode()
    two = [use(9, block_id=b"c" * 32), use(9, block_id=b"d" * 32)]
    assert rows.do(spending(ID, uses=two)).rejection == "LIMIT"
    assert rows.do(spending(ID, uses=two[:1], budgets=[charge(1, 9)])).applied
    assert rows.do(spending(ID, uses=two[1:])).rejection == "LIMIT"
    assert rows.do(spending(ID, uses=[use(9), two[0]])).applied


def test_a_permit_id_is_given_once() -> None:
    """An id that is open is not given a second time."""
    rows = live()
    assert permitted(rows).applied
    assert permitted(rows).rejection == "ALREADY_EXISTS"


def test_a_settlement_states_how() -> None:
    """A settlement without a word, or with an unknown one, is refused."""
    rows = live()
    assert permitted(rows).applied
    assert settled(rows, Settlement.UNSPECIFIED).rejection == "INVALID"
    assert rows.counts(ID).open_permits == 1


def test_a_purge_leaves_nothing_of_a_session() -> None:
    """Counters, ledgers, used-up approvals, permits and counts go with the session's row, and no other's."""
    rows = live()
    assert rows.do(opening("other", b"o" * 16)).applied
    assert rows.do(spending(b"o" * 16, uses=[use(9)], budgets=[charge(1, 5)])).applied
    kept = cost_rows(rows)
    assert permitted(rows, uses=[use(9)], budgets=[charge(1, 5)], approval_ids=[b"a" * 16]).applied
    assert rows.do(end_session("e", ID)).applied
    assert rows.do(purge_session("p", ID)).applied
    assert cost_rows(rows) == kept
