"""The rules of approvals, judged without a disk: asked for once, answered by the right keys, used once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sessauth import limits
from sessauth.model.approval import ApprovalRecord, ApprovalStatus, SignedApproval
from sessauth.model.change import (
    ChangeOutcome,
    SessionCounts,
    answer_approval,
    end_session,
    expire_approval,
    narrow_session,
    request_approval,
    suspend_session,
)
from sessauth.state import layout
from tests.support.changes import HOUR, NOW, MemoryRows, opening, scopes
from tests.support.costs import BLOCK, GATEWAY, KEYS, REQUEST, pending_record, signing, spending

ID = b"s" * 16
ASKED = b"a" * 16


def live(**given: Any) -> MemoryRows:
    """Return rows with one session that lives for two days."""
    rows = MemoryRows()
    assert rows.do(opening("open", ID, ttl_ms=48 * HOUR, **given)).applied
    return rows


def request(rows: MemoryRows, approval_id: bytes = ASKED, **given: Any) -> ApprovalRecord:
    """Ask for an approval, which must succeed; returns its record as it is kept."""
    assert rows.do(request_approval("ask", pending_record(ID, approval_id, **given))).applied
    record = rows.approval(ID, approval_id)
    assert record is not None
    return record


def answered(
    rows: MemoryRows, statement: SignedApproval | None, at_ms: int = NOW, **given: Any
) -> ChangeOutcome:
    """Answer the approval with a statement, or without one."""
    return rows.do(answer_approval("answer", ID, ASKED, statement=statement, actor="alice", **given), at_ms)


def found(rows: MemoryRows) -> ApprovalRecord:
    """Return the approval as it is kept."""
    record = rows.approval(ID, ASKED)
    assert record is not None
    return record


def lookup(rows: MemoryRows, epoch: int = 1) -> ApprovalRecord | None:
    """Return what is found by the call."""
    return rows.requested_approval(ID, BLOCK, 0, 0, epoch, REQUEST)


def test_a_request_is_kept_and_found_by_its_call() -> None:
    """The record waits with the writer's times and revision; it is found by its call and no other."""
    rows = live()
    record = request(rows, requested_at_ms=5)
    assert (record.status, record.requested_at_ms, record.revision) == (ApprovalStatus.PENDING, NOW, 2)
    assert record.expires_at_ms == NOW + limits.APPROVAL_TTL_MS
    assert rows.counts(ID) == SessionCounts(open_approvals=1, approvals_epoch=1)
    assert lookup(rows) == record and lookup(rows, epoch=2) is None
    for other in (
        (BLOCK, 1, 0, 1, REQUEST),
        (BLOCK, 0, 1, 1, REQUEST),
        (b"c" * 32, 0, 0, 1, REQUEST),
        (BLOCK, 0, 0, 1, BLOCK),
    ):
        assert rows.requested_approval(ID, *other) is None


def test_a_request_never_outlives_its_session() -> None:
    """It expires with the session's hard end, if that is sooner than a day and than what was asked."""
    rows = MemoryRows()
    assert rows.do(opening("open", ID, ttl_ms=5_000)).applied
    assert request(rows).expires_at_ms == NOW + 5_000
    assert request(live(), expires_at_ms=NOW + 7).expires_at_ms == NOW + 7


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"block_id": b"short"}, "INVALID"),
        ({"request_digest": b""}, "INVALID"),
        ({"block": limits.MAX_BLOCKS}, "INVALID"),
        ({"scope": limits.MAX_SCOPES}, "INVALID"),
        ({"epoch": 2}, "EPOCH_MISMATCH"),
        ({"keys": ()}, "INVALID"),
        ({"keys": KEYS[:1] * 2}, "INVALID"),
        ({"keys": (KEYS[0], KEYS[1], b"short")}, "INVALID"),
        ({"threshold": 0}, "INVALID"),
        ({"threshold": 4}, "INVALID"),
        ({"action": ""}, "INVALID"),
        ({"resource": "a\nb"}, "INVALID"),
        ({"resource": "r" * 1025}, "INVALID"),
        ({"arguments": b"x" * (limits.MAX_APPROVAL_ARGUMENT_BYTES + 1)}, "LIMIT"),
        ({"labels": ("x",) * 17}, "LIMIT"),
        ({"labels": ("\x1b[2J",)}, "INVALID"),
        ({"gateway": ""}, "INVALID"),
        ({"status": ApprovalStatus.GRANTED}, "INVALID"),
        ({"denied_by": "me"}, "INVALID"),
        ({"expires_at_ms": NOW}, "INVALID"),
        ({"expires_at_ms": NOW + limits.APPROVAL_TTL_MS + 1}, "INVALID"),
    ],
)
def test_a_request_against_the_form_is_refused(fields: dict[str, Any], word: str) -> None:
    """A record that no call could have asked for is refused, and nothing is written."""
    rows = live()
    assert rows.do(request_approval("ask", pending_record(ID, ASKED, **fields))).rejection == word
    assert not rows.tables[layout.APPROVALS] and not rows.tables[layout.COUNTERS]


def test_a_request_can_t_bring_its_answer() -> None:
    """A record with statements in it is refused, however well they are signed."""
    record = pending_record(ID, ASKED)
    signed = replace(record, statements=(signing(record, 0), signing(record, 1)))
    assert live().do(request_approval("ask", signed)).rejection == "INVALID"


def test_a_call_is_asked_for_once() -> None:
    """The same call waits once, and an id is taken once; after its expiry it can be asked for anew."""
    rows = live()
    expiry = request(rows).expires_at_ms
    again = request_approval("again", pending_record(ID, b"n" * 16))
    assert rows.do(again).rejection == "ALREADY_EXISTS"
    assert rows.do(request_approval("x", pending_record(ID, ASKED, scope=1))).rejection == "ALREADY_EXISTS"
    assert rows.do(again, expiry - 1).rejection == "ALREADY_EXISTS"
    assert rows.do(again, expiry).applied
    assert rows.approval(ID, ASKED) is None and rows.counts(ID).open_approvals == 1
    record = lookup(rows)
    assert record is not None and record.id == b"n" * 16


def test_approvals_that_wait_are_bounded_by_epoch() -> None:
    """64 wait at most; those of an epoch that is over wait no more, without anything being walked."""
    rows = live()
    for number in range(limits.MAX_OPEN_APPROVALS):
        request(rows, number.to_bytes(16, "big"), request_digest=number.to_bytes(32, "big"))
    assert rows.do(request_approval("x", pending_record(ID, ASKED))).rejection == "LIMIT"
    assert rows.do(narrow_session("n", ID, scopes("read:files/a/**"))).applied
    assert rows.counts(ID).waiting(2) == 0
    request(rows, epoch=2)
    assert rows.counts(ID).waiting(2) == 1


def test_enough_keys_grant() -> None:
    """Two of three keys make it GRANTED; it waits no more, and takes no third."""
    rows = live()
    record = request(rows)
    assert answered(rows, signing(record, 0)).applied
    assert (found(rows).status, rows.counts(ID).open_approvals) == (ApprovalStatus.PENDING, 1)
    assert answered(rows, signing(record, 2)).applied
    assert (found(rows).status, rows.counts(ID).open_approvals) == (ApprovalStatus.GRANTED, 0)
    assert [each.public_key for each in found(rows).statements] == [KEYS[0], KEYS[2]]
    assert answered(rows, signing(record, 1)).rejection == "WRONG_STATUS"


def test_a_statement_that_does_not_count_is_refused() -> None:
    """Another's key, a second one by the same key, a wrong signature, other terms, too late: all refused."""
    rows = live()
    record = request(rows)
    assert answered(rows, signing(record, 0)).applied
    good = signing(record, 1)
    for wrong in (
        signing(record, 3),
        signing(record, 0),
        replace(good, signature=bytes(64)),
        replace(good, statement=good.statement + b"\0"),
        signing(record, 1, id=b"n" * 16),
        signing(record, 1, session_id=b"o" * 16),
        signing(record, 1, block_id=b"c" * 32),
        signing(record, 1, block=1),
        signing(record, 1, scope=1),
        signing(record, 1, epoch=2),
        signing(record, 1, request_digest=b"o" * 32),
        signing(record, 1, expires_at_ms=NOW),
    ):
        assert answered(rows, wrong).rejection == "BAD_APPROVAL"
    assert len(found(rows).statements) == 1
    assert answered(rows, good).applied


def test_a_key_of_small_order_signs_nothing() -> None:
    """A scope may name one, and whatever is signed by it does not count."""
    rows = live()
    record = request(rows, keys=(KEYS[0], bytes(32)))
    forged = replace(signing(record, 0), public_key=bytes(32))
    assert answered(rows, forged).rejection == "BAD_APPROVAL"
    assert answered(rows, signing(record, 0)).applied


def test_a_statement_that_expired_makes_room() -> None:
    """An approval whose statements ran out is not stuck: the same key may sign again."""
    rows = live()
    record = request(rows, threshold=1)
    assert answered(rows, signing(record, 0, expires_at_ms=NOW + 10)).applied
    assert answered(rows, signing(record, 0), NOW + 9).rejection == "WRONG_STATUS"
    assert answered(rows, signing(record, 0), NOW + 10).applied
    assert len(found(rows).statements) == 1 and found(rows).status is ApprovalStatus.GRANTED


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_denial_stands(before: int) -> None:
    """However many signed before, it is DENIED, says by whom and why, and is not answered again."""
    rows = live()
    record = request(rows)
    for signer in range(before):
        assert answered(rows, signing(record, signer)).applied
    assert answered(rows, None, deny=True, reason="not on a Friday").applied
    denied = found(rows)
    assert (denied.status, denied.denied_by, denied.reason) == (
        ApprovalStatus.DENIED, "alice", "not on a Friday",
    )  # fmt: skip
    assert rows.counts(ID).open_approvals == 0 and lookup(rows) == denied
    assert answered(rows, signing(record, 2)).rejection == "WRONG_STATUS"
    assert answered(rows, None, deny=True).rejection == "WRONG_STATUS"
    paying = spending(ID, approval_ids=[ASKED])
    assert rows.do(paying, denied.expires_at_ms - 1).rejection == "APPROVAL_DENIED"
    assert rows.do(paying, denied.expires_at_ms).applied


def test_an_answer_is_one_thing() -> None:
    """Neither nothing nor two answers at once are taken, and an approval that is none is not found."""
    rows = live()
    record = request(rows)
    assert answered(rows, None).rejection == "INVALID"
    assert answered(rows, signing(record, 0), deny=True).rejection == "INVALID"
    assert rows.do(answer_approval("x", ID, b"n" * 16, deny=True)).rejection == "NOT_FOUND"


@pytest.mark.parametrize(
    ("how", "word"),
    [("narrowed", "EPOCH_MISMATCH"), ("suspended", "EPOCH_MISMATCH"), ("ended", "ALREADY_ENDED"),
     ("expired", "WRONG_STATUS"), ("parent ended", "ALREADY_ENDED")],
)  # fmt: skip
def test_an_approval_dies_with_what_it_was_asked_for(how: str, word: str) -> None:
    """It is neither granted nor denied after a new epoch, the session's end or purge, or its expiry."""
    rows = MemoryRows()
    assert rows.do(opening("p", b"p" * 16, ttl_ms=48 * HOUR)).applied
    assert rows.do(opening("o", ID, parent_id=b"p" * 16, ttl_ms=48 * HOUR)).applied
    record = request(rows)
    changes = {
        "narrowed": narrow_session("n", ID, scopes("read:files/a/**")),
        "suspended": suspend_session("s", ID),
        "ended": end_session("e", ID),
        "parent ended": end_session("e", b"p" * 16),
    }
    if how in changes:
        assert rows.do(changes[how]).applied
    at_ms = record.expires_at_ms if how == "expired" else NOW
    assert answered(rows, signing(record, 0), at_ms).rejection == word
    assert answered(rows, None, at_ms, deny=True).rejection == word


@pytest.mark.parametrize("signers", [0, 2])
def test_an_approval_is_used_up_once(signers: int) -> None:
    """The call that it allows uses it up, also where statements came with the request; no other has it."""
    rows = live()
    record = request(rows)
    for signer in range(signers):
        assert answered(rows, signing(record, signer)).applied
    assert rows.do(spending(ID, approval_ids=[ASKED])).applied
    assert found(rows).status is ApprovalStatus.USED and rows.approval_used(ID, ASKED)
    assert rows.counts(ID).open_approvals == 0 and lookup(rows) is None
    assert rows.do(spending(ID, approval_ids=[ASKED])).rejection == "APPROVAL_USED"
    assert answered(rows, signing(record, 1)).rejection == "WRONG_STATUS"
    assert rows.do(request_approval("x", pending_record(ID, ASKED))).rejection == "ALREADY_EXISTS"
    request(rows, b"n" * 16)


def test_an_approval_is_used_for_its_own_call() -> None:
    """Another request does not use it up, nor does the same one at another epoch."""
    rows = live()
    request(rows)
    assert rows.do(spending(ID, approval_ids=[ASKED], request_digest=b"o" * 32)).rejection == "BAD_APPROVAL"
    assert rows.do(narrow_session("n", ID, scopes("read:files/a/**"))).applied
    assert rows.do(spending(ID, approval_ids=[ASKED], expected_epoch=2)).rejection == "BAD_APPROVAL"


@pytest.mark.parametrize("how", ["waits", "granted", "denied", "used", "of an old epoch", "ended"])
def test_an_approval_goes_past_its_expiry(how: str) -> None:
    """The log removes it, whatever became of it; that it was used up stays known, and the counts add up."""
    rows = live()
    record = request(rows)
    if how == "granted":
        assert answered(rows, signing(record, 0)).applied and answered(rows, signing(record, 1)).applied
    elif how == "denied":
        assert answered(rows, None, deny=True).applied
    elif how == "used":
        assert rows.do(spending(ID, approval_ids=[ASKED])).applied
    elif how == "of an old epoch":
        assert rows.do(narrow_session("n", ID, scopes("read:files/a/**"))).applied
        request(rows, b"n" * 16, epoch=2, expires_at_ms=NOW + HOUR)
    elif how == "ended":
        assert rows.do(end_session("e", ID)).applied
    early = expire_approval("x", ID, ASKED, actor=layout.SYSTEM_ACTOR)
    assert rows.do(early, record.expires_at_ms - 1).rejection == "INVALID"
    assert (
        rows.do(expire_approval("x", ID, ASKED, actor=GATEWAY), record.expires_at_ms).rejection == "INVALID"
    )
    assert rows.do(early, record.expires_at_ms).applied
    assert rows.approval(ID, ASKED) is None and lookup(rows) is None
    assert rows.counts(ID).open_approvals == (1 if how == "of an old epoch" else 0)
    assert rows.approval_used(ID, ASKED) is (how == "used")
