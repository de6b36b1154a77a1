"""Descriptions of ApprovalService's calls, and of those that use a permit, for both clients."""

from __future__ import annotations

from google.protobuf.message import Message

from ...approvals.approver import Approver
from ...approvals.request import ApprovalRequest
from ...errors import UsageError
from ...model.approval import ApprovalRecord, SignedApproval
from ...scopes.value import Number
from ...v1 import approval_service_pb2 as pb
from ...v1 import authorization_service_pb2 as check_pb
from ...v1 import record_pb2, token_pb2
from .._decision import RemoteDecision, decision_from_message
from .._messages import newer_server
from .._results import ApprovalPage, CheckItem
from .._transport import RpcRequest
from .fields import change, check_count, check_id, check_session_id
from .tokens import item_message

STATUSES = {
    "waiting": record_pb2.APPROVAL_STATUS_UNSPECIFIED,
    "pending": record_pb2.APPROVAL_STATUS_PENDING,
    "granted": record_pb2.APPROVAL_STATUS_GRANTED,
    "denied": record_pb2.APPROVAL_STATUS_DENIED,
    "used": record_pb2.APPROVAL_STATUS_USED,
}


def list_approvals(
    session_id: bytes, status: str, public_key: bytes, page_size: int, page_token: str
) -> RpcRequest[ApprovalPage]:
    """Describe ListApprovals."""
    if status not in STATUSES:
        raise UsageError(f"status: {status!r} is not one of {', '.join(STATUSES)}")
    request = pb.ListApprovalsRequest(
        session_id=check_session_id(session_id) if session_id else b"",
        status=STATUSES[status],
        public_key=check_id("public_key", public_key, 32) if public_key else b"",
        page_size=check_count("page_size", page_size, 1000),
        page_token=page_token,
    )
    return RpcRequest("ApprovalService/ListApprovals", request, pb.ListApprovalsResponse, _page)


def get_approval(session_id: bytes, approval_id: bytes) -> RpcRequest[ApprovalRequest]:
    """Describe GetApproval."""
    request = pb.GetApprovalRequest(
        session_id=check_session_id(session_id),
        approval_id=check_id("approval_id", approval_id, 16),
    )
    return RpcRequest("ApprovalService/GetApproval", request, pb.GetApprovalResponse, _approval)


def grant_approval(
    request: ApprovalRequest, by: Approver | SignedApproval, ttl_ms: int, request_id: str
) -> RpcRequest[ApprovalRequest]:
    """Describe GrantApproval; an approver signs here, and its key stays."""
    signed = by.grant(request, ttl_ms=ttl_ms) if isinstance(by, Approver) else by
    message = pb.GrantApprovalRequest(
        session_id=check_session_id(request.record.session_id),
        approval_id=check_id("approval_id", request.record.id, 16),
        statement=token_pb2.SignedApproval.FromString(signed.encode()),
    )
    return _change("GrantApproval", message, pb.GrantApprovalResponse, request_id)


def deny_approval(
    session_id: bytes, approval_id: bytes, reason: str, request_id: str
) -> RpcRequest[ApprovalRequest]:
    """Describe DenyApproval."""
    message = pb.DenyApprovalRequest(
        session_id=check_session_id(session_id),
        approval_id=check_id("approval_id", approval_id, 16),
        reason=reason,
    )
    return _change("DenyApproval", message, pb.DenyApprovalResponse, request_id)


def commit(
    permit: bytes, item: CheckItem, audience: str, at_least_revision: int
) -> RpcRequest[RemoteDecision]:
    """Describe Commit. It uses the permit up, so it is not repeated after a lost answer."""
    request = check_pb.CommitRequest(
        permit=check_id("permit", permit, 32),
        item=item_message(item),
        audience=audience,
        at_least_revision=at_least_revision,
    )
    return RpcRequest(
        "AuthorizationService/Commit",
        request,
        check_pb.CommitResponse,
        lambda answer: decision_from_message(answer.decision),
        repeatable=False,
    )


def release(permit: bytes) -> RpcRequest[int]:
    """Describe Release. The result is the revision from which the permit's costs are free again."""
    return RpcRequest(
        "AuthorizationService/Release",
        check_pb.ReleaseRequest(permit=check_id("permit", permit, 32)),
        check_pb.ReleaseResponse,
        lambda answer: int(answer.revision),
        repeatable=False,
    )


def _change(
    method: str, request: Message, answer: type[Message], request_id: str
) -> RpcRequest[ApprovalRequest]:
    return change(f"ApprovalService/{method}", request, answer, _approval, request_id)


def _approval(
    answer: pb.GetApprovalResponse | pb.GrantApprovalResponse | pb.DenyApprovalResponse,
) -> ApprovalRequest:
    return _request(answer.approval, answer.session)


def _page(answer: pb.ListApprovalsResponse) -> ApprovalPage:
    # A server of before names no sessions.
    named = [*answer.sessions, *[pb.ApprovalSession()] * (len(answer.approvals) - len(answer.sessions))]
    return ApprovalPage(tuple(map(_request, answer.approvals, named)), answer.next_page_token)


def _request(message: record_pb2.ApprovalRecord, session: pb.ApprovalSession) -> ApprovalRequest:
    try:
        record = ApprovalRecord.decode(message.SerializeToString())
        remaining = tuple(Number(each.units, each.nanos) for each in session.remaining)
        return ApprovalRequest(record, session.subject, session.purpose, remaining)
    except ValueError as error:
        raise newer_server(error) from None
