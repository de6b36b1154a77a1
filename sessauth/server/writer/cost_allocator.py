"""Who pays for a call: chooses the scopes whose needs are met, and adds up what they cost.

The kernel asks a payer once all else allows. A payer only reads: what it found to be taken is written
afterwards, in the same transaction, by who made it (:mod:`sessauth.server.writer.authorizer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ... import limits
from ..._fast.check.cost_claims import CostClaims, Price
from ...model.approval import ApprovalRecord
from ...model.approval_rules import ApprovalOutcome, ApprovalTerms, judge_approvals
from ...model.costs import BudgetClaim, Ledger, Permit, SessionCounts, UseClaim, ledger_id, nanos
from ...reasons import Reason
from ...scopes.value import Number

# What ``pay`` returns for a call that is paid.
PAID: Final = 0


class CostReader(Protocol):
    """The rows of what sessions have taken, as the changes before left them."""

    def uses(self, session_id: bytes, block_id: bytes, scope: int) -> int:
        """Return how often a scope was used."""
        ...

    def ledger(self, session_id: bytes, ledger: bytes) -> Ledger:
        """Return a budget's ledger."""
        ...

    def requested_approval(
        self, session_id: bytes, block_id: bytes, block: int, scope: int, epoch: int, request_digest: bytes
    ) -> ApprovalRecord | None:
        """Return the approval that was last asked for a call."""
        ...

    def approval_used(self, session_id: bytes, approval_id: bytes) -> bool:
        """Whether an approval was used up."""
        ...

    def counts(self, session_id: bytes) -> SessionCounts:
        """Return what a session has open."""
        ...


@dataclass(frozen=True, slots=True)
class PaymentTerms:
    """What a call is paid with: the approvals that came with it; and whether it wants a permit."""

    request_digest: bytes
    approvals: Sequence[bytes] = ()
    wants_permit: bool = False


@dataclass(frozen=True, slots=True)
class UnmetNeed:
    """Why the needs of a scope are not met.

    Where its approval is why, ``terms`` are those of it, and ``approval_id`` is of what there is of it.
    """

    reason: Reason
    argument: str = ""
    terms: ApprovalTerms | None = None
    approval_id: bytes = b""


@dataclass(slots=True)
class Allocation:
    """What a call takes: each list as a Consume has it."""

    uses: list[UseClaim] = field(default_factory=list)
    budgets: list[BudgetClaim] = field(default_factory=list)
    approval_ids: list[bytes] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether it takes anything."""
        return bool(self.uses or self.budgets or self.approval_ids)

    def used(self, block_id: bytes, scope: int) -> int:
        """Return how often this call uses a scope so far."""
        return sum(claim.block_id == block_id and claim.scope == scope for claim in self.uses)

    def charged(self, ledger: bytes) -> int:
        """Return what this call charges a ledger with so far, in billionths."""
        return sum(nanos(claim.amount) for claim in self.budgets if claim.ledger == ledger)


class CostPolicy(Protocol):
    """What the kernel asks, once all else allows, whether a call is paid."""

    def charge(self, claims: CostClaims) -> int:
        """Return :data:`PAID` or the number of a reason; where it lies is told to ``claims``."""
        ...


class CostAllocator:
    """Meets the needs of one call by the rows of an account.

    Afterwards ``taken`` is what the call takes, ``epoch`` and ``session_id`` are those it was judged by, and
    ``refusal`` is why it is not paid; None if it is, or was not asked about.
    """

    def __init__(self, account: CostReader, asked: PaymentTerms) -> None:
        """Pay for a call from ``account``."""
        self._account = account
        self._asked = asked
        self.taken = Allocation()
        self.session_id = b""
        self.epoch = 0
        self.refusal: UnmetNeed | None = None

    def charge(self, claims: CostClaims) -> int:
        """Choose, block by block, the first scope whose needs are met; returns :data:`PAID` or a reason."""
        self.session_id, self.epoch = claims.session_id, claims.epoch
        for block, block_id, scopes in claims:
            refusals = []
            for scope, price, amount in scopes:
                refusal = self._meet(claims, block, block_id, scope, price, amount)
                if refusal is None:
                    claims.choose(block, scope)
                    break
                refusals.append((scope, refusal))
            else:
                scope, self.refusal = refusals[0]
                claims.fail(block, scope, self.refusal.argument)
                return self.refusal.reason
        if self._asked.wants_permit and self._no_permit_left():
            self.refusal = UnmetNeed(Reason.BUDGET_EXHAUSTED)
            claims.fail()
            return self.refusal.reason
        return PAID

    def _no_permit_left(self) -> bool:
        return self._account.counts(self.session_id).open_permits >= limits.MAX_OPEN_PERMITS

    def _meet(
        self,
        claims: CostClaims,
        block: int,
        block_id: bytes,
        scope: int,
        price: Price,
        amount: tuple[int, int] | None,
    ) -> UnmetNeed | None:
        """Take what one scope costs; or return why not, and take nothing."""
        approval_id = b""
        if price.threshold:
            terms = ApprovalTerms(
                self.session_id,
                claims.block_ids[-1],
                block,
                scope,
                self.epoch,
                self._asked.request_digest,
                price.threshold,
                price.keys,
            )
            outcome = self._approved(terms, claims.checked_at_ms)
            if not outcome:
                return UnmetNeed(outcome.reason, terms=terms, approval_id=outcome.approval_id)
            approval_id = outcome.approval_id
        use = UseClaim(block_id, scope, price.uses) if price.uses else None
        if use is not None and self._used(use) >= use.limit:
            return UnmetNeed(Reason.USES_EXHAUSTED)
        charge = None
        if price.limit is not None:
            if amount is None:
                return UnmetNeed(Reason.CONDITION_FAILED, price.argument)
            # A root block shares its ledger with the others of its session.
            ledger = ledger_id(price.name, price.unit, block_id if block else b"")
            charge = BudgetClaim(ledger, Number(*amount), Number(*price.limit))
            if self._charged(ledger) + nanos(charge.amount) > nanos(charge.limit):
                return UnmetNeed(Reason.BUDGET_EXHAUSTED)
        if approval_id:
            self.taken.approval_ids.append(approval_id)
        if use is not None:
            self.taken.uses.append(use)
        if charge is not None:
            self.taken.budgets.append(charge)
        return None

    def _approved(self, terms: ApprovalTerms, now_ms: int) -> ApprovalOutcome:
        def is_used(approval_id: bytes) -> bool:
            return approval_id in self.taken.approval_ids or self._account.approval_used(
                self.session_id, approval_id
            )

        record = self._account.requested_approval(
            terms.session_id, terms.block_id, terms.block, terms.scope, terms.epoch, terms.request_digest
        )
        held = () if record is None else (record,)
        return judge_approvals(self._asked.approvals, held, terms, now_ms, is_used=is_used)

    def _used(self, use: UseClaim) -> int:
        stored = self._account.uses(self.session_id, use.block_id, use.scope)
        return stored + self.taken.used(use.block_id, use.scope)

    def _charged(self, ledger: bytes) -> int:
        """Return what is spent and reserved of a ledger, by this call as well, in billionths."""
        row = self._account.ledger(self.session_id, ledger)
        return nanos(row.spent) + nanos(row.reserved) + self.taken.charged(ledger)


class PrepaidPolicy:
    """Pays for a call that was allowed before: what it costs was taken then."""

    def charge(self, claims: CostClaims) -> int:
        """Return :data:`PAID`."""
        return PAID


class MismatchedRetryPolicy:
    """Pays for nothing: the name of the attempt was given to another call."""

    def charge(self, claims: CostClaims) -> int:
        """Return MALFORMED_REQUEST, at the retry id."""
        claims.fail(argument="retry_id")
        return Reason.MALFORMED_REQUEST


class PermitPolicy:
    """Pays with a permit, if it is open and of this very call."""

    def __init__(
        self, permit: Permit | None, *, gateway: str, token_digest: bytes, request_digest: bytes
    ) -> None:
        """Pay with ``permit`` (None: there is none) for a call of ``gateway`` with these digests."""
        self._permit = permit
        self._asked = (gateway, token_digest, request_digest)

    def charge(self, claims: CostClaims) -> int:
        """Return :data:`PAID`, or BAD_PERMIT."""
        permit = self._permit
        if (
            permit is not None
            and (permit.gateway, permit.token_digest, permit.request_digest) == self._asked
            and permit.session_id == claims.session_id
            and permit.epoch == claims.epoch
            and permit.deadline_ms > claims.checked_at_ms
        ):
            return PAID
        claims.fail()
        return Reason.BAD_PERMIT
