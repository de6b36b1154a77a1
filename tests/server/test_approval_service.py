from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import grpc
import pytest

from sessauth.approvals.approver import Approver
from sessauth.approvals.request import ApprovalRequest
from sessauth.client import Client
from sessauth.model.approval import ApprovalRecord, ApprovalStatus, SignedApproval
from sessauth.scopes.value import Number
from sessauth.v1 import approval_service_pb2 as pb
from sessauth.v1 import record_pb2, token_pb2
from sessauth.v1 import session_service_pb2 as sessions
from tests.oracle.crypto import digest
from tests.support.approval_requests import ask
from tests.support.approvals import SPENDING, approver, record
from tests.support.service import Caller, RpcError, Service


def listed(caller: Caller, **given: Any) -> list[bytes]:
    """The ids of one page."""
    answer = caller.call("ApprovalService/ListApprovals", pb.ListApprovalsRequest(**given))
    return [each.id for each in answer.approvals]


def get(caller: Caller, requested: ApprovalRecord) -> record_pb2.ApprovalRecord:
    """One approval as a caller sees it."""
    request = pb.GetApprovalRequest(session_id=requested.session_id, approval_id=requested.id)
    return caller.call("ApprovalService/GetApproval", request).approval


def grant(
    caller: Caller, requested: ApprovalRecord, signed: SignedApproval | None, request_id: str = ""
) -> pb.GrantApprovalResponse:
    """Hand in a signed approval."""
    statement = None if signed is None else token_pb2.SignedApproval.FromString(signed.encode())
    request = pb.GrantApprovalRequest(
        request_id=request_id, session_id=requested.session_id, approval_id=requested.id, statement=statement
    )
    return caller.call("ApprovalService/GrantApproval", request)


def deny(caller: Caller, requested: ApprovalRecord, reason: str = "") -> pb.DenyApprovalResponse:
    """Say no."""
    request = pb.DenyApprovalRequest(session_id=requested.session_id, approval_id=requested.id, reason=reason)
    return caller.call("ApprovalService/DenyApproval", request)


def sign(name: str, requested: ApprovalRecord) -> SignedApproval:
    """Return the statement that an approver with the system's clock signs for a record."""
    return Approver(approver(name)).grant(ApprovalRequest(requested))


@pytest.fixture(scope="module")
def person(service: Service) -> Caller:
    """An approver."""
    return service.add("ann", "approver")


@pytest.fixture(scope="module")
def gateway(service: Service) -> Caller:
    """The gateway that asks in these tests."""
    return service.add("gateway-1", "gateway", ("gw",))


def test_what_waits_is_listed_and_read(
    service: Service, person: Caller, operator: Caller, session: sessions.Session
) -> None:
    """An approver and an operator see it; the record is what the log holds, and can be signed."""
    requested = ask(service, session)

    for caller in (person, operator):
        assert listed(caller, session_id=session.id) == [requested.id]
        assert ApprovalRecord.decode(get(caller, requested).SerializeToString()) == requested
    assert sign("ann", requested).public_key == approver("ann").public_key


def test_each_answer_names_who_asks_and_what_for(service: Service) -> None:
    """Subject, purpose and the remaining budget come with each approval, for programs as for people."""
    with Client(f"unix:{service.made.socket}", timeout_ms=10_000) as client:
        opened = client.open_session(subject="ci", purpose="release 1.2", ceiling=["*:**"])
        granted, denied = (ask(service, opened, **SPENDING) for _ in range(2))
        answers = [
            *client.list_approvals(session_id=opened.id).approvals,
            client.get_approval(opened.id, granted.id),
            client.grant_approval(client.get_approval(opened.id, granted.id), sign("ann", granted)),
            client.deny_approval(opened.id, denied.id, "no"),
        ]

    assert len(answers) == 5
    assert {(each.subject, each.purpose) for each in answers} == {("ci", "release 1.2")}
    assert {each.remaining for each in answers} == {(Number(10),)}
    for part in ('purpose    "release 1.2"', "   deploy:prod/**\n", '4 "EUR" for this call, 10 of 10 left'):
        assert part in answers[0].render()


def test_two_approvers_make_it_granted(service: Service, person: Caller, session: sessions.Session) -> None:
    """The first statement leaves it waiting for the others, the second ends that; the revision moves."""
    requested = ask(service, session)
    first = grant(person, requested, sign("ann", requested))
    second = grant(person, requested, sign("bob", requested))

    assert first.approval.status == record_pb2.APPROVAL_STATUS_PENDING
    assert second.approval.status == record_pb2.APPROVAL_STATUS_GRANTED
    assert second.revision > first.revision > requested.revision
    assert listed(person, session_id=session.id) == []
    assert listed(person, session_id=session.id, status="APPROVAL_STATUS_GRANTED") == [requested.id]


def test_a_repeated_grant_gives_the_first_outcome(
    service: Service, person: Caller, session: sessions.Session
) -> None:
    """The same request id and statement add nothing; another statement is a conflict."""
    requested = ask(service, session)
    signed = sign("ann", requested)
    request_id = secrets.token_hex(8)
    first = grant(person, requested, signed, request_id)

    again = grant(person, requested, signed, request_id)

    assert again.revision == first.revision
    assert len(again.approval.statements) == 1
    with pytest.raises(RpcError) as refused:
        grant(person, requested, sign("bob", requested), request_id)
    assert refused.value.word == "CONFLICT"


def test_only_what_counts_is_taken(service: Service, person: Caller, session: sessions.Session) -> None:
    """A foreign key, another call, a changed signature, a key that signed already: BAD_APPROVAL."""
    requested, other = ask(service, session), ask(service, session)
    right = sign("ann", requested)
    foreign = approver("dan").sign(replace(_statement(requested)))
    grant(person, requested, sign("bob", requested))

    for wrong in (
        foreign,
        sign("ann", other),
        replace(right, signature=bytes(64)),
        replace(right, statement=right.statement + b"\x48\x01"),
        replace(right, public_key=bytes(32)),
        sign("bob", requested),
    ):
        with pytest.raises(RpcError) as refused:
            grant(person, requested, wrong)
        assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
        assert refused.value.word == "BAD_APPROVAL"
    assert len(get(person, requested).statements) == 1


def _statement(requested: ApprovalRecord) -> Any:
    from sessauth.model.approval import ApprovalStatement

    return ApprovalStatement.decode(sign("ann", requested).statement)


def test_a_role_grants_nothing(service: Service, operator: Caller, session: sessions.Session) -> None:
    """An operator too needs a statement by a key of the scope."""
    requested = ask(service, session)

    with pytest.raises(RpcError) as refused:
        grant(operator, requested, None)
    assert (refused.value.word, refused.value.field) == ("INVALID_ARGUMENT", "statement")
    with pytest.raises(RpcError) as refused:
        grant(operator, requested, approver("operator").sign(_statement(requested)))
    assert refused.value.word == "BAD_APPROVAL"


def test_a_denial_is_written_down_and_final(
    service: Service, person: Caller, session: sessions.Session
) -> None:
    """The record names who denied and why; afterwards nobody grants it, nor denies it again."""
    requested = ask(service, session)
    denied = deny(person, requested, "not on friday")

    assert denied.approval.status == record_pb2.APPROVAL_STATUS_DENIED
    assert (denied.approval.denied_by, denied.approval.reason) == ("ann", "not on friday")
    for answer in (lambda: grant(person, requested, sign("ann", requested)), lambda: deny(person, requested)):
        with pytest.raises(RpcError) as refused:
            answer()
        assert refused.value.word == "WRONG_STATUS"
    assert listed(person, session_id=session.id, status="APPROVAL_STATUS_DENIED") == [requested.id]


def test_a_gateway_sees_only_what_it_asked_for(
    service: Service, gateway: Caller, operator: Caller, session: sessions.Session
) -> None:
    """Another gateway's looks like none at all, and a gateway answers nothing."""
    own = ask(service, session, gateway="gateway-1")
    other = ask(service, session, gateway="gateway-2")

    assert listed(gateway, session_id=session.id) == [own.id]
    assert set(listed(operator, session_id=session.id)) == {own.id, other.id}
    assert get(gateway, own).id == own.id
    with pytest.raises(RpcError) as refused:
        get(gateway, other)
    assert (refused.value.code, refused.value.word) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    for answer in (lambda: grant(gateway, own, sign("ann", own)), lambda: deny(gateway, own)):
        with pytest.raises(RpcError) as refused:
            answer()
        assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_roles_that_have_no_business_here(service: Service, session: sessions.Session) -> None:
    """An issuer sees no approvals; an auditor reads them and answers none."""
    requested = ask(service, session)
    issuer, auditor = service.add("issuer-a", "issuer"), service.add("auditor-a", "auditor")

    with pytest.raises(RpcError) as refused:
        listed(issuer)
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED
    assert get(auditor, requested).id == requested.id
    with pytest.raises(RpcError) as refused:
        deny(auditor, requested)
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_an_approver_reads_sessions_and_changes_none(person: Caller, session: sessions.Session) -> None:
    """An approver may know the session of a call; ending it is for others."""
    found = person.call("SessionService/GetSession", sessions.GetSessionRequest(session_id=session.id))

    assert found.session.subject == "agent-7"
    for rpc, request in (
        ("SessionService/ListSessions", sessions.ListSessionsRequest()),
        ("SessionService/EndSession", sessions.EndSessionRequest(session_id=session.id)),
    ):
        with pytest.raises(RpcError) as refused:
            person.call(rpc, request)
        assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_a_key_is_told_what_it_may_still_sign(
    service: Service, person: Caller, session: sessions.Session
) -> None:
    """Not what names other keys, nor what it signed already."""
    keys = [approver(name).public_key for name in ("ann", "bob")]
    both = ask(service, session)
    bobs = ask(service, session, keys=(keys[1],), threshold=1)

    assert listed(person, session_id=session.id, public_key=keys[0]) == [both.id]
    assert set(listed(person, session_id=session.id, public_key=keys[1])) == {both.id, bobs.id}
    grant(person, both, sign("ann", both))
    assert listed(person, session_id=session.id, public_key=keys[0]) == []
    assert listed(person, session_id=session.id, public_key=approver("dan").public_key) == []


def test_an_epoch_that_moved_leaves_nothing_to_sign(
    service: Service, person: Caller, operator: Caller, session: sessions.Session
) -> None:
    """Narrowing the session ends what waits: it isn't listed, and a grant of it is refused."""
    requested = ask(service, session)
    narrow = sessions.NarrowSessionRequest(session_id=session.id, ceiling=["read:files/a/**"])
    operator.call("SessionService/NarrowSession", narrow)

    assert listed(person, session_id=session.id) == []
    with pytest.raises(RpcError) as refused:
        grant(person, requested, sign("ann", requested))
    assert refused.value.word == "EPOCH_MISMATCH"


def test_pages_hold_each_approval_once(service: Service, person: Caller, session: sessions.Session) -> None:
    """Page after page, in the order of session and id, until there is no more."""
    wanted = sorted(ask(service, session).id for _ in range(5))
    found: list[bytes] = []
    page_token, pages = "", 0
    while not pages or page_token:
        request = pb.ListApprovalsRequest(session_id=session.id, page_size=2, page_token=page_token)
        answer = person.call("ApprovalService/ListApprovals", request)
        found += [each.id for each in answer.approvals]
        page_token, pages = answer.next_page_token, pages + 1

    assert found == wanted
    assert pages == 3


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"session_id": b"short"}, "session_id"),
        ({"public_key": b"short"}, "public_key"),
        ({"page_size": 1001}, "page_size"),
        ({"page_token": "AAAA"}, "page_token"),
        ({"status": 77}, "status"),
    ],
)
def test_a_filter_that_can_not_be_is_refused(person: Caller, given: dict[str, Any], field: str) -> None:
    """The refusal names the field."""
    with pytest.raises(RpcError) as refused:
        listed(person, **given)

    assert (refused.value.word, refused.value.field) == ("INVALID_ARGUMENT", field)


def test_what_is_not_there_is_not_found(person: Caller, session: sessions.Session) -> None:
    """Reading and answering an unknown id give NOT_FOUND; an id of the wrong size is INVALID_ARGUMENT."""
    nothing = record(session_id=session.id, id=secrets.token_bytes(16))
    for answer in (lambda: get(person, nothing), lambda: deny(person, nothing)):
        with pytest.raises(RpcError) as refused:
            answer()
        assert refused.value.word == "NOT_FOUND"
    with pytest.raises(RpcError) as refused:
        get(person, replace(nothing, id=digest(b"long")))
    assert (refused.value.word, refused.value.field) == ("INVALID_ARGUMENT", "approval_id")


def test_a_reason_has_a_bound(service: Service, person: Caller, session: sessions.Session) -> None:
    """1024 bytes of why are enough."""
    with pytest.raises(RpcError) as refused:
        deny(person, ask(service, session), "x" * 1025)

    assert refused.value.field == "reason"


def test_the_service_says_whether_it_serves(operator: Caller) -> None:
    """It has a health status of its own."""
    from grpc_health.v1 import health_pb2

    request = health_pb2.HealthCheckRequest(service="sessauth.v1.ApprovalService")

    assert operator.call("Health/Check", request).status == health_pb2.HealthCheckResponse.SERVING


def test_a_record_of_any_status_is_kept_as_it_was_signed() -> None:
    """The states of the schema and of the package are the same."""
    assert {status.name: int(status) for status in ApprovalStatus} == {
        name.removeprefix("APPROVAL_STATUS_"): value for name, value in record_pb2.ApprovalStatus.items()
    }
