"""The rules of approvals: asked for, answered by signed statements or a denial, gone past their expiry."""

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
from .counter_keys import asked_key_of, counts_key
from .effects import Delete, Effect, Put
from .ports import Rows
from .validation import RuleViolation, acting, bounded, invalid, sized, text, usable


def answered(counts: SessionCounts, record: ApprovalRecord) -> SessionCounts:
    """Return the counts once a record, as it was, does not wait any more."""
    if record.status is ApprovalStatus.PENDING and counts.waiting(record.epoch):
        return replace(counts, open_approvals=counts.open_approvals - 1)
    return counts


def request_approval(rows: Rows, change: Change, revision: int) -> Effect:
    """Write down that an approval is asked for; one at a time for the same call at the same epoch."""
    try:
        asked = ApprovalRecord.from_record(cast("dict[str, Any]", change.body["approval"]))
    except (ValueError, KeyError, TypeError) as error:
        raise invalid(f"approval: {error}") from error
    session = acting(rows, change)
    _hold_form(asked, session)
    if rows.approval(session.id, asked.id) is not None or rows.approval_used(session.id, asked.id):
        raise RuleViolation(Rejection.ALREADY_EXISTS, "approval.id: an approval has this id")
    record = replace(
        asked,
        requested_at_ms=change.at_ms,
        expires_at_ms=_expiry(asked.expires_at_ms, session, change.at_ms),
        status=ApprovalStatus.PENDING,
        revision=revision,
    )
    counts = rows.counts(session.id)
    writes: list[Put | Delete] = []
    key = asked_key_of(record)
    before = rows.get(layout.COUNTERS, key)
    earlier = rows.approval(session.id, before) if before is not None else None
    if earlier is not None:
        if change.at_ms < earlier.expires_at_ms:
            detail = f"approval: it was asked for already, as {earlier.id.hex()} ({earlier.status.name})"
            raise RuleViolation(Rejection.ALREADY_EXISTS, detail)
        writes.append(Delete(layout.APPROVALS, session.id + earlier.id))
        counts = answered(counts, earlier)
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


def _hold_form(asked: ApprovalRecord, session: Session) -> None:
    """Refuse a record that no call of the session could have asked for, or that is answered already."""
    sized("approval.id", asked.id, 16)
    sized("approval.block_id", asked.block_id, 32)
    sized("approval.request_digest", asked.request_digest, 32)
    if asked.session_id != session.id:
        raise invalid("approval.session_id: is not the change's")
    if asked.epoch != session.epoch:
        detail = f"approval.epoch: {asked.epoch}, but the session is at {session.epoch}"
        raise RuleViolation(Rejection.EPOCH_MISMATCH, detail)
    if asked.block >= limits.MAX_BLOCKS or asked.scope >= limits.MAX_SCOPES:
        raise invalid("approval.block, approval.scope: no token has such a scope")
    for key in bounded("approval.keys", asked.keys, limits.MAX_APPROVAL_KEYS, least=1):
        sized("approval.keys", key, 32)
    if len(set(asked.keys)) != len(asked.keys):
        raise invalid("approval.keys: one is there twice")
    if not 1 <= asked.threshold <= len(asked.keys):
        raise invalid("approval.threshold: must be 1 to the number of keys")
    text("approval.action", asked.action, required=True, max_bytes=limits.MAX_ACTION_CHARS)
    text("approval.resource", asked.resource, required=True, max_bytes=limits.MAX_RESOURCE_BYTES)
    if len(asked.arguments) > limits.MAX_APPROVAL_ARGUMENT_BYTES:
        most = limits.MAX_APPROVAL_ARGUMENT_BYTES
        raise RuleViolation(Rejection.LIMIT, f"approval.arguments: an approver is shown at most {most} bytes")
    for label in bounded("approval.labels", asked.labels, limits.MAX_BLOCKS):
        text("approval.labels", label)
    text("approval.gateway", asked.gateway, required=True)
    if asked.statements or asked.denied_by or asked.reason or asked.status is not ApprovalStatus.PENDING:
        raise invalid("approval.status: it is asked for PENDING and without answers")


def _expiry(expires_at_ms: int, session: Session, at_ms: int) -> int:
    """Return when a request expires: as asked (0: as late as may be), never beyond its session's hard end."""
    latest = min(at_ms + limits.APPROVAL_TTL_MS, session.expires_at_ms)
    if expires_at_ms and not at_ms < expires_at_ms <= at_ms + limits.APPROVAL_TTL_MS:
        raise invalid(f"approval.expires_at_ms: must be within {limits.APPROVAL_TTL_MS} ms behind {at_ms}")
    return min(expires_at_ms or latest, latest)


def answer_approval(rows: Rows, change: Change, revision: int) -> Effect:
    """Add a statement to an approval, deny it, or remove it past its expiry."""
    body = cast("dict[str, Any]", change.body)
    record = rows.approval(change.session_id, sized("approval_id", body.get("approval_id", b""), 16))
    if record is None:
        raise RuleViolation(Rejection.NOT_FOUND, "approval_id: no such approval")
    statement, deny, expire = body.get("statement"), bool(body.get("deny")), bool(body.get("expire"))
    if (statement is not None) + deny + expire != 1:
        raise invalid("statement, deny: give exactly one")
    if expire:
        return _expired(rows, change, record)
    session = usable(rows, change)
    if record.epoch != session.epoch:
        detail = f"approval_id: it is of epoch {record.epoch}, the session is at {session.epoch}"
        raise RuleViolation(Rejection.EPOCH_MISMATCH, detail)
    if change.at_ms >= record.expires_at_ms:
        raise RuleViolation(Rejection.WRONG_STATUS, f"approval_id: it expired at {record.expires_at_ms}")
    if record.status not in (ApprovalStatus.PENDING, ApprovalStatus.GRANTED):
        raise RuleViolation(Rejection.WRONG_STATUS, f"approval_id: it is {record.status.name} already")
    if statement is None:
        reason = text("reason", body.get("reason", ""))
        denied = replace(record, status=ApprovalStatus.DENIED, denied_by=change.actor, reason=reason)
        return _moved(rows, session, record, replace(denied, revision=revision))
    granted = _granted(record, SignedApproval.from_record(statement), change.at_ms)
    return _moved(rows, session, record, replace(granted, revision=revision))


def _granted(record: ApprovalRecord, signed: SignedApproval, at_ms: int) -> ApprovalRecord:
    """Return a record with one more statement; those that expired make room for others."""
    try:
        check_statement(signed, terms_of(record), at_ms, approval_id=record.id)
    except InvalidApproval as error:
        raise RuleViolation(Rejection.BAD_APPROVAL, f"statement: {error}") from error
    standing = [each for each in record.statements if _expires_at_ms(each) > at_ms]
    if len(standing) >= record.threshold:
        raise RuleViolation(Rejection.WRONG_STATUS, "approval_id: it is GRANTED already")
    if any(each.public_key == signed.public_key for each in standing):
        raise RuleViolation(
            Rejection.BAD_APPROVAL, "statement: its key has signed already; another must sign"
        )
    statements = (*standing, signed)
    enough = record.status is ApprovalStatus.GRANTED or len(statements) >= record.threshold
    status = ApprovalStatus.GRANTED if enough else ApprovalStatus.PENDING
    return replace(record, statements=statements, status=status)


def _expires_at_ms(signed: SignedApproval) -> int:
    return ApprovalStatement.decode(signed.statement).expires_at_ms


def _moved(rows: Rows, session: Session, before: ApprovalRecord, after: ApprovalRecord) -> Effect:
    writes = [Put(layout.APPROVALS, session.id + after.id, after.encode())]
    if after.status is not ApprovalStatus.PENDING:
        writes += _counted(rows, before)
    return Effect(writes, session.epoch)


def _counted(rows: Rows, before: ApprovalRecord) -> list[Put]:
    """Write the counts without a record that waited."""
    counts = rows.counts(before.session_id)
    fewer = answered(counts, before)
    return [] if fewer == counts else [Put(layout.COUNTERS, counts_key(before.session_id), fewer.encode())]


def _expired(rows: Rows, change: Change, record: ApprovalRecord) -> Effect:
    """Remove a record past its expiry, in a session of any status. That it was used up stays written."""
    if change.actor != layout.SYSTEM_ACTOR or change.at_ms < record.expires_at_ms:
        raise invalid("expire: an approval goes by itself, past its expiry")
    writes: list[Put | Delete] = [Delete(layout.APPROVALS, record.session_id + record.id)]
    key = asked_key_of(record)
    if rows.get(layout.COUNTERS, key) == record.id:
        writes.append(Delete(layout.COUNTERS, key))
    return Effect([*writes, *_counted(rows, record)], record.epoch)
