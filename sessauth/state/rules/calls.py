"""Rules of calls that cost something or need an approval: uses, budgets, permits with a reserve, approvals.

A consumption takes all its claims or none. A permit is void once the session's epoch differs from its own.
So a narrowing, a suspension and an end walk no table. A change of an ancestor does not move that epoch: the
writer evaluates the call again, in the transaction that consumes or settles, by the ancestors' present state.

An approval is requested, answered by signed statements or a denial, and removed after its expiry.
"""

from __future__ import annotations

from typing import Any, cast

from ... import limits
from ..._fast._check import replaced
from ...errors import InvalidApproval, ScopeError
from ...model.approval import (
    ApprovalRecord,
    ApprovalStatement,
    ApprovalStatus,
    SignedApproval,
    check_statement,
    terms_of,
)
from ...model.change import (
    ZERO,
    BudgetClaim,
    Change,
    Ledger,
    Permit,
    Rejection,
    SessionCounts,
    Settlement,
    nanos,
)
from ...model.session import Session
from ...scopes.value import NANOS, Number
from .. import layout
from .effects import (
    Delete,
    Effect,
    Put,
    Rows,
    corrupt,
    counts_key,
    ledger_key,
    request_key_of,
    used_approval_key,
    uses_key,
)
from .validation import (
    RuleViolation,
    invalid,
    require_active,
    require_alive,
    require_count,
    require_size,
    require_text,
)

_COUNT_BYTES = 8
_MAX_COUNT = 2 ** (8 * _COUNT_BYTES) - 1


def consume(rows: Rows, change: Change, revision: int) -> Effect:
    """Consume all the claims of a call or none, in a session whose calls can be allowed.

    Without claims only the outcome is stored, for retries.
    """
    body = cast("dict[str, Any]", change.body)
    if not change.expected_epoch:
        raise invalid("expected_epoch: a consumption states the epoch at which the call was checked")
    gateway = require_text("gateway", body.get("gateway", ""), required=True)
    token_digest = require_size("token_digest", body.get("token_digest", b""), 32)
    request_digest = require_size("request_digest", body.get("request_digest", b""), 32)
    claims = _budget_claims(body)
    session = require_active(rows, change)
    counts = rows.counts(session.id)
    writes: list[Put | Delete] = []
    counts = _use_approvals(rows, session, change, counts, revision, writes)
    _consume_uses(rows, session, body, writes)
    grant = body.get("permit")
    for claim in claims:
        ledger = _charge(rows.ledger(session.id, claim.ledger), claim, reserve=grant is not None)
        writes.append(Put(layout.COUNTERS, ledger_key(session.id, claim.ledger), ledger.encode()))
    counts = replaced(counts, counters=counts.counters + _count_new(rows, writes))
    if counts.counters > layout.MAX_COUNTERS:
        detail = f"uses, budgets, approval_ids: a session counts at most {layout.MAX_COUNTERS} of them"
        raise RuleViolation(Rejection.LIMIT, detail)
    if grant is None:
        return Effect([*writes, *put_counts(rows, session.id, counts)], session.epoch)
    if counts.open_permits >= limits.MAX_OPEN_PERMITS:
        detail = f"permit: {limits.MAX_OPEN_PERMITS} are open already; commit or release some"
        raise RuleViolation(Rejection.LIMIT, detail)
    permit = Permit(
        require_size("permit.id", grant.get("id", b""), 16),
        session.id,
        gateway,
        session.epoch,
        token_digest,
        request_digest,
        _deadline(int(grant.get("deadline_ms", 0)), change.at_ms),
        claims,
    )
    if rows.permit(session.id, permit.id) is not None:
        raise RuleViolation(Rejection.ALREADY_EXISTS, "permit.id: a permit has this id")
    writes.append(Put(layout.PERMITS, session.id + permit.id, permit.encode()))
    counts = replaced(counts, open_permits=counts.open_permits + 1)
    return Effect(
        [*writes, *put_counts(rows, session.id, counts)],
        session.epoch,
        permit_id=permit.id,
        permit_deadline_ms=permit.deadline_ms,
    )


def _count_new(rows: Rows, writes: list[Put | Delete]) -> int:
    """Return the number of counters that the writes create."""
    keys = [write.key for write in writes if isinstance(write, Put) and write.table == layout.COUNTERS]
    return sum(rows.get(layout.COUNTERS, key) is None for key in keys)


def _use_approvals(
    rows: Rows,
    session: Session,
    change: Change,
    counts: SessionCounts,
    revision: int,
    writes: list[Put | Delete],
) -> SessionCounts:
    """Use approvals; return the counts without those that were pending."""
    body, at_ms = cast("dict[str, Any]", change.body), change.at_ms
    approval_ids = require_count("approval_ids", body.get("approval_ids", ()), limits.MAX_BLOCKS)
    if len(set(approval_ids)) != len(approval_ids):
        raise invalid("approval_ids: one is there twice")
    for approval_id in approval_ids:
        require_size("approval_ids", approval_id, 16)
        if rows.approval_used(session.id, approval_id):
            raise RuleViolation(Rejection.APPROVAL_USED, "approval_ids: one was used up by another call")
        writes.append(
            Put(
                layout.COUNTERS,
                used_approval_key(session.id, approval_id),
                revision.to_bytes(_COUNT_BYTES, "big"),
            )
        )
        record = rows.approval(session.id, approval_id)
        if record is None:
            continue
        if record.status is ApprovalStatus.DENIED and at_ms < record.expires_at_ms:
            raise RuleViolation(Rejection.APPROVAL_DENIED, "approval_ids: an approver denied it")
        if record.epoch != session.epoch or record.request_digest != body["request_digest"]:
            raise RuleViolation(Rejection.BAD_APPROVAL, "approval_ids: one has another request or epoch")
        used = replaced(record, status=ApprovalStatus.USED, revision=revision)
        writes.append(Put(layout.APPROVALS, session.id + approval_id, used.encode()))
        writes.append(Delete(layout.COUNTERS, request_key_of(record)))
        counts = without_pending(counts, record)
    return counts


def _consume_uses(rows: Rows, session: Session, body: dict[str, Any], writes: list[Put | Delete]) -> None:
    keys = set()
    for claim in require_count("uses", body.get("uses", ()), limits.MAX_BLOCKS):
        block_id = require_size("uses.block_id", claim.get("block_id", b""), 32)
        scope, most = int(claim.get("scope", 0)), int(claim.get("limit", 0))
        if scope >= limits.MAX_SCOPES or not most:
            raise invalid("uses: a claim needs the index of a scope and a limit of at least 1")
        key = uses_key(session.id, block_id, scope)
        if key in keys:
            raise invalid("uses: one scope is there twice")
        keys.add(key)
        count = rows.uses(session.id, block_id, scope)
        if count >= min(most, _MAX_COUNT):
            raise RuleViolation(Rejection.USES_EXHAUSTED, f"uses: {count} of {most} are gone")
        writes.append(Put(layout.COUNTERS, key, (count + 1).to_bytes(_COUNT_BYTES, "big")))


def _budget_claims(body: dict[str, Any]) -> tuple[BudgetClaim, ...]:
    records = require_count("budgets", body.get("budgets", ()), limits.MAX_BLOCKS)
    try:
        claims = tuple(map(BudgetClaim.from_record, records))
    except ScopeError as error:
        raise invalid(f"budgets: {error}") from error
    for claim in claims:
        require_size("budgets.ledger", claim.ledger, 32)
        if claim.amount < ZERO:
            raise invalid("budgets.amount: must not be negative")
    if len({claim.ledger for claim in claims}) != len(claims):
        raise invalid("budgets: one ledger is there twice")
    return claims


def _sum(*numbers: Number) -> int:
    """Return a sum in units of 10^-9, an integer that can't overflow."""
    return sum(map(nanos, numbers))


def _number(total: int) -> Number:
    return Number(total // NANOS, total % NANOS)


def _charge(ledger: Ledger, claim: BudgetClaim, *, reserve: bool) -> Ledger:
    """Return a ledger after a claim was spent or reserved; raises BUDGET_EXHAUSTED above the claim's limit.

    The limit is a number of the format, so every sum below it is one too.
    """
    if _sum(ledger.spent, ledger.reserved, claim.amount) > nanos(claim.limit):
        detail = (
            f"budgets: {claim.amount} exceeds the remaining budget: "
            f"{ledger.spent} of {claim.limit} are spent and {ledger.reserved} are reserved"
        )
        raise RuleViolation(Rejection.BUDGET_EXHAUSTED, detail)
    if reserve:
        return replaced(ledger, reserved=_number(_sum(ledger.reserved, claim.amount)))
    return replaced(ledger, spent=_number(_sum(ledger.spent, claim.amount)))


def _deadline(deadline_ms: int, at_ms: int) -> int:
    if not at_ms < deadline_ms <= min(at_ms + limits.MAX_PERMIT_MS, limits.MAX_TIME_MS):
        detail = f"permit.deadline_ms: {deadline_ms} is not within {limits.MAX_PERMIT_MS} ms after {at_ms}"
        raise invalid(detail)
    return deadline_ms


def settle_permit(rows: Rows, change: Change, revision: int) -> Effect:
    """Close an open permit: spend its reserve, or release it."""
    body = cast("dict[str, Any]", change.body)
    settlement = body.get("settlement", 0)
    if settlement not in (Settlement.COMMIT, Settlement.RELEASE, Settlement.EXPIRE):
        raise invalid("settlement: must be COMMIT, RELEASE or EXPIRE")
    permit_id = require_size("permit_id", body.get("permit_id", b""), 16)
    permit = rows.permit(change.session_id, permit_id)
    if permit is None:
        raise RuleViolation(Rejection.BAD_PERMIT, "permit_id: no such permit is open")
    if settlement == Settlement.EXPIRE:
        if change.actor != layout.SYSTEM_ACTOR or change.at_ms < permit.deadline_ms:
            raise invalid("settlement: a permit expires by itself, at its deadline")
    elif permit.gateway != body.get("gateway", ""):
        raise RuleViolation(Rejection.BAD_PERMIT, "gateway: the permit is another's")
    if settlement == Settlement.COMMIT:
        _require_open(rows, change, permit)
    writes: list[Put | Delete] = [Delete(layout.PERMITS, permit.session_id + permit.id)]
    for claim in permit.reserved:
        reserve = rows.ledger(permit.session_id, claim.ledger)
        ledger = _release(reserve, claim, spend=settlement == Settlement.COMMIT)
        writes.append(Put(layout.COUNTERS, ledger_key(permit.session_id, claim.ledger), ledger.encode()))
    counts = rows.counts(permit.session_id)
    if not counts.open_permits:
        raise corrupt(f"the permits of session {permit.session_id.hex()}", "fewer permits than there are")
    counts = replaced(counts, open_permits=counts.open_permits - 1)
    writes.append(Put(layout.COUNTERS, counts_key(permit.session_id), counts.encode()))
    return Effect(writes, permit.epoch)


def _require_open(rows: Rows, change: Change, permit: Permit) -> None:
    """Raise BAD_PERMIT after the permit's deadline, or if its session is not active or at another epoch."""
    if change.at_ms >= permit.deadline_ms:
        raise RuleViolation(
            Rejection.BAD_PERMIT, f"permit_id: its deadline, {permit.deadline_ms}, has passed"
        )
    try:
        session = require_active(rows, change)
    except RuleViolation as refusal:
        raise RuleViolation(Rejection.BAD_PERMIT, refusal.detail) from refusal
    if session.epoch != permit.epoch:
        detail = f"permit_id: its epoch is {permit.epoch}, the session is at {session.epoch}"
        raise RuleViolation(Rejection.BAD_PERMIT, detail)


def _release(ledger: Ledger, claim: BudgetClaim, *, spend: bool) -> Ledger:
    """Return a ledger after a reserve was spent or released."""
    left = nanos(ledger.reserved) - nanos(claim.amount)
    if left < 0:
        raise corrupt(f"ledger {claim.ledger.hex()}", "less is reserved than a permit holds")
    spent = _number(_sum(ledger.spent, claim.amount)) if spend else ledger.spent
    return Ledger(spent, _number(left))


def without_pending(counts: SessionCounts, record: ApprovalRecord) -> SessionCounts:
    """Return the counts after a record, given as it was before, is no longer pending."""
    if record.status is ApprovalStatus.PENDING and counts.waiting(record.epoch):
        return replaced(counts, open_approvals=counts.open_approvals - 1)
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
    record = replaced(
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
    counts = replaced(counts, open_approvals=waiting + 1, approvals_epoch=session.epoch)
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
        denied = replaced(record, status=ApprovalStatus.DENIED, denied_by=change.actor, reason=reason)
        return _replace(rows, session, record, replaced(denied, revision=revision))
    granted = _add_statement(record, SignedApproval.from_record(statement), change.at_ms)
    return _replace(rows, session, record, replaced(granted, revision=revision))


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
    return replaced(record, statements=statements, status=status)


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
