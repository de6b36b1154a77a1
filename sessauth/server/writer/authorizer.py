"""Authorizes calls that cost something, within the writer's transaction.

A verifier only finds that such a call needs the writer. Here the call is checked again, stage by stage, by
the rows that its change is applied to a moment later: no other change comes in between, and both are durable
together, or neither is.

The kernel calls a cost policy once all other stages allow. The policy chooses the scopes whose needs are met,
and adds up their cost. It only reads: its allocation is written afterwards, in the same transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final, Protocol

from ... import limits
from ..._fast._check import Checker, CostClaims, Decision, Price, View, request_digest
from ...errors import Rejected
from ...model.approval import ApprovalCharge, ApprovalOutcome, ApprovalRecord, ApprovalTerms, judge_approvals
from ...model.change import (
    BudgetClaim,
    Change,
    ChangeOutcome,
    Permit,
    Rejection,
    Settlement,
    UseClaim,
    consume,
    ledger_id,
    nanos,
    once_change_id,
    request_approval,
    retry_change_id,
    settle_permit,
)
from ...model.host import SECOND_FORMAT, ItemProof
from ...reasons import Reason, Stage
from ...scopes.value import Number
from ...state.host.proof_keys import TakesProofs
from ...state.lmdb.environment import LmdbSource
from ...state.lmdb.rows import TxnRows
from ...state.writer.group import Group, GroupSource
from ...tokens.token import Token

PERMIT_ID_BYTES: Final = 16
PERMIT_BYTES: Final = 32
APPROVAL_ID_BYTES: Final = 16
# Reasons for the log's rejections. Normally unreachable: the same rows were checked a moment before.
REASON_BY_REJECTION: Final = {
    Rejection.USES_EXHAUSTED.value: Reason.USES_EXHAUSTED,
    Rejection.BUDGET_EXHAUSTED.value: Reason.BUDGET_EXHAUSTED,
    Rejection.LIMIT.value: Reason.BUDGET_EXHAUSTED,
    Rejection.APPROVAL_USED.value: Reason.BAD_APPROVAL,
    Rejection.BAD_APPROVAL.value: Reason.BAD_APPROVAL,
    Rejection.APPROVAL_DENIED.value: Reason.APPROVAL_DENIED,
    Rejection.BAD_PERMIT.value: Reason.BAD_PERMIT,
}

# Reasons after which a call can never be allowed again: its session is over.
FINAL_REASONS: Final = frozenset({Reason.SESSION_ENDED, Reason.LEASE_LAPSED, Reason.SESSION_EXPIRED})


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One call of a gateway: the parameters of ``Checker.check``, and its means of payment.

    ``token`` to ``proof`` are in the order of ``CheckMessage.call``.
    """

    gateway: str
    token: bytes
    action: bytes
    resource: bytes
    arguments: bytes = b""
    tool: bytes = b""
    session: bytes = b""
    source: str = ""
    peer: tuple[str, ...] = ()
    proof: bytes = b""
    audience: str = ""
    at_least_revision: int = 0
    approvals: tuple[bytes, ...] = ()
    retry_id: bytes = b""
    permit_ms: int = 0
    # The result for its proof by another host, if that one received the call.
    elsewhere: ItemProof = ItemProof.NOT_JUDGED

    @property
    def token_digest(self) -> bytes:
        """BLAKE2b-256 of the presented token."""
        return blake2b(self.token, digest_size=32).digest()

    @property
    def request_digest(self) -> bytes:
        """The request's digest (``docs/token-format.md``, section 8.1)."""
        return request_digest(self.action, self.resource, self.arguments)


@dataclass(frozen=True, slots=True)
class WriterDecision:
    """The writer's decision, with a permit (32 bytes), or with the approval that is missing."""

    decision: Decision
    permit: bytes = b""
    permit_expires_at_ms: int = 0
    approval: ApprovalRecord | None = None


class WriterAuthorizer:
    """Decides calls within groups. Every method but the constructor is for the writer's thread alone.

    It has a checker of its own, whose view is entered again for each call. A checker caches state that only
    grows: revoked blocks, extended leases. A group that was not committed may have shown it state that never
    comes, so after such a group it is replaced.
    """

    def __init__(self, source: LmdbSource, host: TakesProofs, *, cache_bytes: int) -> None:
        """Decide by the rows of ``source``; verified chains may take ``cache_bytes``.

        Proofs count here as they do for ``host``, the process's own checker.
        """
        self._host = host
        self._rows = GroupSource(source)
        self._cache_bytes = cache_bytes
        self._checker = self._new_checker()
        self._group: Group | None = None

    def check(self, group: Group, request: CallRequest) -> WriterDecision:
        """Decide a call, and charge for it if it is allowed.

        Raises StateFull above the 85 % mark.
        """
        _require_room(group)
        change_id = (
            retry_change_id(request.gateway, request.retry_id) if request.retry_id else once_change_id()
        )
        first = group.first_outcome(change_id) if request.retry_id else None
        if first is not None and first.applied:
            return self._retry(group, request, change_id, first)
        if request.elsewhere is ItemProof.REPLAYED:
            # The call that had this proof was not this one.
            return WriterDecision(self._checker.refuse(Stage.PROOF, Reason.REPLAYED))
        terms = PaymentTerms(request.request_digest, request.approvals, wants_permit=request.permit_ms > 0)
        costs = CostAllocator(group.rows, terms)
        decision = self._evaluate(group, request, costs)
        if not decision:
            return self._denied(group, request, costs, decision)
        allocation = costs.allocation
        if not (allocation or request.permit_ms or request.retry_id):
            return WriterDecision(decision)
        change = consume(
            change_id,
            costs.session_id,
            gateway=request.gateway,
            token_digest=request.token_digest,
            request_digest=request.request_digest,
            expected_epoch=costs.epoch,
            uses=allocation.uses,
            budgets=allocation.budgets,
            approval_ids=allocation.approval_ids,
            permit_id=secrets.token_bytes(PERMIT_ID_BYTES) if request.permit_ms else b"",
            permit_deadline_ms=group.at_ms + request.permit_ms if request.permit_ms else 0,
        )
        return self._submit(decision, change, group)

    def commit(self, group: Group, request: CallRequest, permit: bytes) -> WriterDecision:
        """Check the call of a permit again, and use the permit up if it is allowed.

        Raises as :meth:`check` does.
        """
        _require_room(group)
        session_id, permit_id = _permit_ids(permit)
        policy = self._permit_policy(group, request, session_id, permit_id)
        # The proof of the check may be too old by now; the permit is bound to that call.
        decision = self._evaluate(group, request, policy, skip_proof=True)
        if not decision:
            self._release_dead(group, request, session_id, permit_id, decision)
            return WriterDecision(decision)
        change = settle_permit(
            once_change_id(), session_id, permit_id, Settlement.COMMIT, gateway=request.gateway
        )
        return self._submit(decision, change, group)

    def release(self, group: Group, gateway: str, permit: bytes) -> ChangeOutcome:
        """Release a permit's reserve.

        Raises Rejected NOT_FOUND for one that is not open, or another gateway's; and as :meth:`check` does.
        """
        session_id, permit_id = _permit_ids(permit)
        stored = group.rows.permit(session_id, permit_id)
        if stored is None or stored.gateway != gateway:
            raise Rejected(Rejection.NOT_FOUND.value, "permit: none that is open and this credential's")
        change = settle_permit(once_change_id(), session_id, permit_id, Settlement.RELEASE, gateway=gateway)
        return group.submit(change).raise_if_rejected()

    def _retry(
        self, group: Group, request: CallRequest, change_id: str, first: ChangeOutcome
    ) -> WriterDecision:
        """Check a call that was allowed under this retry id: it is paid for, by its permit where it has one.

        A permit that was committed, released or has expired pays for nothing more.
        """
        same = consume(
            change_id,
            first.session_id,
            gateway=request.gateway,
            token_digest=request.token_digest,
            request_digest=request.request_digest,
            expected_epoch=0,
        )
        is_same = first.digest == same.digest()
        policy: CostPolicy = RetryPolicy(is_same)
        if is_same and first.permit_id:
            policy = self._permit_policy(group, request, first.session_id, first.permit_id)
        decision = self._evaluate(group, request, policy)
        if decision.reason == Reason.REPLAYED:
            # It was the proof of the first attempt. A proof made for this attempt is consumed.
            decision = self._evaluate(group, request, policy, consume_nonce=False)
        return _with_permit(decision, first) if decision else WriterDecision(decision)

    def _release_dead(
        self, group: Group, request: CallRequest, session_id: bytes, permit_id: bytes, decision: Decision
    ) -> None:
        """Release the permit of a session that is over, since its own gateway learns that now.

        It can never be committed. Left open, it would count until its deadline, and the session's end would
        not be complete before.
        """
        stored = group.rows.permit(session_id, permit_id)
        if stored is None or decision.reason not in FINAL_REASONS:
            return
        if (stored.gateway, stored.token_digest) == (request.gateway, request.token_digest):
            change_id, release = once_change_id(), Settlement.RELEASE
            group.submit(settle_permit(change_id, session_id, permit_id, release, gateway=request.gateway))

    def _permit_policy(
        self, group: Group, request: CallRequest, session_id: bytes, permit_id: bytes
    ) -> PermitPolicy:
        call = request.gateway, request.token_digest, request.request_digest
        return PermitPolicy(group.rows.permit(session_id, permit_id), call)

    def _evaluate(
        self,
        group: Group,
        request: CallRequest,
        policy: CostPolicy,
        *,
        consume_nonce: bool = True,
        skip_proof: bool = False,
    ) -> Decision:
        self._enter(group)
        self._checker.proofs = self._host.proofs
        now_ms = group.at_ms
        try:
            return self._checker._check(
                request.token,
                request.action,
                request.resource,
                request.arguments,
                tool=request.tool,
                session=request.session,
                source=request.source,
                peer=request.peer,
                audience=request.audience,
                at_least_revision=request.at_least_revision,
                now_ms=now_ms,
                # The wall clock may lag behind the last logged time by no more than a checker accepts.
                clock_suspect=bool(group.suspect) or group.wall_ms + limits.CLOCK_STEP_MS < now_ms,
                proof=request.proof,
                consume_nonce=consume_nonce,
                skip_proof=skip_proof or request.elsewhere is not ItemProof.NOT_JUDGED,
                cost_handler=policy,
            )
        finally:
            self._rows.leave()

    def _enter(self, group: Group) -> None:
        if group is not self._group:
            if self._group is not None and not self._group.durable:
                self._checker = self._new_checker()
            self._group = group
        self._rows.enter(group)

    def _new_checker(self) -> Checker:
        return Checker(View(self._rows), cache_bytes=self._cache_bytes)

    def _denied(
        self, group: Group, request: CallRequest, costs: CostAllocator, decision: Decision
    ) -> WriterDecision:
        """Return a denial; with the missing approval, which is requested now if it was not before."""
        unmet = costs.unmet
        if unmet is None or unmet.terms is None or unmet.reason is not Reason.APPROVAL_REQUIRED:
            return WriterDecision(decision)
        approval = _requested_approval(group, request, unmet.terms, unmet.approval_id, costs.charges)
        return WriterDecision(decision, approval=approval)

    def _submit(self, decision: Decision, change: Change, group: Group) -> WriterDecision:
        """Charge for an allowed call; returns a denial by the log's rejection if that fails."""
        outcome = group.submit(change)
        if outcome.applied:
            return _with_permit(decision, outcome)
        reason = REASON_BY_REJECTION.get(outcome.rejection, Reason.INTERNAL_ERROR)
        return WriterDecision(self._checker.refuse(Stage.NEEDS, reason))


def _require_room(group: Group) -> None:
    """Raise StateFull before anything is checked; a suspect clock is a denial instead."""
    if not group.suspect:
        group.require_room()


def _with_permit(decision: Decision, outcome: ChangeOutcome) -> WriterDecision:
    if not outcome.permit_id:
        return WriterDecision(decision)
    return WriterDecision(decision, outcome.session_id + outcome.permit_id, outcome.permit_deadline_ms)


def _permit_ids(permit: bytes) -> tuple[bytes, bytes]:
    """Return the session id and the id of a permit; for other bytes, ids that nothing has."""
    if len(permit) != PERMIT_BYTES:
        return bytes(PERMIT_BYTES - PERMIT_ID_BYTES), bytes(PERMIT_ID_BYTES)
    return permit[:-PERMIT_ID_BYTES], permit[-PERMIT_ID_BYTES:]


def _requested_approval(
    group: Group,
    request: CallRequest,
    terms: ApprovalTerms,
    approval_id: bytes,
    charges: tuple[ApprovalCharge, ...],
) -> ApprovalRecord | None:
    """Return the approval that waits for an answer, requested now if none does.

    None if the call is too large to be shown to a person, or if the session has too many approvals.
    """
    rows, now_ms = group.rows, group.at_ms
    waiting = rows.requested_approval(
        terms.session_id, terms.block_id, terms.block, terms.scope, terms.epoch, terms.request_digest
    )
    if waiting is not None and waiting.expires_at_ms > now_ms:
        return waiting
    if len(request.arguments) > limits.MAX_APPROVAL_ARGUMENT_BYTES:
        return None
    blocks = Token.parse(request.token).inspect().blocks
    record = ApprovalRecord(
        # The id of approvals that were granted beforehand, so that others can be added to them.
        id=approval_id or secrets.token_bytes(APPROVAL_ID_BYTES),
        **{name: getattr(terms, name) for name in ApprovalTerms.__slots__},
        action=request.action.decode(),
        resource=request.resource.decode(),
        arguments=request.arguments,
        labels=tuple(block.label for block in blocks if block.label),
        gateway=request.gateway,
    )
    # Hosts of an earlier version can't read more of it.
    if group.writes >= SECOND_FORMAT:
        text = str(blocks[terms.block].scopes[terms.scope])
        # Escapes make a text longer than its token. An approver then reads the scope in the token.
        shown = len(text.encode()) <= limits.MAX_APPROVAL_SCOPE_BYTES
        record = replace(record, scope_text=text if shown else "", charges=charges)
    outcome = group.submit(request_approval(once_change_id(), record, actor=request.gateway))
    return rows.approval(record.session_id, record.id) if outcome.applied else None


# ``charge`` returns this for a call that is paid for.
CHARGED: Final = 0


@dataclass(frozen=True, slots=True)
class PaymentTerms:
    """A call's means of payment: the approvals that came with it. It may want a permit."""

    request_digest: bytes
    approvals: Sequence[bytes] = ()
    wants_permit: bool = False


@dataclass(frozen=True, slots=True)
class UnmetNeed:
    """The reason why a scope's needs are not met.

    If its approval is missing, ``terms`` are that approval's, ``approval_id`` is set if it was requested, and
    ``charge`` is the amount that the scope would take from its budget.
    """

    reason: Reason
    argument: str = ""
    terms: ApprovalTerms | None = None
    approval_id: bytes = b""
    charge: ApprovalCharge | None = None


@dataclass(slots=True)
class Allocation:
    """The costs of a call, in the lists of a Consume."""

    uses: list[UseClaim] = field(default_factory=list)
    budgets: list[BudgetClaim] = field(default_factory=list)
    approval_ids: list[bytes] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return True if there are any."""
        return bool(self.uses or self.budgets or self.approval_ids)


class CostPolicy(Protocol):
    """Decides, once all other stages allow, if a call is paid for."""

    def charge(self, claims: CostClaims) -> int:
        """Return :data:`CHARGED` or the number of a reason, whose position is set in ``claims``."""
        ...


class CostAllocator:
    """Meets the needs of one call from the rows of an account.

    Afterwards ``allocation`` has the call's costs, ``epoch`` and ``session_id`` are those of the check,
    and ``unmet`` is the reason why it is not paid for; None if it is, or if it was not charged. ``charges``
    are the budgets that it would be charged to with the approvals that it lacks.
    """

    def __init__(self, account: TxnRows, terms: PaymentTerms) -> None:
        """Pay for a call from ``account`` by ``terms``."""
        self._account = account
        self._terms = terms
        self.allocation = Allocation()
        self.session_id = b""
        self.epoch = 0
        self.unmet: UnmetNeed | None = None
        self.charges: tuple[ApprovalCharge, ...] = ()

    def charge(self, claims: CostClaims) -> int:
        """Choose each block's first scope whose needs are met; returns :data:`CHARGED` or a reason."""
        self.session_id, self.epoch = claims.session_id, claims.epoch
        missing: tuple[int, int, UnmetNeed] | None = None
        for block, block_id, scopes in claims:
            unmet_needs = []
            for scope, price, amount in scopes:
                unmet = self._allocate(claims, block, block_id, scope, price, amount)
                if unmet is None:
                    claims.choose(block, scope)
                    break
                unmet_needs.append((scope, unmet))
            else:
                scope, unmet = unmet_needs[0]
                if unmet.reason is not Reason.APPROVAL_REQUIRED:
                    return self._fail(claims, unmet, block, scope)
                # Nobody is asked to approve a call that another block denies.
                missing = missing or (block, scope, unmet)
                self._note(unmet.charge)
        open_permits = self._account.counts(self.session_id).open_permits if self._terms.wants_permit else 0
        if open_permits >= limits.MAX_OPEN_PERMITS:
            return self._fail(claims, UnmetNeed(Reason.BUDGET_EXHAUSTED))
        if missing is not None:
            block, scope, unmet = missing
            return self._fail(claims, unmet, block, scope)
        return CHARGED

    def _fail(self, claims: CostClaims, unmet: UnmetNeed, block: int = -1, scope: int = -1) -> int:
        self.unmet = unmet
        claims.fail(block, scope, unmet.argument)
        return unmet.reason

    def _allocate(
        self,
        claims: CostClaims,
        block: int,
        block_id: bytes,
        scope: int,
        price: Price,
        amount: tuple[int, int] | None,
    ) -> UnmetNeed | None:
        """Allocate the cost of one scope; if a need is not met, return it and allocate nothing."""
        use = UseClaim(block_id, scope, price.uses) if price.uses else None
        if use is not None and self._used(use) >= use.limit:
            return UnmetNeed(Reason.USES_EXHAUSTED)
        charge = named = None
        if price.limit is not None:
            if amount is None:
                return UnmetNeed(Reason.CONDITION_FAILED, price.argument)
            # A root block shares its ledger with the others of its session.
            ledger = ledger_id(price.name, price.unit, block_id if block else b"")
            charge = BudgetClaim(ledger, Number(*amount), Number(*price.limit))
            if self._charged(ledger) + nanos(charge.amount) > nanos(charge.limit):
                return UnmetNeed(Reason.BUDGET_EXHAUSTED)
            named = ApprovalCharge(price.name, price.unit, ledger, charge.amount, charge.limit)
        approval_id = b""
        if price.threshold:
            terms = ApprovalTerms(
                self.session_id,
                claims.block_ids[-1],
                block,
                scope,
                self.epoch,
                self._terms.request_digest,
                price.threshold,
                price.keys,
            )
            outcome = self._approved(terms, claims.checked_at_ms)
            if not outcome:
                return UnmetNeed(outcome.reason, "", terms, outcome.approval_id, named)
            approval_id = outcome.approval_id
        if approval_id:
            self.allocation.approval_ids.append(approval_id)
        if use is not None:
            self.allocation.uses.append(use)
        if charge is not None:
            self.allocation.budgets.append(charge)
            self._note(named)
        return None

    def _note(self, charge: ApprovalCharge | None) -> None:
        """Keep a charge for the approver, that of a scope whose approval is missing included."""
        if charge is not None:
            self.charges += (charge,)

    def _approved(self, terms: ApprovalTerms, now_ms: int) -> ApprovalOutcome:
        def is_used(approval_id: bytes) -> bool:
            return approval_id in self.allocation.approval_ids or self._account.approval_used(
                self.session_id, approval_id
            )

        record = self._account.requested_approval(
            terms.session_id, terms.block_id, terms.block, terms.scope, terms.epoch, terms.request_digest
        )
        stored = () if record is None else (record,)
        return judge_approvals(self._terms.approvals, stored, terms, now_ms, is_used=is_used)

    def _used(self, use: UseClaim) -> int:
        """Return the number of uses of a scope, those of this call included."""
        stored = self._account.uses(self.session_id, use.block_id, use.scope)
        own = [(claim.block_id, claim.scope) for claim in self.allocation.uses]
        return stored + own.count((use.block_id, use.scope))

    def _charged(self, ledger: bytes) -> int:
        """Return a ledger's spent and reserved amounts, this call's included, in billionths."""
        row = self._account.ledger(self.session_id, ledger)
        own = sum(nanos(claim.amount) for claim in self.allocation.budgets if claim.ledger == ledger)
        return nanos(row.spent) + nanos(row.reserved) + own


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Pays for a call that was allowed, and charged for, before, if it is the ``same`` one."""

    same: bool

    def charge(self, claims: CostClaims) -> int:
        """Return :data:`CHARGED`; for another call with its retry id MALFORMED_REQUEST, at that id."""
        if self.same:
            return CHARGED
        claims.fail(argument="retry_id")
        return Reason.MALFORMED_REQUEST


@dataclass(frozen=True, slots=True)
class PermitPolicy:
    """Pays with a permit (None: there is none) if it is open and that of ``call``.

    ``call`` are the gateway, the digest of the token and that of the request.
    """

    permit: Permit | None
    call: tuple[str, bytes, bytes]

    def charge(self, claims: CostClaims) -> int:
        """Return :data:`CHARGED`, or BAD_PERMIT."""
        permit = self.permit
        if (
            permit is not None
            and (permit.gateway, permit.token_digest, permit.request_digest) == self.call
            and permit.session_id == claims.session_id
            and permit.epoch == claims.epoch
            and permit.deadline_ms > claims.checked_at_ms
        ):
            return CHARGED
        claims.fail()
        return Reason.BAD_PERMIT
