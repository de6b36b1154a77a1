"""Rules of approvals: requested, answered by signed statements or a denial, removed after their expiry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from ... import limits
from ...errors import InvalidApproval
from ...model.approval import ApprovalRecord, ApprovalStatement, ApprovalStatus, SignedApproval
from ...model.approval_rules import check_statement, terms_of
from ...model.change import Change, Rejection
from ...model.costs import SessionCounts
from ...model.session import Session
from .. import layout
from .cost_rows import counts_key, request_key_of
from .effects import Delete, Effect, Put
from .ports import Rows
from .validation import (
    RuleViolation,
    invalid,
    require_active,
    require_alive,
    require_count,
    require_size,
    require_text,
)


def without_pending(counts: SessionCounts, record: ApprovalRecord) -> SessionCounts:
    """Return the counts after a record, given as it was before, is no longer pending."""
    if record.status is ApprovalStatus.PENDING and counts.waiting(record.epoch):
        return replace(counts, open_approvals=counts.open_approvals - 1)
    return counts


def request_approval(rows: Rows, change: Change, revision: int) -> Effect:
    """Store a request for an approval; one at a time for the same call at the same epoch."""
    try:
        request = ApprovalRecord.from_record(cast("dict[str, Any]", change.body["approval"]))
    except (ValueError, KeyError, TypeError) as error:
        raise invalid(f"approval: {error}") from error
    session = require_active(rows, change)
    _require_form(request, session)
    if rows.approval(session.id, request.id) is not None or rows.approval_used(session.id, request.id):
        raise RuleViolation(Rejection.ALREADY_EXISTS, "approval.id: an approval has this id")
    record = replace(
        request,
        requested_at_ms=change.at_ms,
        expires_at_ms=_expiry(request.expires_at_ms, session, change.at_ms),
        status=ApprovalStatus.PENDING,
        revision=revision,
    )
    counts = rows.counts(session.id)
    writes: list[Put | Delete] = []
    key = request_key_of(record)
    before = rows.get(layout.COUNTERS, key)
    earlier = rows.approval(session.id, before) if before is not None else None
    if earlier is not None:
        if change.at_ms < earlier.expires_at_ms:
            detail = f"approval: it was asked for already, as {earlier.id.hex()} ({earlier.status.name})"
            raise RuleViolation(Rejection.ALREADY_EXISTS, detail)
        writes.append(Delete(layout.APPROVALS, session.id + earlier.id))
        counts = without_pending(counts, earlier)
    waiting = counts.waiting(session.epoch)
    if waiting >= limits.MAX_OPEN_APPROVALS:
        detail = f"approval: {waiting} wait for an answer already; have some answered first"
        raise RuleViolation(Rejection.LIMIT, detail)
    counts = replace(counts, open_approvals=waiting + 1, approvals_epoch=session.epoch)
    writes += [
        Put(layout.APPROVALS, session.id + record.id, record.encode()),
        Put(layout.COUNTERS, key, record.id),
        Put(layout.COUNTERS, counts_key(session.id), counts.encode()),
    ]
    return Effect(writes, session.epoch)


def _require_form(request: ApprovalRecord, session: Session) -> None:
    """Reject a record that no call of the session can need, or that has an answer already."""
    require_size("approval.id", request.id, 16)
    require_size("approval.block_id", request.block_id, 32)
    require_size("approval.request_digest", request.request_digest, 32)
    if request.session_id != session.id:
        raise invalid("approval.session_id: is not the change's")
    if request.epoch != session.epoch:
        detail = f"approval.epoch: {request.epoch}, but the session is at {session.epoch}"
        raise RuleViolation(Rejection.EPOCH_MISMATCH, detail)
    if request.block >= limits.MAX_BLOCKS or request.scope >= limits.MAX_SCOPES:
        raise invalid("approval.block, approval.scope: no token has such a scope")
    for key in require_count("approval.keys", request.keys, limits.MAX_APPROVAL_KEYS, least=1):
        require_size("approval.keys", key, 32)
    if len(set(request.keys)) != len(request.keys):
        raise invalid("approval.keys: one is there twice")
    if not 1 <= request.threshold <= len(request.keys):
        raise invalid("approval.threshold: must be 1 to the number of keys")
    require_text("approval.action", request.action, required=True, max_bytes=limits.MAX_ACTION_CHARS)
    require_text("approval.resource", request.resource, required=True, max_bytes=limits.MAX_RESOURCE_BYTES)
    if len(request.arguments) > limits.MAX_APPROVAL_ARGUMENT_BYTES:
        most = limits.MAX_APPROVAL_ARGUMENT_BYTES
        raise RuleViolation(Rejection.LIMIT, f"approval.arguments: an approver is shown at most {most} bytes")
    if len(request.scope_text.encode()) > limits.MAX_APPROVAL_SCOPE_BYTES:
        most = limits.MAX_APPROVAL_SCOPE_BYTES
        raise RuleViolation(
            Rejection.LIMIT, f"approval.scope_text: an approver is shown at most {most} bytes"
        )
    for charge in require_count("approval.charges", request.charges, limits.MAX_BLOCKS):
        require_size("approval.charges.ledger", charge.ledger, 32)
    for label in require_count("approval.labels", request.labels, limits.MAX_BLOCKS):
        require_text("approval.labels", label)
    require_text("approval.gateway", request.gateway, required=True)
    if (
        request.statements
        or request.denied_by
        or request.reason
        or request.status is not ApprovalStatus.PENDING
    ):
        raise invalid("approval.status: it is asked for PENDING and without answers")


def _expiry(expires_at_ms: int, session: Session, at_ms: int) -> int:
    """Return a request's expiry: the given one (0: the latest), at most the session's hard end."""
    latest = min(at_ms + limits.APPROVAL_TTL_MS, session.expires_at_ms)
    if expires_at_ms and not at_ms < expires_at_ms <= at_ms + limits.APPROVAL_TTL_MS:
        raise invalid(f"approval.expires_at_ms: must be within {limits.APPROVAL_TTL_MS} ms after {at_ms}")
    return min(expires_at_ms or latest, latest)


def answer_approval(rows: Rows, change: Change, revision: int) -> Effect:
    """Add a statement to an approval, deny it, or remove it after its expiry."""
    body = cast("dict[str, Any]", change.body)
    record = rows.approval(change.session_id, require_size("approval_id", body.get("approval_id", b""), 16))
    if record is None:
        raise RuleViolation(Rejection.NOT_FOUND, "approval_id: no such approval")
    statement, deny, expire = body.get("statement"), bool(body.get("deny")), bool(body.get("expire"))
    if (statement is not None) + deny + expire != 1:
        raise invalid("statement, deny: give exactly one")
    if expire:
        return _expire(rows, change, record)
    session = require_alive(rows, change)
    if record.epoch != session.epoch:
        detail = f"approval_id: its epoch is {record.epoch}, the session is at {session.epoch}"
        raise RuleViolation(Rejection.EPOCH_MISMATCH, detail)
    if change.at_ms >= record.expires_at_ms:
        raise RuleViolation(Rejection.WRONG_STATUS, f"approval_id: it expired at {record.expires_at_ms}")
    if record.status not in (ApprovalStatus.PENDING, ApprovalStatus.GRANTED):
        raise RuleViolation(Rejection.WRONG_STATUS, f"approval_id: it is {record.status.name} already")
    if statement is None:
        reason = require_text("reason", body.get("reason", ""))
        denied = replace(record, status=ApprovalStatus.DENIED, denied_by=change.actor, reason=reason)
        return _replace(rows, session, record, replace(denied, revision=revision))
    granted = _add_statement(record, SignedApproval.from_record(statement), change.at_ms)
    return _replace(rows, session, record, replace(granted, revision=revision))


def _add_statement(record: ApprovalRecord, signed: SignedApproval, at_ms: int) -> ApprovalRecord:
    """Return a record with one more statement and without expired ones."""
    try:
        check_statement(signed, terms_of(record), at_ms, approval_id=record.id)
    except InvalidApproval as error:
        raise RuleViolation(Rejection.BAD_APPROVAL, f"statement: {error}") from error
    valid = [each for each in record.statements if _expires_at_ms(each) > at_ms]
    if len(valid) >= record.threshold:
        raise RuleViolation(Rejection.WRONG_STATUS, "approval_id: it is GRANTED already")
    if any(each.public_key == signed.public_key for each in valid):
        raise RuleViolation(
            Rejection.BAD_APPROVAL, "statement: its key has signed already; another must sign"
        )
    statements = (*valid, signed)
    enough = record.status is ApprovalStatus.GRANTED or len(statements) >= record.threshold
    status = ApprovalStatus.GRANTED if enough else ApprovalStatus.PENDING
    return replace(record, statements=statements, status=status)


def _expires_at_ms(signed: SignedApproval) -> int:
    return ApprovalStatement.decode(signed.statement).expires_at_ms


def _replace(rows: Rows, session: Session, before: ApprovalRecord, after: ApprovalRecord) -> Effect:
    writes = [Put(layout.APPROVALS, session.id + after.id, after.encode())]
    if after.status is not ApprovalStatus.PENDING:
        writes += put_counts(rows, session.id, without_pending(rows.counts(session.id), before))
    return Effect(writes, session.epoch)


def put_counts(rows: Rows, session_id: bytes, counts: SessionCounts) -> list[Put]:
    """Return the write of a session's counts if they changed."""
    if counts == rows.counts(session_id):
        return []
    return [Put(layout.COUNTERS, counts_key(session_id), counts.encode())]


def _expire(rows: Rows, change: Change, record: ApprovalRecord) -> Effect:
    """Remove a record after its expiry, in a session of any status. The row of its use stays."""
    if change.actor != layout.SYSTEM_ACTOR or change.at_ms < record.expires_at_ms:
        raise invalid("expire: an approval expires only once its expiry has passed")
    writes: list[Put | Delete] = [Delete(layout.APPROVALS, record.session_id + record.id)]
    key = request_key_of(record)
    if rows.get(layout.COUNTERS, key) == record.id:
        writes.append(Delete(layout.COUNTERS, key))
    fewer = without_pending(rows.counts(record.session_id), record)
    return Effect([*writes, *put_counts(rows, record.session_id, fewer)], record.epoch)
