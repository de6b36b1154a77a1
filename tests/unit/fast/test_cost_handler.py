"""Costs of a call as its cost handler receives them; only a plain 0 allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sessauth._fast._check import CostClaims, Price
from sessauth.decisions.decision import Decision
from sessauth.reasons import Level, Reason, Stage
from tests.oracle.model import OracleRequest
from tests.support import bulk_sessions
from tests.support.token_forger import key, scope
from tests.vectors.world import EXPIRES, NOW, SESSION, ask, child, root, token

READ = "read:files/**"
KEYS = (key("a").public, key("b").public)
APPROVAL = {"approval": {"threshold": 2, "keys": list(KEYS)}}
BUDGET = f'{READ} free n needs budget("money", 10.5, "EUR", n)'
BUDGET_SCOPE = scope(BUDGET)


class Payer:
    """Keeps the claims, and says of them what it was made to say."""

    def __init__(self, answer: object = 0, tell: Callable[[CostClaims], None] = lambda claims: None) -> None:
        self.answer = answer
        self.tell = tell
        self.told: list[CostClaims] = []

    def charge(self, claims: CostClaims) -> Any:
        """Answer, or raise what was given."""
        self.told.append(claims)
        self.tell(claims)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def judged(
    chain: bytes,
    payer: object = None,
    request: OracleRequest | None = None,
    view: str = "plain",
    **given: Any,
) -> Decision:
    """One call, judged with this payer."""
    return bulk_sessions.judge(bulk_sessions.checker(view), chain, request, cost_handler=payer, **given)


def place(decision: Decision) -> tuple[object, ...]:
    """Return the reason and the position of a denial."""
    return (
        *(decision.allowed, decision.reason, decision.stage, decision.level),
        *(decision.index, decision.scope, decision.clause, decision.argument),
    )


def test_what_a_payer_is_told() -> None:
    """The claims name block, block id and each scope that matches, with price and amount."""
    record = {**BUDGET_SCOPE, "needs": {**APPROVAL, "uses": 3, **BUDGET_SCOPE["needs"]}}
    chain = token(
        root("write:**", f"{READ} needs uses(2)", record), child(), child("read:files/*"), child(BUDGET)
    )
    payer = Payer()
    decision = judged(chain, payer, ask(arguments='{"n": 7.25}'))

    assert decision
    (claims,) = payer.told
    assert (claims.session_id, claims.epoch, claims.revision) == (SESSION, 1, 100)
    assert (claims.block_ids, claims.checked_at_ms) == (decision.block_ids, NOW)
    money = Price(0, (), 0, "money", "EUR", (10, 500_000_000), "n")
    all_of_it = Price(2, KEYS, 3, "money", "EUR", (10, 500_000_000), "n")
    assert list(claims) == [
        (
            *(0, decision.block_ids[0]),
            ((1, Price(0, (), 2, "", "", None, ""), None), (2, all_of_it, (7, 250_000_000))),
        ),
        (3, decision.block_ids[3], ((0, money, (7, 250_000_000)),)),
    ]
    assert (len(claims), claims[-1], claims[1:]) == (2, claims[1], (claims[1],))


@pytest.mark.parametrize(
    ("arguments", "amount"),
    [
        ('{"n": 0}', (0, 0)),
        ('{"n": -0.0}', (0, 0)),
        ('{"n": 1e-9}', (0, 1)),
        ('{"n": 9223372036854775807.999999999}', (2**63 - 1, 999_999_999)),
        ('{"n": -0.5}', None),
        ('{"n": 1e-10}', None),
        ('{"n": 9223372036854775808}', None),
        ('{"n": "1"}', None),
        ('{"n": true}', None),
        ('{"n": null}', None),
        ('{"n": [1]}', None),
        ("{}", None),
        ("", None),
    ],
)
def test_an_amount_is_a_number_that_is_not_negative(arguments: str, amount: tuple[int, int] | None) -> None:
    """The amount is the argument's exact value; anything but a value of 0 or more is None."""
    payer = Payer()

    assert judged(token(root(BUDGET)), payer, ask(arguments=arguments))
    assert payer.told[0][0][2][0][2] == amount


def test_an_amount_inside_an_object() -> None:
    """A path of several segments is walked, and named with dots."""
    payer = Payer()
    chain = token(root(f'{READ} free order needs budget("money", 5, order.total)'))

    assert judged(chain, payer, ask(arguments='{"order": {"total": 3}}'))
    assert payer.told[0][0][2][0][1:] == (Price(0, (), 0, "money", "", (5, 0), "order.total"), (3, 0))


def test_a_payer_is_told_once_and_last() -> None:
    """It is told once of a call that all else allows, also one that costs nothing; never of another."""
    payer = Payer()

    assert judged(token(root(READ), child(READ)), payer)
    assert [list(claims) for claims in payer.told] == [[]]
    for chain, request, view in (
        (token(root("write:**", "read:logs needs uses(1)")), None, "plain"),
        (token(root(f"{READ} needs uses(1)"), child(conditions="n == 1")), None, "plain"),
        (token(root(f"{READ} needs uses(1)"), last="bound"), None, "plain"),
        (token(root(f"{READ} needs uses(1)")), ask("*"), "plain"),
        (token(root(f"{READ} needs uses(1)")), None, "ended"),
        (token(root(f"{READ} needs uses(1)"))[:-1], None, "plain"),
    ):
        assert not judged(chain, payer, request, view)
    assert len(payer.told) == 1


def test_a_scope_that_needs_nothing_is_not_claimed() -> None:
    """A block with a matching scope that needs nothing claims nothing, wherever that scope stands."""
    payer = Payer()
    chain = token(root(f"{READ} needs uses(1)", READ), child(READ, f"{READ} needs uses(1)"))

    assert judged(chain, payer)
    assert list(payer.told[0]) == []


def test_paid_is_allowed() -> None:
    """0 allows, at the first scope that matches, and nothing is left of the denial."""
    chain = token(root("a:b", f"{READ} needs uses(1)", READ + " needs uses(2)"), child())
    decision = judged(chain, Payer())

    assert place(decision) == (True, Reason.ALLOWED, Stage.NONE, Level.NONE, -1, -1, -1, "")
    assert (decision.matched_index, decision.matched_scope) == (0, 1)
    assert decision.expires_at_ms == EXPIRES


def test_the_matched_scope_is_the_one_that_was_paid() -> None:
    """The position of an allow is the chosen scope of the last block with scopes."""
    two = [f"{READ} needs uses(1)", "a:b", f"{READ} needs uses(2)"]
    both = token(root(*two), child(*two))

    def choose(claims: CostClaims) -> None:
        claims.choose(0, 2)

    assert judged(token(root(*two)), Payer(0, choose)).matched_scope == 2
    # Another block's choice is no business of the last one's.
    decision = judged(both, Payer(0, choose))
    assert (decision.matched_index, decision.matched_scope) == (1, 0)
    decision = judged(token(root(*two), child("a:b", READ)), Payer(0, choose))
    assert (decision.matched_index, decision.matched_scope) == (1, 1)


def test_without_a_payer_nothing_costs() -> None:
    """Reason and position are those of the first scope of the first block that costs something."""
    for costly, reason in (
        (f"{READ} needs uses(1)", Reason.NEEDS_SERVER),
        ({**BUDGET_SCOPE, "needs": APPROVAL}, Reason.APPROVAL_REQUIRED),
    ):
        decision = judged(token(root(READ), child("a:b", costly)))
        assert place(decision) == (False, reason, Stage.NEEDS, Level.BLOCK, 1, 1, -1, "")


def test_not_paid_is_denied() -> None:
    """A reason denies at stage needs, by default where it would be denied without a payer."""
    chain = token(root("a:b", f"{READ} needs uses(1)"), child(f"{READ} needs uses(1)"))
    needs = (Stage.NEEDS, Level.BLOCK)

    decision = judged(chain, Payer(Reason.USES_EXHAUSTED))
    assert place(decision) == (False, Reason.USES_EXHAUSTED, *needs, 0, 1, -1, "")
    assert (decision.matched_index, decision.expires_at_ms) == (-1, 0)
    decision = judged(chain, Payer(Reason.CONDITION_FAILED, lambda claims: claims.fail(1, 0, "größe")))
    assert place(decision) == (False, Reason.CONDITION_FAILED, *needs, 1, 0, -1, "größe")
    decision = judged(chain, Payer(Reason.MALFORMED_REQUEST, lambda claims: claims.fail(argument="retry_id")))
    nowhere = (Stage.NEEDS, Level.NONE, -1, -1, -1)
    assert place(decision) == (False, Reason.MALFORMED_REQUEST, *nowhere, "retry_id")
    decision = judged(token(root(READ)), Payer(Reason.BAD_PERMIT))
    assert place(decision) == (False, Reason.BAD_PERMIT, *nowhere, "")


def test_what_is_told_of_a_call_that_is_not_paid() -> None:
    """A denial of stage needs is explained as that, also where scopes give the same reason."""
    chain = token(root(BUDGET))
    amount = judged(chain, Payer(Reason.CONDITION_FAILED, lambda claims: claims.fail(0, 0, "n")))
    retry = judged(chain, Payer(Reason.MALFORMED_REQUEST, lambda claims: claims.fail(argument="retry_id")))
    permit = judged(token(root(READ)), Payer(Reason.NEEDS_SERVER))

    assert "argument `n` is no number of 0 or more" in amount.explain(chain)
    assert "the retry id was used for another call" in retry.explain(chain)
    assert "permit" in permit.explain()
    assert "needs" in judged(chain).explain(chain)


@pytest.mark.parametrize(
    "answer",
    [False, True, None, "0", 0.0, b"", 1, -1, 2**70, Reason.ALLOWED, OSError("gone"), ValueError("no")],
)
def test_any_other_answer_is_a_fault(answer: object) -> None:
    """Other answers than 0 or a reason, and exceptions, deny INTERNAL_ERROR and disclose nothing."""
    decision = judged(token(root(f"{READ} needs uses(1)")), Payer(answer))

    assert place(decision) == (False, Reason.INTERNAL_ERROR, Stage.NONE, Level.NONE, -1, -1, -1, "")
    assert (decision.session_id, decision.epoch, decision.block_ids) == (b"", 0, ())
    assert decision.fault is not None


def test_no_payer_at_all() -> None:
    """An object that can't pay denies."""
    assert judged(token(root(READ)), object()).reason == Reason.INTERNAL_ERROR


def test_only_what_is_claimed_can_be_named() -> None:
    """A scope that does not match, or of another block, is refused, and the call with it."""
    chain = token(root("a:b", f"{READ} needs uses(1)"), child(READ))

    def each(claims: CostClaims) -> None:
        for block, place in ((0, 0), (0, 2), (1, 0), (2, 0), (-1, 0), (0, -1)):
            for say in (claims.choose, claims.fail):
                with pytest.raises(ValueError, match="scope"):
                    say(block, place)

    assert judged(chain, Payer(0, each))
    assert judged(chain, Payer(0, lambda claims: claims.choose(0, 0))).reason == Reason.INTERNAL_ERROR


def test_a_payer_may_check_itself() -> None:
    """The same checker judges other calls while a payer is told of one."""
    checker = bulk_sessions.checker()
    inner = token(root(f"{READ} where n == 2"))

    def check(claims: CostClaims) -> None:
        assert bulk_sessions.judge(checker, inner, ask(arguments='{"n": 2}'))
        assert not bulk_sessions.judge(checker, inner, ask(arguments='{"n": 3}'))

    chain = token(root(BUDGET))
    payer = Payer(0, check)
    for _ in range(3):
        assert bulk_sessions.judge(checker, chain, ask(arguments='{"n": 1}'), cost_handler=payer)
    assert [claims[0][2][0][2] for claims in payer.told] == [(1, 0)] * 3


def test_facts_of_the_session_are_read_as_before() -> None:
    """Claims read the facts that scopes read: below the root visible ones alone."""
    hidden = 'read:files/** where session.region == "eu" needs uses(1)'
    shown = 'read:files/** where session.case_id == "C-7" needs uses(1)'
    payer = Payer()

    assert judged(token(root(hidden, shown), child(shown, hidden)), payer, view="facts")
    assert [[each[0] for each in scopes] for _, _, scopes in payer.told[0]] == [[0, 1], [0]]
