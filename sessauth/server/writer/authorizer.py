"""The judge in the writer's transaction: judges a call again by the writer's rows, and takes all or nothing.

A verifier's answer to a call that costs something is only that the writer must be asked. Here the call is
judged anew, stage by stage, by the rows that its change is applied to a moment later: no change of another
caller comes in between, and both are durable together, or neither is.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from ... import limits
from ..._fast.check.checker import Checker
from ..._fast.check.decision import Decision
from ..._fast.check.view import View
from ..._fast.token.proof import request_digest
from ...errors import Rejected
from ...model.approval import ApprovalRecord
from ...model.approval_rules import ApprovalTerms
from ...model.change import ChangeOutcome, Rejection, request_approval
from ...model.costs import Settlement, consume, once_change_id, retry_change_id, settle_permit
from ...reasons import Reason, Stage
from ...state.host.proof_reader import TakesProofs
from ...state.lmdb.environment import LmdbSource
from ...state.writer.group import Group
from ...state.writer.group_view import GroupSource
from ...tokens.token import Token
from .cost_allocator import (
    CostAllocator,
    CostPolicy,
    MismatchedRetryPolicy,
    PaymentTerms,
    PermitPolicy,
    PrepaidPolicy,
)

PERMIT_ID_BYTES: Final = 16
PERMIT_BYTES: Final = 32
APPROVAL_ID_BYTES: Final = 16
# What the log's words mean to who asked. By the rows that were judged a moment before they don't come.
REJECTED: Final = {
    Rejection.USES_EXHAUSTED.value: Reason.USES_EXHAUSTED,
    Rejection.BUDGET_EXHAUSTED.value: Reason.BUDGET_EXHAUSTED,
    Rejection.LIMIT.value: Reason.BUDGET_EXHAUSTED,
    Rejection.APPROVAL_USED.value: Reason.BAD_APPROVAL,
    Rejection.BAD_APPROVAL.value: Reason.BAD_APPROVAL,
    Rejection.APPROVAL_DENIED.value: Reason.APPROVAL_DENIED,
    Rejection.BAD_PERMIT.value: Reason.BAD_PERMIT,
}

# Why a call can never be allowed again, whatever happens: its session is over.
OVER: Final = frozenset({Reason.SESSION_ENDED, Reason.LEASE_LAPSED, Reason.SESSION_EXPIRED})


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One call, as a gateway has it judged: what ``Checker.check`` takes, and what it is paid with."""

    gateway: str
    token: bytes
    action: bytes
    resource: bytes
    arguments: bytes = b""
    tool: bytes = b""
    session: bytes = b""
    source: str = ""
    peer: tuple[str, ...] = ()
    audience: str = ""
    at_least_revision: int = 0
    proof: bytes = b""
    approvals: tuple[bytes, ...] = ()
    retry_id: bytes = b""
    permit_ms: int = 0

    @property
    def token_digest(self) -> bytes:
        """BLAKE2b-256 of the presented token."""
        return blake2b(self.token, digest_size=32).digest()

    @property
    def request_digest(self) -> bytes:
        """The digest of what is asked (``docs/token-format.md``, section 8.1)."""
        return request_digest(self.action, self.resource, self.arguments)


@dataclass(frozen=True, slots=True)
class WriterDecision:
    """The writer's decision, and what comes with it: a permit (32 bytes), or the approval that is missing."""

    decision: Decision
    permit: bytes = b""
    permit_expires_at_ms: int = 0
    approval: ApprovalRecord | None = None


class WriterAuthorizer:
    """Judges calls within groups; every method but the constructor is for the writer's thread alone.

    It has a checker of its own, whose view is entered anew for each call. A checker remembers what only
    ever grows: which blocks are revoked, how far leases reach. What it saw in a group that was not
    committed may never come, so after such a group it is replaced.
    """

    def __init__(self, source: LmdbSource, host: TakesProofs, *, cache_bytes: int) -> None:
        """Judge by the rows of ``source``; verified chains may take ``cache_bytes``.

        Proofs count here as they do for ``host``, the process's own checker.
        """
        self._host = host
        self._rows = GroupSource(source)
        self._cache_bytes = cache_bytes
        self._checker = self._new_checker()
        self._group: Group | None = None

    def check(self, group: Group, ask: CallRequest) -> WriterDecision:
        """Judge a call, and take what it costs if it is allowed; nothing else.

        Raises StateFull above the 85 % mark.
        """
        _require_room(group)
        change_id = retry_change_id(ask.gateway, ask.retry_id) if ask.retry_id else once_change_id()
        first = group.first_outcome(change_id) if ask.retry_id else None
        if first is not None and first.applied:
            return self._again(group, ask, change_id, first)
        payer = CostAllocator(
            group.rows, PaymentTerms(ask.request_digest, ask.approvals, wants_permit=ask.permit_ms > 0)
        )
        decision = self._judge(group, ask, payer)
        if not decision:
            return self._denied(group, ask, payer, decision)
        if not (payer.taken or ask.permit_ms or ask.retry_id):
            return WriterDecision(decision)
        taken = payer.taken
        return self._written(
            decision,
            group.submit(
                consume(
                    change_id,
                    payer.session_id,
                    gateway=ask.gateway,
                    token_digest=ask.token_digest,
                    request_digest=ask.request_digest,
                    expected_epoch=payer.epoch,
                    uses=taken.uses,
                    budgets=taken.budgets,
                    approval_ids=taken.approval_ids,
                    permit_id=secrets.token_bytes(PERMIT_ID_BYTES) if ask.permit_ms else b"",
                    permit_deadline_ms=group.at_ms + ask.permit_ms if ask.permit_ms else 0,
                )
            ),
        )

    def commit(self, group: Group, ask: CallRequest, permit: bytes) -> WriterDecision:
        """Judge the call of a permit again, and use the permit up if it is allowed.

        Raises as :meth:`check` does.
        """
        _require_room(group)
        session_id, permit_id = _split(permit)
        holder = self._holder_of(group, ask, session_id, permit_id)
        # What proved the call when it was checked may be too old by now: the permit is bound to that call.
        decision = self._judge(group, ask, holder, skip_proof=True)
        if not decision:
            self._give_up(group, ask, session_id, permit_id, decision)
            return WriterDecision(decision)
        change = settle_permit(
            once_change_id(), session_id, permit_id, Settlement.COMMIT, gateway=ask.gateway
        )
        return self._written(decision, group.submit(change))

    def release(self, group: Group, gateway: str, permit: bytes) -> ChangeOutcome:
        """Give back what a permit holds in reserve.

        Raises Rejected NOT_FOUND for one that is not open, or another gateway's; and as :meth:`check` does.
        """
        session_id, permit_id = _split(permit)
        held = group.rows.permit(session_id, permit_id)
        if held is None or held.gateway != gateway:
            raise Rejected(Rejection.NOT_FOUND.value, "permit: none that is open and this credential's")
        change = settle_permit(once_change_id(), session_id, permit_id, Settlement.RELEASE, gateway=gateway)
        return group.submit(change).raise_if_rejected()

    def _again(self, group: Group, ask: CallRequest, change_id: str, first: ChangeOutcome) -> WriterDecision:
        """Judge a call that was allowed under this retry id: it is paid, by its permit where it has one.

        A permit that was committed, released or is over pays for nothing more: what it held went its way.
        """
        same = consume(
            change_id,
            first.session_id,
            gateway=ask.gateway,
            token_digest=ask.token_digest,
            request_digest=ask.request_digest,
            expected_epoch=0,
        )
        payer: CostPolicy = MismatchedRetryPolicy()
        if first.digest == same.digest():
            payer = PrepaidPolicy()
            if first.permit_id:
                payer = self._holder_of(group, ask, first.session_id, first.permit_id)
        decision = self._judge(group, ask, payer)
        if decision.reason == Reason.REPLAYED:
            # The proof of the first attempt; one that was made for this attempt is used up by it.
            decision = self._judge(group, ask, payer, consume_nonce=False)
        return _with_permit(decision, first) if decision else WriterDecision(decision)

    def _give_up(
        self, group: Group, ask: CallRequest, session_id: bytes, permit_id: bytes, decision: Decision
    ) -> None:
        """Close a permit of a session that is over, now that its own gateway was told so.

        It can never be committed, and whoever works under it knows; else it would count as open until its
        deadline, and the session's end as not complete.
        """
        held = group.rows.permit(session_id, permit_id)
        if held is None or decision.reason not in OVER:
            return
        if (held.gateway, held.token_digest) == (ask.gateway, ask.token_digest):
            change_id, release = once_change_id(), Settlement.RELEASE
            group.submit(settle_permit(change_id, session_id, permit_id, release, gateway=ask.gateway))

    def _holder_of(self, group: Group, ask: CallRequest, session_id: bytes, permit_id: bytes) -> PermitPolicy:
        return PermitPolicy(
            group.rows.permit(session_id, permit_id),
            gateway=ask.gateway,
            token_digest=ask.token_digest,
            request_digest=ask.request_digest,
        )

    def _judge(
        self,
        group: Group,
        ask: CallRequest,
        payer: CostPolicy,
        *,
        consume_nonce: bool = True,
        skip_proof: bool = False,
    ) -> Decision:
        self._enter(group)
        self._checker.proofs = self._host.proofs
        now_ms = group.at_ms
        try:
            return self._checker._check(
                ask.token,
                ask.action,
                ask.resource,
                ask.arguments,
                tool=ask.tool,
                session=ask.session,
                source=ask.source,
                peer=ask.peer,
                audience=ask.audience,
                at_least_revision=ask.at_least_revision,
                now_ms=now_ms,
                # The wall clock may lag behind what was logged by no more than a checker accepts.
                clock_suspect=bool(group.suspect) or group.wall_ms + limits.CLOCK_STEP_MS < now_ms,
                proof=ask.proof,
                consume_nonce=consume_nonce,
                skip_proof=skip_proof,
                cost_handler=payer,
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
        self, group: Group, ask: CallRequest, payer: CostAllocator, decision: Decision
    ) -> WriterDecision:
        """Return a denial; with the approval that is missing, asked for now if it was not before."""
        refusal = payer.refusal
        if refusal is None or refusal.terms is None or refusal.reason is not Reason.APPROVAL_REQUIRED:
            return WriterDecision(decision)
        return WriterDecision(decision, approval=_asked_for(group, ask, refusal.terms, refusal.approval_id))

    def _written(self, decision: Decision, outcome: ChangeOutcome) -> WriterDecision:
        """Return the decision if what it costs was taken; a denial by the log's own word if it was not."""
        if outcome.applied:
            return _with_permit(decision, outcome)
        return WriterDecision(
            self._checker.refuse(Stage.NEEDS, REJECTED.get(outcome.rejection, Reason.INTERNAL_ERROR))
        )


def _require_room(group: Group) -> None:
    """Raise StateFull before anything is judged; a clock that is not believed is a denial's reason."""
    if not group.suspect:
        group.require_room()


def _with_permit(decision: Decision, outcome: ChangeOutcome) -> WriterDecision:
    if not outcome.permit_id:
        return WriterDecision(decision)
    return WriterDecision(decision, outcome.session_id + outcome.permit_id, outcome.permit_deadline_ms)


def _split(permit: bytes) -> tuple[bytes, bytes]:
    """Return the session id and the id of a permit; of bytes that are none, ids that nothing has."""
    if len(permit) != PERMIT_BYTES:
        return bytes(PERMIT_BYTES - PERMIT_ID_BYTES), bytes(PERMIT_ID_BYTES)
    return permit[:-PERMIT_ID_BYTES], permit[-PERMIT_ID_BYTES:]


def _asked_for(
    group: Group, ask: CallRequest, terms: ApprovalTerms, approval_id: bytes
) -> ApprovalRecord | None:
    """Return the approval that waits for an answer, asked for if none does; None if it can't be shown.

    What is too large for a person to be shown, or too much for one session, is not asked for.
    """
    rows, now_ms = group.rows, group.at_ms
    waiting = rows.requested_approval(
        terms.session_id, terms.block_id, terms.block, terms.scope, terms.epoch, terms.request_digest
    )
    if waiting is not None and waiting.expires_at_ms > now_ms:
        return waiting
    if len(ask.arguments) > limits.MAX_APPROVAL_ARGUMENT_BYTES:
        return None
    record = ApprovalRecord(
        # Of approvals that were given beforehand, so that others can be added to them.
        id=approval_id or secrets.token_bytes(APPROVAL_ID_BYTES),
        session_id=terms.session_id,
        block_id=terms.block_id,
        block=terms.block,
        scope=terms.scope,
        epoch=terms.epoch,
        request_digest=terms.request_digest,
        threshold=terms.threshold,
        keys=terms.keys,
        action=ask.action.decode(),
        resource=ask.resource.decode(),
        arguments=ask.arguments,
        labels=tuple(block.label for block in Token.parse(ask.token).inspect().blocks if block.label),
        gateway=ask.gateway,
    )
    outcome = group.submit(request_approval(once_change_id(), record, actor=ask.gateway))
    return rows.approval(record.session_id, record.id) if outcome.applied else None
