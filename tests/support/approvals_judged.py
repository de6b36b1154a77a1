"""The package's judgement of approvals in the oracle's terms."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sessauth.model.approval import (
    ApprovalRecord,
    ApprovalStatus,
    ApprovalTerms,
    SignedApproval,
    judge_approvals,
)
from tests.oracle.approvals import Held, Verdict, Wanted


def judged(
    presented: Sequence[bytes], held: Held | None, used: Collection[bytes], wanted: Wanted, now_ms: int
) -> tuple[Verdict, bytes]:
    """Judge the statements by the package; return its result in the oracle's terms."""
    terms = ApprovalTerms(
        wanted.session_id,
        wanted.block_id,
        wanted.block,
        wanted.scope,
        wanted.epoch,
        wanted.request_digest,
        wanted.threshold,
        tuple(wanted.keys),
    )
    records = [] if held is None else [_record(held, terms)]
    outcome = judge_approvals(presented, records, terms, now_ms, is_used=lambda each: each in used)
    return Verdict(outcome.reason.name), outcome.approval_id if outcome else b""


def _record(held: Held, terms: ApprovalTerms) -> ApprovalRecord:
    """Return the record of ``held``; its status only reflects the number of signatures."""
    statements = tuple(map(SignedApproval.decode, held.statements))
    granted = ApprovalStatus.GRANTED if len(statements) >= terms.threshold else ApprovalStatus.PENDING
    return ApprovalRecord(
        id=held.id,
        session_id=terms.session_id,
        block_id=terms.block_id,
        block=terms.block,
        scope=terms.scope,
        epoch=terms.epoch,
        request_digest=terms.request_digest,
        threshold=terms.threshold,
        keys=terms.keys,
        action="deploy",
        resource="prod/api",
        expires_at_ms=held.expires_at_ms,
        status=ApprovalStatus.DENIED if held.denied else granted,
        statements=statements,
    )
