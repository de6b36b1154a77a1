"""A server's decision, with the interface of one made in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeVar

from .._fast._codec import DecisionReader
from ..approvals.request import ApprovalRequest
from ..decisions.decision import DecisionBase, answer
from ..model.approval import ApprovalRecord
from ..reasons import Level, Reason, Stage
from ..scopes.scope import Scope
from ..tokens.token import Token
from ..v1 import authorization_service_pb2 as pb
from ..v1 import record_pb2

E = TypeVar("E", bound=IntEnum)


@answer
@dataclass(frozen=True, slots=True, repr=False)
class RemoteDecision(DecisionBase):
    """A server's decision about a call, with the fields of ``DecisionBase``.

    ``explanation`` is the server's, which knows the ceilings too; it explains denials only.
    ``permit`` (32 bytes), where one was requested, is to be committed before ``permit_expires_at_ms``, in ms
    since 1970. ``approval`` is the request that an approver reads and signs, of APPROVAL_REQUIRED.
    """

    allowed: bool
    reason: Reason
    stage: Stage
    level: Level
    index: int
    scope: int
    clause: int
    argument: str
    matched_index: int
    matched_scope: int
    session_id: bytes
    epoch: int
    block_ids: tuple[bytes, ...]
    revision: int
    view_age_ms: int
    expires_at_ms: int
    decision_id: bytes
    explanation: str = ""
    permit: bytes = field(default=b"", repr=False)
    permit_expires_at_ms: int = 0
    approval: ApprovalRequest | None = None

    def explain(
        self, token: Token | str | bytes | None = None, ceilings: Sequence[Sequence[Scope]] = ()
    ) -> str:
        """Return the server's explanation, or one made here if it gave none or ``ceilings`` are known.

        A check process knows its token but not the session's ceiling in text form. The id of a waiting
        approval comes at the end.
        """
        # A dataclass with slots is a new class, and super() without arguments would miss that.
        text = (
            self.explanation
            if self.explanation and not ceilings
            else DecisionBase.explain(self, token, ceilings)
        )
        if self.approval is None:
            return text
        record = self.approval.record
        return f"{text} (approval {record.id.hex()} of session {record.session_id.hex()})"

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON; permit and approval only where there is one."""
        values = DecisionBase.to_dict(self)
        if self.permit:
            values["permit"] = self.permit.hex()
            values["permit_expires_at_ms"] = self.permit_expires_at_ms
        if self.approval is not None:
            values["approval"] = self.approval.to_dict()
        return values


# The denial of a tool that no catalogue names. It is made here: it has no id, and no log has it.
UNKNOWN_TOOL: Final = RemoteDecision(
    allowed=False,
    reason=Reason.UNKNOWN_TOOL,
    stage=Stage.SCOPE,
    level=Level.NONE,
    index=-1,
    scope=-1,
    clause=-1,
    argument="",
    matched_index=-1,
    matched_scope=-1,
    session_id=b"",
    epoch=0,
    block_ids=(),
    revision=0,
    view_age_ms=0,
    expires_at_ms=0,
    decision_id=b"",
)

# Protobuf's objects cost more than the rest of a call.
_READER: Final = DecisionReader(
    RemoteDecision,
    {int(reason): reason for reason in Reason},
    {int(stage): stage for stage in Stage},
    {int(level): level for level in Level},
)


def read_check(data: bytes) -> RemoteDecision:
    """Return the decision of a CheckResponse or CommitResponse. Raises DecodeError."""
    decision: RemoteDecision | None = _READER.check(data)
    return decision_from_message(pb.CheckResponse.FromString(data).decision) if decision is None else decision


def read_batch(data: bytes) -> list[RemoteDecision]:
    """Return the decisions of a CheckBatchResponse. Raises DecodeError."""
    decisions = _READER.batch(data)
    if decisions is None:
        return [decision_from_message(each) for each in pb.CheckBatchResponse.FromString(data).decisions]
    return decisions


def decision_from_message(message: pb.Decision) -> RemoteDecision:
    """Return the decision of a message.

    It allows only if both flag and reason do. A reason, stage or level that this version
    does not know becomes the first of its kind, which means nothing.
    """
    reason = _known(Reason, message.reason, Reason.UNSPECIFIED)
    failed, matched = message.failed, message.matched
    has_failed, has_matched = message.HasField("failed"), message.HasField("matched")
    return RemoteDecision(
        allowed=message.allowed and reason is Reason.ALLOWED,
        reason=reason,
        stage=_known(Stage, message.stage, Stage.NONE),
        level=_known(Level, failed.level, Level.NONE),
        index=failed.index if has_failed else -1,
        scope=failed.scope if has_failed else -1,
        clause=failed.clause if has_failed else -1,
        argument=failed.argument,
        matched_index=matched.index if has_matched else -1,
        matched_scope=matched.scope if has_matched else -1,
        session_id=message.session_id,
        epoch=message.epoch,
        block_ids=tuple(message.block_ids),
        revision=message.revision,
        view_age_ms=message.view_age_ms,
        expires_at_ms=message.expires_at_ms,
        decision_id=message.decision_id,
        explanation=message.explanation,
        permit=message.permit,
        permit_expires_at_ms=message.permit_expires_at_ms,
        approval=_approval(message.approval) if message.HasField("approval") else None,
    )


def _approval(message: record_pb2.ApprovalRecord) -> ApprovalRequest | None:
    """Return the request for an approver; None if this version can't read it: it changes no decision."""
    try:
        return ApprovalRequest(ApprovalRecord.decode(message.SerializeToString()))
    except ValueError:
        return None


def _known(kind: type[E], value: int, unknown: E) -> E:
    try:
        return kind(value)
    except ValueError:
        return unknown
