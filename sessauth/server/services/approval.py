"""ApprovalService: requested approvals, and the answers of approvers.

A role lets a caller read and answer. The statement's signature decides if an answer counts: the log evaluates
it as a check would. An approver sees every waiting approval (``public_key`` narrows that to those its key
may sign), a gateway only those that it requested itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...model.approval import ApprovalRecord, ApprovalStatus
from ...model.change import answer_approval
from ...model.session import Session
from ...state.writer.state_writer import StateWriter
from ...v1 import approval_service_pb2 as pb
from ...v1 import token_pb2
from .. import request_fields
from ..rpc.access import GATEWAY
from ..rpc.call import CallContext
from ..status import invalid, refused
from ..writer.submit import always_permitted, change_from, submit_and_wait
from .base import Service, deadline_checked

R = TypeVar("R")


class ApprovalService(Service):
    """Answers ApprovalService from the log."""

    descriptor = pb.DESCRIPTOR.services_by_name["ApprovalService"]

    def __init__(self, log: StateWriter, require_grants: Callable[[], None] = always_permitted) -> None:
        """Read and write ``log``. ``require_grants`` raises while no authority may be granted."""
        self._require_grants = require_grants
        self._log = log

    def list_approvals(self, request: pb.ListApprovalsRequest, call: CallContext) -> pb.ListApprovalsResponse:
        """Return one page of the approvals that match all filters, by session and id."""
        size = request_fields.page_size(request.page_size)
        found = self._log.approvals(
            request_fields.optional_session_id(request.session_id, "session_id"),
            after=request_fields.page_start(request.page_token, 2 * request_fields.ID_BYTES),
            limit=size + 1,
            predicate=deadline_checked(self._filter(request, call), call),
        )
        page = found[:size]
        last = page[-1].session_id + page[-1].id if len(found) > size else b""
        return pb.ListApprovalsResponse(
            approvals=[request_fields.approval_message(record) for record in page],
            next_page_token=request_fields.page_token(last),
            sessions=[self._session(record) for record in page],
        )

    def get_approval(self, request: pb.GetApprovalRequest, call: CallContext) -> pb.GetApprovalResponse:
        """Return one approval."""
        record = self._approval(*_ids(request), call)
        session = self._session(record)
        return pb.GetApprovalResponse(approval=request_fields.approval_message(record), session=session)

    def grant_approval(self, request: pb.GrantApprovalRequest, call: CallContext) -> pb.GrantApprovalResponse:
        """Add a signed statement; rejected with BAD_APPROVAL if it does not count."""
        self._require_grants()
        if not request.HasField("statement"):
            raise invalid("statement", "is required: what the approver signed")
        statement = request_fields.signed_approval(request.statement)
        return self._answer(pb.GrantApprovalResponse, request, call, statement=statement)

    def deny_approval(self, request: pb.DenyApprovalRequest, call: CallContext) -> pb.DenyApprovalResponse:
        """Deny an approval, which stays denied until it expires."""
        reason = request_fields.text(request.reason, "reason")
        return self._answer(pb.DenyApprovalResponse, request, call, deny=True, reason=reason)

    def _approval(self, session_id: bytes, approval_id: bytes, call: CallContext) -> ApprovalRecord:
        record = self._log.approval(session_id, approval_id)
        if record is None or not _is_visible(record, call):
            raise refused("NOT_FOUND", "approval_id: no such approval")
        return record

    def _session(self, record: ApprovalRecord) -> pb.ApprovalSession:
        """Return the caller, the purpose and the origin: roles that read approvals may read sessions."""
        session = self._log.get_session(record.session_id)
        if session is None:
            return pb.ApprovalSession()
        budgets = self._log.remaining(record.session_id, record.charges)
        remaining = [token_pb2.Number(units=each.units, nanos=each.nanos) for each in budgets]
        return pb.ApprovalSession(subject=session.subject, purpose=session.purpose, remaining=remaining)

    def _answer(
        self,
        response: Callable[..., R],
        request: pb.GrantApprovalRequest | pb.DenyApprovalRequest,
        call: CallContext,
        **answer: object,
    ) -> R:
        ids = _ids(request)
        change = change_from(request, call, answer_approval, *ids, **answer)
        outcome = submit_and_wait(self._log, change, call)
        record = self._approval(*ids, call)
        approval, session = request_fields.approval_message(record), self._session(record)
        return response(approval=approval, revision=outcome.revision, session=session)

    def _filter(
        self, request: pb.ListApprovalsRequest, call: CallContext
    ) -> Callable[[ApprovalRecord, Session], bool]:
        key = request_fields.digest(request.public_key, "public_key") if request.public_key else b""
        try:
            status = ApprovalStatus(request.status)
        except ValueError:
            raise invalid("status", "is none that this server knows") from None
        now_ms = self._log.now_ms()

        def matches(record: ApprovalRecord, session: Session) -> bool:
            if not _is_visible(record, call) or (key and key not in record.keys):
                return False
            if status is not ApprovalStatus.UNSPECIFIED:
                return record.status is status
            # A statement of an earlier epoch never counts, so an approval of one needs no signature.
            signed = any(key == statement.public_key for statement in record.standing(now_ms))
            return record.epoch == session.epoch and record.waits(now_ms) and not signed

        return matches


def _is_visible(record: ApprovalRecord, call: CallContext) -> bool:
    return call.principal.role != GATEWAY or record.gateway == call.principal.name


def _ids(
    request: pb.GetApprovalRequest | pb.GrantApprovalRequest | pb.DenyApprovalRequest,
) -> tuple[bytes, bytes]:
    """Return the ids of session and approval."""
    return (
        request_fields.session_id(request.session_id),
        request_fields.session_id(request.approval_id, "approval_id"),
    )
