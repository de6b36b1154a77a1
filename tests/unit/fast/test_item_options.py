"""Approvals, retry ids and permits in requests; decisions of the writer in the place of what was found."""

from __future__ import annotations

from typing import Any

import pytest

from sessauth._fast._codec import CheckMessage
from sessauth.reasons import Level, Reason, Stage
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import record_pb2
from tests.support import bulk_sessions
from tests.support.decision_fields import by_message, by_object, without_time
from tests.support.raw_requests import LENGTH, encode, length_delimited
from tests.support.wire_requests import COSTLY, JUDGE, PLAIN, decisions_of, item
from tests.vectors.world import AUDIENCE, NOW, root, token

BOUND = token(root("read:files/**"), last="bound")


class Paid:
    """Pays for everything."""

    def charge(self, claims: Any) -> int:
        """Say that it is paid."""
        return 0


def asking(*items: bytes, kind: str = "batch") -> CheckMessage:
    """Return a judged request of these items."""
    number = 2 if kind in ("stream", "commit") else 1
    asked = CheckMessage(JUDGE, encode([(number, LENGTH, length_delimited(each)) for each in items]), kind)
    asked.judge(AUDIENCE, now_ms=NOW)
    return asked


def answered(asked: CheckMessage, kind: str = "batch") -> list[Any]:
    """The decisions of its answer, after holding that protobuf writes the same bytes."""
    data = asked.answer(lambda decision, data: f"{decision.reason.name} {len(data)}")
    message = {"batch": pb.CheckBatchResponse, "stream": pb.CheckStreamResponse}.get(kind, pb.CheckResponse)
    assert message.FromString(data).SerializeToString(deterministic=True) == data
    return decisions_of(kind, data)


def where(decision: Any) -> tuple[object, ...]:
    """Return the reason and the position of a denial."""
    return decision.reason, decision.stage, decision.level, decision.index, decision.scope


def test_a_permit_is_nothing_that_a_check_can_give() -> None:
    """A call that asks for a permit is not allowed without one; one that is denied is denied as before."""
    asked = asking(
        item(permit_ms=1),
        item(permit_ms=0),
        item(permit_ms=1, action=b"write"),
        item(permit_ms=1, token=COSTLY),
        item(permit_ms=1, token=b""),
    )

    assert [where(decision) for decision in asked] == [
        (Reason.NEEDS_SERVER, Stage.NEEDS, Level.NONE, -1, -1),
        (Reason.ALLOWED, Stage.NONE, Level.NONE, -1, -1),
        (Reason.OUT_OF_SCOPE, Stage.SCOPE, Level.BLOCK, 0, -1),
        (Reason.APPROVAL_REQUIRED, Stage.NEEDS, Level.BLOCK, 0, 0),
        (Reason.MALFORMED_TOKEN, Stage.DECODE, Level.NONE, -1, -1),
    ]
    assert [asked.wants_writer(at) for at in range(5)] == [True, False, False, True, False]


def test_a_retry_id_alone_costs_nothing() -> None:
    """A call that costs nothing is allowed here under any name; what costs something wants the writer."""
    asked = asking(item(retry_id=b"a"), item(retry_id=b"a", token=COSTLY))

    assert [asked.wants_writer(at) for at in range(2)] == [False, True]
    assert asked[0].allowed
    assert not asked[1].allowed


def test_a_retry_id_and_a_proof_want_the_writer() -> None:
    """A proof counts once, so asking again about a bound call is for the writer; another token's is not."""
    data = encode(
        [
            (1, LENGTH, length_delimited(each))
            for each in (item(token=BOUND), item(token=BOUND, retry_id=b"a"), item(retry_id=b"a"))
        ]
    )
    asked = CheckMessage(JUDGE, data, "batch")
    asked.judge(AUDIENCE, now_ms=NOW)
    assert [decision.reason for decision in asked][:2] == [Reason.PROOF_REQUIRED] * 2
    asked.judge(AUDIENCE, now_ms=NOW, skip_proof=True)

    assert [where(decision)[:3] for decision in asked] == [
        (Reason.ALLOWED, Stage.NONE, Level.NONE),
        (Reason.NEEDS_SERVER, Stage.NEEDS, Level.NONE),
        (Reason.ALLOWED, Stage.NONE, Level.NONE),
    ]
    assert [asked.wants_writer(at) for at in range(3)] == [False, True, False]


def test_a_decision_in_an_items_place() -> None:
    """The writer's decision is the response, id included, and the item's decision."""
    asked = asking(item(token=COSTLY), item(token=COSTLY), item(token=b""), item())
    checker = bulk_sessions.checker()
    paid = bulk_sessions.judge(checker, COSTLY, cost_handler=Paid())
    denied = bulk_sessions.judge(checker, token(root("read:logs", 'read:files/** where "größe" == 1')))
    before = asked[3]
    asked.override(0, paid)
    asked.override(1, denied)
    asked.override(2, paid)

    answers = answered(asked)
    assert [asked[0], asked[-3], asked[2]] == [paid, denied, paid]
    assert asked[:2] == [paid, denied]
    for answer, decision in zip(answers, [paid, denied, paid, before], strict=True):
        assert answer.decision_id == decision.decision_id
        assert by_message(answer) == without_time(by_object(decision))
    assert answers[1].failed.argument == "größe"
    assert [answer.explanation for answer in answers] == ["", f"CONDITION_FAILED {len(COSTLY)}", "", ""]
    assert [asked.wants_writer(at) for at in range(4)] == [False] * 4
    assert not asked.all_allowed
    asked.override(1, paid)
    assert asked.all_allowed
    assert len({answer.decision_id for answer in answered(asked)}) == 2


def test_a_refusal_in_an_items_place() -> None:
    """A decision that knows of no chain tells nothing of the token, though the item's chain is known."""
    asked = asking(item())
    refusal = bulk_sessions.checker().refuse(Stage.NEEDS, Reason.NEEDS_SERVER)
    asked.override(0, refusal)

    (answer,) = answered(asked)
    assert (answer.allowed, answer.session_id, list(answer.block_ids)) == (False, b"", [])
    assert answer.decision_id == refusal.decision_id


def test_judged_again_nothing_is_left_of_the_writer() -> None:
    """A second judging takes back what was put in the items' place, of those that it judges."""
    asked = asking(item(token=COSTLY), item(token=COSTLY))
    paid = bulk_sessions.judge(bulk_sessions.checker(), COSTLY, cost_handler=Paid())
    for at in range(2):
        asked.override(at, paid)
        asked.attach(at, pb.Decision(permit=b"p").SerializeToString())
    asked.judge(AUDIENCE, None, 0, 1, now_ms=NOW)

    first, second = answered(asked)
    assert (first.allowed, first.permit) == (False, b"")
    assert (second.allowed, second.permit) == (True, b"p")


@pytest.mark.parametrize("kind", ["check", "batch", "stream"])
@pytest.mark.parametrize("size", [0, 1, 100, 200, 20_000])
def test_fields_beside_an_answer(kind: str, size: int) -> None:
    """Permit, deadline and approval are written as protobuf writes them, beside a yes or a no."""
    more = pb.Decision(
        permit=b"p" * 32,
        permit_expires_at_ms=NOW + 1,
        approval=record_pb2.ApprovalRecord(id=b"a" * 16, arguments=b"x" * size),
    )
    for each in (item(), item(token=COSTLY)):
        asked = asking(each, kind=kind)
        asked.attach(0, b"")
        (plain,) = answered(asked, kind)
        asked.attach(0, more.SerializeToString())
        (answer,) = answered(asked, kind)
        assert (answer.permit, answer.permit_expires_at_ms) == (more.permit, NOW + 1)
        assert answer.approval == more.approval
        plain.MergeFrom(more)
        assert answer == plain


@pytest.mark.parametrize(
    "wrong",
    [
        pb.Decision(explanation="x").SerializeToString(),
        pb.Decision(allowed=True).SerializeToString(),
        pb.Decision(permit=b"p").SerializeToString() * 2,
        pb.Decision(permit_expires_at_ms=1).SerializeToString()
        + pb.Decision(permit=b"p").SerializeToString(),
        pb.Decision(permit=b"p").SerializeToString()[:-1],
        encode([(17, LENGTH, length_delimited(b"x"))]),
        b"\x00",
    ],
)
def test_nothing_else_can_be_added(wrong: bytes) -> None:
    """Bytes that are no such fields are refused, so that no answer can be said twice."""
    asked = asking(item())
    with pytest.raises(ValueError, match="14 to 16"):
        asked.attach(0, wrong)
    assert answered(asked)[0].allowed


def test_an_item_that_is_none() -> None:
    """Every look at an item outside raises IndexError; so does putting something there."""
    asked = asking(item(token=COSTLY))
    paid = bulk_sessions.judge(bulk_sessions.checker(), COSTLY, cost_handler=Paid())
    looks = (asked.approvals, asked.approval_count, asked.retry_id, asked.permit_ms, asked.wants_writer)
    for look in (*looks, asked.call, lambda at: asked.override(at, paid), lambda at: asked.attach(at, b"")):
        for outside in (-1, 1, 2**40):
            with pytest.raises(IndexError):
                look(outside)
    for nothing in (None, object(), pb.Decision()):
        with pytest.raises(TypeError):
            asked.override(0, nothing)  # type: ignore[arg-type]
    assert not asked[0].allowed


@pytest.mark.parametrize(
    ("field", "most"), [("approvals", [b"a"] * 16), ("retry_id", b"r" * 64), ("permit_ms", 300_000)]
)
def test_the_most_that_is_taken(field: str, most: Any) -> None:
    """One more than the limit is not well-formed, in any item, and is not judged."""
    more = most + 1 if isinstance(most, int) else most + most[:1]
    for value, formed in ((most, True), (more, False)):
        data = encode(
            [(1, LENGTH, length_delimited(each)) for each in (item(), item(**{field: value}), item())]
        )
        asked = CheckMessage(JUDGE, data, "batch")
        assert asked.well_formed() is formed
        if not formed:
            with pytest.raises(ValueError, match="well-formed"):
                asked.judge(AUDIENCE)


def test_what_a_commit_states() -> None:
    """Permit, item, audience and revision are read, and the answer is a CommitResponse."""
    request = pb.CommitRequest(permit=b"p" * 32, audience=AUDIENCE, at_least_revision=7)
    request.item.ParseFromString(item(retry_id=b"again", approvals=[b"x", b""]))
    asked = CheckMessage(JUDGE, request.SerializeToString(), "commit")
    asked.judge(asked.audience, now_ms=NOW)

    assert (asked.permit, asked.audience, asked.at_least_revision) == (b"p" * 32, AUDIENCE, 7)
    assert (asked.retry_id(0), asked.approvals(0), asked.permit_ms(0)) == (b"again", (b"x", b""), 0)
    assert asked.call(0)[:3] == (PLAIN, b"read", b"files/a")
    assert pb.CommitResponse.FromString(asked.answer(lambda decision, data: "")).decision.allowed


def test_what_a_stream_watches() -> None:
    """A stream's request may ask to be told when its allow is over; no other message can."""
    for watch in (False, True):
        request = pb.CheckStreamRequest(id=3, watch=watch)
        request.item.ParseFromString(item())
        assert CheckMessage(JUDGE, request.SerializeToString(), "stream").watch is watch
        assert CheckMessage(JUDGE, request.SerializeToString(), "commit").watch is False
