"""The rules by which signed approvals count, and by which enough of them approve a call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sessauth.errors import InvalidApproval
from sessauth.model.approval import (
    ApprovalFault,
    ApprovalOutcome,
    ApprovalRecord,
    ApprovalStatus,
    SignedApproval,
    check_statement,
    judge_approvals,
)
from sessauth.reasons import Reason
from tests.oracle.crypto import digest
from tests.support.approvals import HOUR_MS, encoded_statements, held, signed, statement, terms
from tests.support.token_forger import id16
from tests.vectors.world import NOW

FAULT = ApprovalFault
# A point of small order: with a lax verifier one signature under it passes for every message.
SMALL_ORDER = bytes([1]) + bytes(31)


def judged(
    presented: list[bytes],
    *held: ApprovalRecord,
    used: bytes = b"",
    now_ms: int = NOW,
    **changes: Any,
) -> ApprovalOutcome:
    """Judge by the terms of ``tests.support.approvals``; ``used`` is an id that was used up."""
    return judge_approvals(presented, held, terms(**changes), now_ms, is_used=lambda each: each == used)


def fault_of(signed: SignedApproval, now_ms: int = NOW, **changes: Any) -> str:
    """The fault that a statement is refused with."""
    with pytest.raises(InvalidApproval) as refused:
        check_statement(signed, terms(**changes), now_ms)
    return refused.value.fault


def test_a_right_statement_counts_and_is_given_back() -> None:
    """The signed statement is the result of check_statement."""
    assert check_statement(signed(), terms(), NOW, approval_id=statement().id) == statement()


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("id", b"", FAULT.NOT_CANONICAL),
        ("id", bytes(15), FAULT.NOT_CANONICAL),
        ("id", bytes(17), FAULT.NOT_CANONICAL),
        ("session_id", id16("another"), FAULT.OTHER_SESSION),
        ("session_id", b"", FAULT.OTHER_SESSION),
        ("block_id", digest(b"another"), FAULT.OTHER_BLOCK),
        ("block", 1, FAULT.OTHER_SCOPE),
        ("scope", 0, FAULT.OTHER_SCOPE),
        ("epoch", 2, FAULT.OTHER_EPOCH),
        ("epoch", 4, FAULT.OTHER_EPOCH),
        ("request_digest", digest(b"another"), FAULT.OTHER_REQUEST),
        ("request_digest", b"", FAULT.OTHER_REQUEST),
        ("expires_at_ms", NOW, FAULT.EXPIRED),
        ("expires_at_ms", 0, FAULT.EXPIRED),
        ("expires_at_ms", 2**53, FAULT.NOT_CANONICAL),
    ],
)
def test_what_a_statement_says_must_be_this_call(field: str, value: object, fault: ApprovalFault) -> None:
    """A statement that is rightly signed and differs in one field does not count, and says in which."""
    assert fault_of(signed(**{field: value})) == fault


def test_a_statement_ends_at_its_expiry_without_leeway() -> None:
    """One millisecond before its end it counts, at its end it does not."""
    ends = statement().expires_at_ms

    assert check_statement(signed(), terms(), ends - 1) == statement()
    assert fault_of(signed(), now_ms=ends) == FAULT.EXPIRED


def test_another_id_than_the_one_asked_for_does_not_count() -> None:
    """The statement of another approval than the requested one is refused."""
    with pytest.raises(InvalidApproval) as refused:
        check_statement(signed(id=id16("another")), terms(), NOW, approval_id=statement().id)

    assert refused.value.fault == FAULT.OTHER_ID


def test_only_keys_of_the_scope_count() -> None:
    """A right signature by a key that the scope does not name is of nobody."""
    assert fault_of(signed("dan")) == FAULT.UNKNOWN_KEY
    assert fault_of(signed(), keys=()) == FAULT.UNKNOWN_KEY


def test_a_key_of_small_order_never_counts() -> None:
    """Even where a scope names it: one signature would pass for every statement."""
    forged = SignedApproval(SMALL_ORDER, SMALL_ORDER + bytes(32), statement().encode())

    assert fault_of(forged, keys=(SMALL_ORDER,)) == FAULT.WEAK_KEY


def test_a_signature_without_the_label_does_not_count() -> None:
    """A signature for another purpose with the same key is wrong here."""
    from sessauth._fast import _check as kernel
    from tests.support.token_forger import key

    bare = replace(signed(), signature=kernel.sign(key("approver ann").seed, statement().encode()))

    assert fault_of(bare) == FAULT.BAD_SIGNATURE


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_has_64_bytes(size: int) -> None:
    """Any other size is against the format."""
    assert fault_of(replace(signed(), signature=bytes(size))) == FAULT.NOT_CANONICAL


def test_enough_that_came_with_the_request_allow() -> None:
    """Two of three keys, and the outcome names the approval that is used up."""
    outcome = judged(encoded_statements("ann", "cas"))

    assert outcome
    assert (outcome.reason, outcome.approval_id, outcome.counted) == (Reason.ALLOWED, id16("approval"), 2)


def test_one_key_signs_once() -> None:
    """The same key twice with the request, or once more beside the state, does not count twice."""
    for outcome, place in (
        (judged(encoded_statements("ann", "ann")), 1),
        (judged([*encoded_statements("ann"), *encoded_statements("ann", expires_at_ms=NOW + 1)]), 1),
        (judged(encoded_statements("ann"), held("ann")), 0),
    ):
        assert (outcome.reason, outcome.fault, outcome.place) == (
            Reason.BAD_APPROVAL,
            FAULT.DUPLICATE_KEY,
            place,
        )


def test_more_than_the_threshold_are_refused_unread() -> None:
    """Three where two are needed, whatever they hold."""
    for surplus in (encoded_statements("ann", "bob", "cas"), [b"", b"", b""]):
        outcome = judged(surplus)
        assert (outcome.reason, outcome.fault) == (Reason.BAD_APPROVAL, FAULT.TOO_MANY)


def test_an_approval_is_used_up_once() -> None:
    """A used-up id is refused with the request and ignored in the state."""
    used = id16("approval")
    spent = held("ann", "bob", status=ApprovalStatus.GRANTED)

    assert judged(encoded_statements("ann", "bob"), used=used).fault == FAULT.USED_UP
    assert judged(encoded_statements("ann", "bob"), spent, used=used).fault == FAULT.USED_UP
    assert judged([], spent, used=used).reason is Reason.APPROVAL_REQUIRED
    assert judged([], replace(spent, status=ApprovalStatus.USED)).reason is Reason.APPROVAL_REQUIRED


def test_a_denial_outweighs_another_request_for_the_same() -> None:
    """Wherever it stands among what is held."""
    denied = replace(held(status=ApprovalStatus.DENIED), id=id16("denied"))
    granted = held("ann", "bob", status=ApprovalStatus.GRANTED)

    assert judged([], granted, denied).reason is Reason.APPROVAL_DENIED
    assert judged([], denied, granted).reason is Reason.APPROVAL_DENIED


@pytest.mark.parametrize(
    "changes",
    [
        {"session_id": id16("another")},
        {"block_id": digest(b"another")},
        {"block": 1},
        {"scope": 0},
        {"epoch": 2},
        {"request_digest": digest(b"another")},
        {"threshold": 1},
        {"expires_at_ms": NOW},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_held_of_other_terms_is_left_aside(changes: dict[str, Any]) -> None:
    """A record that differs in one term says nothing of this call."""
    other = replace(held("ann", "bob", status=ApprovalStatus.GRANTED), **changes)

    assert judged([], other).reason is Reason.APPROVAL_REQUIRED


def test_a_threshold_of_nothing_is_never_met() -> None:
    """A scope can't state one; whoever asks so gets no yes."""
    assert not judged([], threshold=0)
    assert not judged(encoded_statements("ann"), threshold=0)


def test_only_allowed_is_a_yes() -> None:
    """``bool`` of an outcome is true for that reason alone."""
    assert [reason for reason in Reason if ApprovalOutcome(reason)] == [Reason.ALLOWED]


def test_records_survive_their_bytes() -> None:
    """Encoding and decoding gives the same record, its statements too."""
    kept = held("ann", "bob", status=ApprovalStatus.DENIED, denied_by="cas", reason="not on friday")

    assert ApprovalRecord.decode(kept.encode()) == kept
    assert SignedApproval.decode(signed().encode()) == signed()


def test_the_text_form_says_what_is_wrong_with_it() -> None:
    """A whole text gives the same approval; a cut, a damaged and a foreign one are told apart."""
    text = signed().text
    assert SignedApproval.from_text(text) == signed()

    for wrong, told in (
        (text[:-3], "truncated"),
        (text[:40] + ("A" if text[40] != "A" else "B") + text[41:], "damaged"),
        ("sessauth_token_" + text, "not an approval"),
        ("", "not an approval"),
    ):
        with pytest.raises(InvalidApproval, match=told):
            SignedApproval.from_text(wrong)


def test_no_message_repeats_what_was_signed() -> None:
    """A refusal names the fault and holds neither key nor signature."""
    with pytest.raises(InvalidApproval) as refused:
        check_statement(signed("dan"), terms(), NOW + HOUR_MS)

    assert signed("dan").public_key.hex() not in str(refused.value)
    assert "signed" in str(refused.value)
