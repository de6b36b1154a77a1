"""Messages of approvals and permits that clients send and read."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import grpc
import pytest

from sessauth import errors
from sessauth.approvals.approver import Approver
from sessauth.approvals.request import ApprovalRequest
from sessauth.client import AsyncClient, CheckItem, Client
from sessauth.clock import FixedClock
from sessauth.model.approval import SignedApproval, check_statement
from sessauth.reasons import Level, Reason, Stage
from sessauth.v1 import approval_service_pb2 as pb
from sessauth.v1 import authorization_service_pb2 as check_pb
from sessauth.v1 import record_pb2
from tests.support.approvals import HOUR_MS, approver, held, record, signed, terms
from tests.vectors.world import NOW

from .conftest import FakeServer, always, failing, in_turn

CHECK = "AuthorizationService/Check"
PERMIT = bytes(range(32))


def message(asked: ApprovalRequest) -> record_pb2.ApprovalRecord:
    """An approval on the wire."""
    return record_pb2.ApprovalRecord.FromString(asked.record.encode())


ASKED = ApprovalRequest(record())


def test_list_sends_every_filter_and_reads_the_page(server: FakeServer, client: Client) -> None:
    """Session, status, key and page go out; records and the next page come in."""
    server.answers["ApprovalService/ListApprovals"] = always(
        pb.ListApprovalsResponse(approvals=[message(ASKED)], next_page_token="more")
    )
    key = approver("ann").public_key

    page = client.list_approvals(
        session_id=bytes(16), status="denied", public_key=key, page_size=7, page_token="from"
    )

    (request,) = server.requests(pb.ListApprovalsRequest)
    assert request == pb.ListApprovalsRequest(
        session_id=bytes(16),
        status=record_pb2.APPROVAL_STATUS_DENIED,
        public_key=key,
        page_size=7,
        page_token="from",
    )
    assert (page.approvals, page.next_page_token) == ((ASKED,), "more")


@pytest.mark.parametrize(
    "given",
    [{"status": "open"}, {"page_size": -1}, {"page_size": 1001}, {"session_id": b"x"}, {"public_key": b"x"}],
    ids=lambda given: next(iter(given)),
)
def test_a_filter_that_can_not_be_is_not_sent(
    server: FakeServer, client: Client, given: dict[str, object]
) -> None:
    """The argument is named before anything is sent."""
    with pytest.raises(errors.UsageError, match=next(iter(given))):
        client.list_approvals(**given)  # type: ignore[arg-type]
    assert server.seen == []


def test_grant_signs_here_what_was_read(server: FakeServer, client: Client) -> None:
    """The client makes the statement of an approver, whose key stays there."""
    server.answers["ApprovalService/GrantApproval"] = always(
        pb.GrantApprovalResponse(approval=message(ApprovalRequest(held("ann"))))
    )
    by = Approver(approver("ann"), FixedClock(NOW))

    granted = client.grant_approval(ASKED, by, ttl_ms=HOUR_MS, request_id="r1")

    (request,) = server.requests(pb.GrantApprovalRequest)
    sent = SignedApproval.decode(request.statement.SerializeToString())
    assert check_statement(sent, terms(), NOW, approval_id=ASKED.record.id).expires_at_ms == NOW + HOUR_MS
    assert (request.request_id, request.session_id, request.approval_id) == (
        "r1",
        ASKED.record.session_id,
        ASKED.record.id,
    )
    assert granted.record.statements == held("ann").statements


def test_grant_sends_nothing_that_must_not_be_signed(server: FakeServer, client: Client) -> None:
    """A record whose digest is not that of its call stays unsigned and unsent."""
    wrong = ApprovalRequest(replace(record(), request_digest=bytes(32)))

    with pytest.raises(errors.InvalidApproval):
        client.grant_approval(wrong, Approver(approver("ann"), FixedClock(NOW)))
    assert server.seen == []


def test_grant_hands_on_what_was_signed_elsewhere(server: FakeServer, client: Client) -> None:
    """A signed approval goes out byte for byte, and a refusal comes back by its word."""
    server.answers["ApprovalService/GrantApproval"] = failing(
        grpc.StatusCode.FAILED_PRECONDITION, "statement: its signature is wrong", "BAD_APPROVAL"
    )

    with pytest.raises(errors.Rejected) as refused:
        client.grant_approval(ASKED, signed("bob"))

    assert refused.value.word == "BAD_APPROVAL"
    (request,) = server.requests(pb.GrantApprovalRequest)
    assert request.statement.SerializeToString() == signed("bob").encode()


def test_deny_says_why(server: FakeServer, client: Client) -> None:
    """The reason travels, and who denied comes back."""
    denied = replace(record(), denied_by="ann", reason="not on friday")
    server.answers["ApprovalService/DenyApproval"] = always(
        pb.DenyApprovalResponse(approval=message(ApprovalRequest(denied)))
    )

    answer = client.deny_approval(ASKED.record.session_id, ASKED.record.id, "not on friday")

    (request,) = server.requests(pb.DenyApprovalRequest)
    assert request.reason == "not on friday"
    assert request.request_id
    assert answer.record.denied_by == "ann"


def test_a_check_carries_what_pays_for_it(server: FakeServer, client: Client) -> None:
    """Approvals, retry id and the wish for a permit stand in fields 11 to 13 of the item."""
    server.answers[CHECK] = always(check_pb.CheckResponse())

    client.check(
        b"token", "deploy", "prod/api", approvals=[signed("ann")], retry_id=b"try 1", permit_ms=60_000
    )

    (request,) = server.requests(check_pb.CheckRequest)
    assert list(request.item.approvals) == [signed("ann").encode()]
    assert (request.item.retry_id, request.item.permit_ms) == (b"try 1", 60_000)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, 2),
        ({"permit_ms": 1000}, 1),
        ({"approvals": [signed("ann")]}, 1),
        ({"permit_ms": 1000, "approvals": [signed("ann")], "retry_id": b"try 1"}, 2),
    ],
    ids=["plain", "permit", "approvals", "retry id"],
)
def test_what_counts_once_is_asked_again_only_under_a_retry_id(
    server: FakeServer, client: Client, given: dict[str, Any], asked: int
) -> None:
    """The first attempt of a lost answer may have used up the approvals, or got the permit."""
    server.answers[CHECK] = in_turn(
        failing(grpc.StatusCode.UNAVAILABLE, "gone"), always(check_pb.CheckResponse())
    )

    with suppress(errors.Unavailable):
        client.check(b"token", "deploy", "prod/api", **given)

    assert len(server.seen) == asked


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("retry_id", {"retry_id": bytes(65)}),
        ("permit_ms", {"permit_ms": 300_001}),
        ("permit_ms", {"permit_ms": -1}),
    ],
)
def test_what_no_server_takes_is_not_sent(
    server: FakeServer, client: Client, name: str, given: dict[str, object]
) -> None:
    """A retry id that is too long and a permit that is too far away are named here."""
    item = CheckItem(b"token", "deploy", "prod/api", **given)  # type: ignore[arg-type]

    with pytest.raises(errors.UsageError, match=name):
        client.check_batch([item])
    assert server.seen == []


def test_a_denial_shows_what_is_to_be_approved(server: FakeServer, client: Client) -> None:
    """APPROVAL_REQUIRED comes with the record; its explanation says how to go on, and names the approval."""
    server.answers[CHECK] = always(
        check_pb.CheckResponse(
            decision=check_pb.Decision(
                reason=check_pb.REASON_APPROVAL_REQUIRED,
                stage=check_pb.STAGE_NEEDS,
                failed=check_pb.Position(level=check_pb.LEVEL_BLOCK, index=0, scope=1, clause=-1),
                approval=message(ASKED),
            )
        )
    )

    decision = client.check(b"token", "deploy", "prod/api")

    assert not decision
    assert (decision.reason, decision.stage, decision.level) == (
        Reason.APPROVAL_REQUIRED,
        Stage.NEEDS,
        Level.BLOCK,
    )
    assert decision.approval == ASKED
    told = decision.explain()
    for part in ("needs an approval", "sessauth approval list", "ask again", ASKED.record.id.hex()):
        assert part in told
    assert decision.to_dict()["approval"] == ASKED.to_dict()


def test_an_approval_that_can_not_be_read_changes_no_decision(server: FakeServer, client: Client) -> None:
    """A status of a later version leaves the denial as it is, without the record."""
    unknown = message(ASKED)
    unknown.status = 77  # type: ignore[assignment]
    server.answers[CHECK] = always(
        check_pb.CheckResponse(
            decision=check_pb.Decision(reason=check_pb.REASON_APPROVAL_REQUIRED, approval=unknown)
        )
    )

    decision = client.check(b"token", "deploy", "prod/api")

    assert (decision.reason, decision.approval) == (Reason.APPROVAL_REQUIRED, None)
    assert not decision


def test_a_permit_is_shown_and_not_in_the_repr(server: FakeServer, client: Client) -> None:
    """The permit stands with its deadline; a printed decision has no permit."""
    server.answers[CHECK] = always(
        check_pb.CheckResponse(
            decision=check_pb.Decision(
                allowed=True,
                reason=check_pb.REASON_ALLOWED,
                permit=PERMIT,
                permit_expires_at_ms=NOW + 60_000,
            )
        )
    )

    decision = client.check(b"token", "deploy", "prod/api", permit_ms=60_000)

    assert (decision.permit, decision.permit_expires_at_ms) == (PERMIT, NOW + 60_000)
    assert PERMIT.hex() not in repr(decision)
    assert decision.to_dict()["permit"] == PERMIT.hex()


def test_commit_sends_the_call_again_and_is_never_repeated(server: FakeServer, client: Client) -> None:
    """A permit is used up by it: a lost answer is told, not asked for twice."""
    server.answers["AuthorizationService/Commit"] = failing(grpc.StatusCode.UNAVAILABLE, "gone")

    with pytest.raises(errors.Unavailable):
        client.commit(PERMIT, b"token", "deploy", "prod/api", b'{"a": 1}', audience="gw")

    (request,) = server.requests(check_pb.CommitRequest)
    assert (request.permit, request.audience) == (PERMIT, "gw")
    assert (request.item.action, request.item.resource, request.item.arguments) == (
        b"deploy",
        b"prod/api",
        b'{"a": 1}',
    )


def test_commit_answers_with_a_decision(server: FakeServer, client: Client) -> None:
    """BAD_PERMIT is a denial, not an error."""
    server.answers["AuthorizationService/Commit"] = always(
        check_pb.CommitResponse(
            decision=check_pb.Decision(reason=check_pb.REASON_BAD_PERMIT, stage=check_pb.STAGE_NEEDS)
        )
    )

    decision = client.commit(PERMIT, b"token", "deploy", "prod/api")

    assert not decision
    assert decision.reason is Reason.BAD_PERMIT
    assert "commit in time" in decision.explain()


def test_release_gives_the_revision(server: FakeServer, client: Client) -> None:
    """The held amount is free from this revision on; a permit of another size is not sent."""
    server.answers["AuthorizationService/Release"] = always(check_pb.ReleaseResponse(revision=9))

    assert client.release(PERMIT) == 9
    with pytest.raises(errors.UsageError, match="permit"):
        client.release(b"short")
    assert len(server.seen) == 1


def test_the_asyncio_client_does_the_same(server: FakeServer) -> None:
    """List, read, grant, deny, commit, release, and a check with approvals."""
    server.answers["ApprovalService/ListApprovals"] = always(
        pb.ListApprovalsResponse(approvals=[message(ASKED)])
    )
    server.answers["ApprovalService/GetApproval"] = always(pb.GetApprovalResponse(approval=message(ASKED)))
    server.answers["ApprovalService/GrantApproval"] = always(
        pb.GrantApprovalResponse(approval=message(ASKED))
    )
    server.answers["ApprovalService/DenyApproval"] = always(pb.DenyApprovalResponse(approval=message(ASKED)))
    server.answers["AuthorizationService/Commit"] = always(check_pb.CommitResponse())
    server.answers["AuthorizationService/Release"] = always(check_pb.ReleaseResponse(revision=9))
    server.answers[CHECK] = always(check_pb.CheckResponse())

    async def run() -> None:
        async with AsyncClient(server.target, "sessauth_key_tester_secret") as client:
            assert (await client.list_approvals()).approvals == (ASKED,)
            assert await client.get_approval(ASKED.record.session_id, ASKED.record.id) == ASKED
            assert await client.grant_approval(ASKED, signed("ann")) == ASKED
            assert await client.deny_approval(ASKED.record.session_id, ASKED.record.id) == ASKED
            assert not await client.commit(PERMIT, b"token", "deploy", "prod/api")
            assert await client.release(PERMIT) == 9
            assert not await client.check(b"token", "deploy", "prod/api", approvals=[signed("ann")])

    asyncio.run(run())

    sent = check_pb.CheckRequest.FromString(server.seen[-1].request)
    assert list(sent.item.approvals) == [signed("ann").encode()]
