"""Allocates the cost of a call: chooses the scopes whose needs are met, and adds up their cost.

The kernel calls a cost policy once all other stages allow. A policy only reads: its allocation is written
afterwards, in the same transaction, by its maker (:mod:`sessauth.server.writer.authorizer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ... import limits
from ..._fast._check import CostClaims, Price
from ...model.approval import ApprovalCharge, ApprovalRecord
from ...model.approval_rules import ApprovalOutcome, ApprovalTerms, judge_approvals
from ...model.costs import BudgetClaim, Ledger, Permit, SessionCounts, UseClaim, ledger_id, nanos
from ...reasons import Reason
from ...scopes.value import Number

# ``charge`` returns this for a call that is paid for.
CHARGED: Final = 0


class CostReader(Protocol):
    """Reader of sessions' costs, as the changes before left them."""

    def uses(self, session_id: bytes, block_id: bytes, scope: int) -> int:
        """Return the number of uses of a scope."""
        ...

    def ledger(self, session_id: bytes, ledger: bytes) -> Ledger:
        """Return a budget's ledger."""
        ...

    def requested_approval(
        self, session_id: bytes, block_id: bytes, block: int, scope: int, epoch: int, request_digest: bytes
    ) -> ApprovalRecord | None:
        """Return the approval that was last requested for a call."""
        ...

    def approval_used(self, session_id: bytes, approval_id: bytes) -> bool:
        """Return True if an approval was used up."""
        ...

    def counts(self, session_id: bytes) -> SessionCounts:
        """Return a session's counts of open permits and approvals."""
        ...


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

    def used(self, block_id: bytes, scope: int) -> int:
        """Return the number of uses of a scope by this call so far."""
        return sum(claim.block_id == block_id and claim.scope == scope for claim in self.uses)

    def charged(self, ledger: bytes) -> int:
        """Return this call's charge to a ledger so far, in billionths."""
        return sum(nanos(claim.amount) for claim in self.budgets if claim.ledger == ledger)


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

    def __init__(self, account: CostReader, terms: PaymentTerms) -> None:
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
        stored = self._account.uses(self.session_id, use.block_id, use.scope)
        return stored + self.allocation.used(use.block_id, use.scope)

    def _charged(self, ledger: bytes) -> int:
        """Return a ledger's spent and reserved amounts, this call's included, in billionths."""
        row = self._account.ledger(self.session_id, ledger)
        return nanos(row.spent) + nanos(row.reserved) + self.allocation.charged(ledger)


class PrepaidPolicy:
    """Pays for a call that was allowed, and charged for, before."""

    def charge(self, claims: CostClaims) -> int:
        """Return :data:`CHARGED`."""
        return CHARGED


class MismatchedRetryPolicy:
    """Pays for nothing: another call had this retry id."""

    def charge(self, claims: CostClaims) -> int:
        """Return MALFORMED_REQUEST, at the retry id."""
        claims.fail(argument="retry_id")
        return Reason.MALFORMED_REQUEST


class PermitPolicy:
    """Pays with a permit if it is open and this very call's."""

    def __init__(
        self, permit: Permit | None, *, gateway: str, token_digest: bytes, request_digest: bytes
    ) -> None:
        """Pay with ``permit`` (None: there is none) for a call of ``gateway`` with these digests."""
        self._permit = permit
        self._call = (gateway, token_digest, request_digest)

    def charge(self, claims: CostClaims) -> int:
        """Return :data:`CHARGED`, or BAD_PERMIT."""
        permit = self._permit
        if (
            permit is not None
            and (permit.gateway, permit.token_digest, permit.request_digest) == self._call
            and permit.session_id == claims.session_id
            and permit.epoch == claims.epoch
            and permit.deadline_ms > claims.checked_at_ms
        ):
            return CHARGED
        claims.fail()
        return Reason.BAD_PERMIT
