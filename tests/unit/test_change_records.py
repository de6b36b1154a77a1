"""Changes, outcomes, sessions and keys as records: there and back, and what their digests cover."""

from __future__ import annotations

import base64
from dataclasses import replace
from decimal import Decimal, localcontext

import pytest

from sessauth._fast._check import WireError, decode_message, encode_message
from sessauth.audit.recording.change_follower import recorded_body
from sessauth.crypto.keys import KeyRecord, KeyStatus
from sessauth.errors import Rejected, ScopeError, UsageError
from sessauth.model.approval import ApprovalRecord
from sessauth.model.change import (
    Change,
    ChangeKind,
    ChangeOutcome,
    Head,
    Rejection,
    Settlement,
    add_credential,
    add_key,
    answer_approval,
    ban_sessions,
    cut_logins,
    end_session,
    narrow_session,
    new_incarnation,
    open_session,
    purge_session,
    remove_credential,
    request_approval,
    resume_session,
    retry_change_id,
    revoke,
    set_key_status,
    settle_permit,
    suspend_session,
    update_facts,
)
from sessauth.model.session import EndCause, Fact, Session, SessionSelector, SessionStatus
from sessauth.scopes.value import Number
from tests.support.approvals import SPENDING, record
from tests.support.changes import scopes
from tests.support.costs import charge, pending_record, signing, spending, use

ID = b"s" * 16
OF_EACH_KIND = [
    open_session(
        "1", ID, scopes("read:a/**"), subject="x", ttl_ms=5, facts=[Fact("a", 1)], labels={"k": "v"}
    ),
    narrow_session("2", ID, scopes("read:a/b"), expected_epoch=3),
    update_facts("3", ID, set_facts=[Fact("a", Decimal("-0.5"), True)], remove=["b"]),
    suspend_session("4", ID, "why", actor="me"),
    resume_session("5", ID),
    end_session("6", ID, cause=EndCause.EXPIRED),
    revoke("7", ID, [b"b" * 32]),
    add_key("8", b"k" * 32, owner="svc"),
    set_key_status("9", b"k" * 32, KeyStatus.RETIRED),
    purge_session("10", ID),
    new_incarnation("11", b"i" * 16, 7),
    spending(
        ID, "12", uses=[use(3)], budgets=[charge(1, 5)], approval_ids=[b"a" * 16],
        permit_id=b"p" * 16, permit_deadline_ms=7,
    ),
    settle_permit("13", ID, b"p" * 16, Settlement.COMMIT, gateway="svc"),
    request_approval("14", pending_record(ID, b"a" * 16)),
    answer_approval("15", ID, b"a" * 16, statement=signing(pending_record(ID, b"a" * 16))),
    add_credential("16", "gw-1", "gateway", b"h" * 32, audiences=["a", "b"], actor="me"),
    remove_credential("17", "gw-1"),
    cut_logins("19", "https://idp", {"up_to_ms": 5, "disabled_ms": 4}, 6, "why", subject="s", actor="me"),
    ban_sessions("18", SessionSelector("a", "b", (("k", "v"),)), 5, "why", actor="me"),
]  # fmt: skip


def test_every_kind_has_a_builder() -> None:
    """The builders above cover the kinds, and the kinds are the members of the message."""
    assert {change.kind for change in OF_EACH_KIND} == set(ChangeKind)
    empty = decode_message("Change", encode_message("Change", {"format": 1}))
    assert {name for name, value in empty.items() if value is None} == {kind.value for kind in ChangeKind}


@pytest.mark.parametrize("change", OF_EACH_KIND, ids=lambda change: change.kind.name)
def test_a_change_reads_back(change: Change) -> None:
    """An encoded change decodes to one with the same bytes and digest."""
    stamped = change.stamped(99)
    again = Change.decode(stamped.encode())
    assert (again.kind, again.id, again.at_ms) == (change.kind, change.id, 99)
    assert again.encode() == stamped.encode()
    assert again.digest() == change.digest()


def test_a_consumption_s_digest_covers_who_asks_what() -> None:
    """A retry may change costs, epoch and permit, but not gateway, session, token or request."""
    first = spending(ID, retry_change_id("svc", b"1"))
    same = [
        spending(ID, first.id, uses=[use(3)], expected_epoch=9),
        spending(ID, first.id, permit_id=b"p" * 16, permit_deadline_ms=7),
        replace(first, actor="other", at_ms=5),
    ]
    others = [
        spending(ID, first.id, gateway="other"),
        spending(ID, first.id, token_digest=b"o" * 32),
        spending(ID, first.id, request_digest=b"o" * 32),
        spending(b"t" * 16, first.id),
        spending(ID, "other"),
    ]
    assert {change.digest() for change in same} == {first.digest()}
    assert len({change.digest() for change in (first, *others)}) == 6


def test_a_digest_covers_content_and_not_the_clock() -> None:
    """Every field moves it but the clock and, for an open, the id that was made for it."""
    opening, ending = OF_EACH_KIND[0], OF_EACH_KIND[5]
    assert opening.stamped(5).digest() == replace(opening, session_id=b"t" * 16).digest() == opening.digest()
    assert replace(ending, session_id=b"t" * 16).digest() != ending.digest()
    others = {
        replace(ending, id="other").digest(),
        replace(ending, actor="other").digest(),
        replace(ending, expected_epoch=1).digest(),
        replace(ending, body={"reason": "other", "cause": 3}).digest(),
    }
    assert len(others | {ending.digest()}) == 5


def test_a_change_without_a_known_body_is_refused() -> None:
    """A record of a kind that this version does not know is an error, never an empty change."""
    with pytest.raises(WireError, match="body"):
        Change.decode(encode_message("Change", {"format": 1, "id": "x"}))


def test_an_outcome_raises_its_rejection() -> None:
    """A rejected outcome raises its word; an applied one returns itself."""
    applied = ChangeOutcome("1", revision=4, session_id=ID, epoch=2)
    assert ChangeOutcome.decode(applied.encode()) == applied.raise_if_rejected()
    rejected = ChangeOutcome("1", rejection=Rejection.LIMIT.value, detail="too many")
    with pytest.raises(Rejected, match="LIMIT: too many") as caught:
        rejected.raise_if_rejected()
    assert caught.value.word == "LIMIT"


def test_a_session_reads_back() -> None:
    """All fields of a session survive encoding; the lease deadline comes from its own row."""
    session = Session(
        ID, "agent", "ticket", "svc", b"p" * 16, SessionStatus.SUSPENDED, 7,
        (tuple(scopes("read:a/**")), tuple(scopes("read:a/b", "write:a/c"))),
        (Fact("a", Number(1, 500_000_000), True), Fact("b", "x"), Fact("c", False)),
        {"k": "v", "team": ""}, 10, 20, 5, (b"k" * 32,), 3, 0, EndCause.UNSPECIFIED, "why", 9, 15,
    )  # fmt: skip
    again = Session.decode(session.encode(), 15)
    assert again.encode() == session.encode()
    assert (again.facts, again.labels, again.issuer_key_ids) == (
        session.facts, session.labels, session.issuer_key_ids,
    )  # fmt: skip
    assert [len(layer) for layer in again.ceilings] == [1, 2]
    assert (again.lease_deadline_ms, again.ends_at_ms()) == (15, 15)
    assert replace(session, lease_ms=0).ends_at_ms() == 20


def test_facts_are_exact_whatever_the_decimal_context() -> None:
    """A number of 19 digits and 9 places is kept to the last digit in a thread that rounds to three."""
    value = Decimal("9223372036854775807.999999999")
    with localcontext() as context:
        context.prec = 3
        record = Fact("a", value).to_record()
        assert Fact.from_record(record).value == Number(2**63 - 1, 999_999_999)


@pytest.mark.parametrize("value", [1.5, None, Decimal("1e-10"), Decimal("NaN"), 2**63, b"x"])
def test_a_fact_is_a_value_of_the_format(value: object) -> None:
    """Floats, bytes, and numbers that are no value of the format are refused."""
    with pytest.raises(ScopeError):
        Fact("a", value).to_record()  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        Fact.from_record({"name": "a", "value": None})


def test_heads_and_keys_read_back() -> None:
    """A head and a key survive encoding."""
    head = Head(1, 1, b"c" * 16, b"i" * 16, 5, 6, 7, 8, b"d" * 32)
    assert Head.decode(head.encode()) == head
    key = KeyRecord(b"k" * 32, b"p" * 32, KeyStatus.RETIRED, "svc", 1, 2, 3, 0, 4)
    assert KeyRecord.decode(key.encode()) == key


def test_no_value_of_an_approval_is_recorded() -> None:
    """The audit has the call's scope, and neither its arguments nor the amounts that they charge."""
    change = request_approval("1", record(**SPENDING)).stamped(1)
    recorded = Change.decode(base64.b64decode(recorded_body(change, change.encode())))

    asked = ApprovalRecord.from_record(dict(recorded.body["approval"]))  # type: ignore[call-overload]
    assert asked == record(scope_text="deploy:prod/**", arguments=b"")
