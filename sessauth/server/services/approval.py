"""ApprovalService: what waits for a person, and what was answered.

A role lets a caller read and answer; whether an answer counts, the statement's signature says: the log
judges it as a check would. So an approver is shown all that waits (``public_key`` narrows that to what
one key may sign), and a gateway only what it asked for itself: the rest is none of its business.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from ...model import change as changes
from ...model.approval import ApprovalRecord, ApprovalStatus, SignedApproval
from ...model.session import Session
from ...state.writer.state_writer import StateWriter
from ...v1 import approval_service_pb2 as pb
from .. import request_fields
from ..rpc.access import GATEWAY
from ..rpc.call import CallContext
from ..status import invalid, refused
from ..writer.submit import nothing_to_ask, submit

# How often a search through all approvals looks whether anybody still waits for it.
APPROVALS_BETWEEN_LOOKS = 256


class ApprovalService:
    """Answers ApprovalService from the log."""

    def __init__(self, log: StateWriter, may_give: Callable[[], None] = nothing_to_ask) -> None:
        """Read and write ``log``. ``may_give`` raises where nothing may be given."""
        self._may_give = may_give
        self._log = log

    def list_approvals(self, request: pb.ListApprovalsRequest, call: CallContext) -> pb.ListApprovalsResponse:
        """Return one page of the approvals that match all filters, by session and id."""
        size = request_fields.page_size(request.page_size)
        found = self._log.approvals(
            request_fields.optional_session_id(request.session_id, "session_id"),
            after=request_fields.page_start(request.page_token, 2 * request_fields.ID_BYTES),
            limit=size + 1,
            predicate=self._filter(request, call),
        )
        page = found[:size]
        last = page[-1].session_id + page[-1].id if len(found) > size else b""
        return pb.ListApprovalsResponse(
            approvals=[request_fields.approval_message(record) for record in page],
            next_page_token=request_fields.page_token(last),
        )

    def get_approval(self, request: pb.GetApprovalRequest, call: CallContext) -> pb.GetApprovalResponse:
        """Return one approval."""
        record = self._approval(*_named(request), call)
        return pb.GetApprovalResponse(approval=request_fields.approval_message(record))

    def grant_approval(self, request: pb.GrantApprovalRequest, call: CallContext) -> pb.GrantApprovalResponse:
        """Add a signed statement; rejected with BAD_APPROVAL if it does not count."""
        self._may_give()
        if not request.HasField("statement"):
            raise invalid("statement", "is required: what the approver signed")
        record, revision = self._answer(
            request, call, statement=request_fields.signed_approval(request.statement)
        )
        return pb.GrantApprovalResponse(approval=request_fields.approval_message(record), revision=revision)

    def deny_approval(self, request: pb.DenyApprovalRequest, call: CallContext) -> pb.DenyApprovalResponse:
        """Say no, which stands until the approval expires."""
        record, revision = self._answer(
            request, call, deny=True, reason=request_fields.text(request.reason, "reason")
        )
        return pb.DenyApprovalResponse(approval=request_fields.approval_message(record), revision=revision)

    def methods(self) -> Mapping[str, Callable[..., object]]:
        """Return the RPCs of the service by name."""
        return {
            "ListApprovals": self.list_approvals,
            "GetApproval": self.get_approval,
            "GrantApproval": self.grant_approval,
            "DenyApproval": self.deny_approval,
        }

    def _approval(self, session_id: bytes, approval_id: bytes, call: CallContext) -> ApprovalRecord:
        record = self._log.approval(session_id, approval_id)
        if record is None or not _sees(call, record):
            raise refused("NOT_FOUND", "approval_id: no such approval")
        return record

    def _answer(
        self,
        request: pb.GrantApprovalRequest | pb.DenyApprovalRequest,
        call: CallContext,
        *,
        statement: SignedApproval | None = None,
        deny: bool = False,
        reason: str = "",
    ) -> tuple[ApprovalRecord, int]:
        session_id, approval_id = _named(request)
        change = changes.answer_approval(
            request_fields.request_id(request.request_id),
            session_id,
            approval_id,
            statement=statement,
            deny=deny,
            reason=reason,
            actor=call.principal.name,
        )
        outcome = submit(self._log, change, call)
        return self._approval(session_id, approval_id, call), outcome.revision

    def _filter(
        self, request: pb.ListApprovalsRequest, call: CallContext
    ) -> Callable[[ApprovalRecord, Session], bool]:
        key = request_fields.digest(request.public_key, "public_key") if request.public_key else b""
        try:
            status = ApprovalStatus(request.status)
        except ValueError:
            raise invalid("status", "is none that this server knows") from None
        now_ms = self._log.now_ms()
        seen = itertools.count(1)

        def matches(record: ApprovalRecord, session: Session) -> bool:
            if next(seen) % APPROVALS_BETWEEN_LOOKS == 0:
                call.raise_if_expired()
            if not _sees(call, record) or (key and key not in record.keys):
                return False
            if status is not ApprovalStatus.UNSPECIFIED:
                return record.status is status
            # What was signed for an earlier epoch never counts, so nobody need sign it.
            signed = any(key == signed.public_key for signed in record.standing(now_ms))
            return record.epoch == session.epoch and record.waits(now_ms) and not signed

        return matches


def _sees(call: CallContext, record: ApprovalRecord) -> bool:
    return call.principal.role != GATEWAY or record.gateway == call.principal.name


def _named(
    request: pb.GetApprovalRequest | pb.GrantApprovalRequest | pb.DenyApprovalRequest,
) -> tuple[bytes, bytes]:
    """Return the ids of session and approval."""
    return (
        request_fields.session_id(request.session_id),
        request_fields.session_id(request.approval_id, "approval_id"),
    )
