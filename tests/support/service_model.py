"""A plain model of a service's answers: sessions, tokens, what calls cost, in dicts and integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from sessauth.approvals.request import ApprovalRequest
from sessauth.decisions.decision import DecisionBase
from sessauth.model.approval import ApprovalStatus
from sessauth.model.session import SessionStatus
from sessauth.reasons import Reason

PLACES = ("doc", "pay", "both", "ask", "two", "once", "free", "gold", "alt", "mix")


@dataclass(frozen=True)
class Offer:
    """A scope: reading below ``place``, for what it needs. ``keys`` are numbers of approvers."""

    place: str
    uses: int = 0
    budget: str = ""
    limit: int = 0
    threshold: int = 0
    keys: tuple[int, ...] = ()
    golden: bool = False

    @property
    def costs(self) -> bool:
        """True if it needs anything."""
        return bool(self.uses or self.budget or self.threshold)

    def text(self, approvers: list[str]) -> str:
        """Return the scope's text; ``approvers`` are the keys as scope text writes them."""
        needs = []
        if self.threshold:
            named = ", ".join(f'"{approvers[number]}"' for number in self.keys)
            needs.append(f"approval({self.threshold}, {named})")
        if self.uses:
            needs.append(f"uses({self.uses})")
        if self.budget:
            needs.append(f'budget("{self.budget}", {self.limit}, cost)')
        where = ' where session.tier == "gold"' if self.golden else ""
        free = "" if self.budget else " free cost"
        return f"read:{self.place}/**{where}{free}" + (f" needs {', '.join(needs)}" if needs else "")


# Where two stand for one place, the first that can be paid decides.
ROOT = (
    Offer("doc", uses=5),
    Offer("pay", budget="api", limit=12),
    Offer("both", uses=3, budget="api", limit=12),
    Offer("ask", threshold=1, keys=(0,)),
    Offer("two", threshold=2, keys=(0, 1, 2)),
    Offer("once", threshold=1, keys=(1, 2), uses=1),
    Offer("free"),
    Offer("gold", golden=True, uses=3),
    Offer("alt", uses=1),
    Offer("alt", budget="alt", limit=5),
    Offer("mix", threshold=1, keys=(0,)),
    Offer("mix", uses=1),
)
CHILD = (
    Offer("doc", uses=2),
    Offer("pay", budget="api", limit=5),
    Offer("both", budget="own", limit=4),
    Offer("ask", threshold=1, keys=(1,)),
    Offer("free"),
)


@dataclass(frozen=True)
class Call:
    """Reading one of a few names at a place; ``cost`` None: the argument is missing."""

    place: str
    name: str = "a"
    cost: int | None = 1

    @property
    def resource(self) -> str:
        """The resource."""
        return f"{self.place}/{self.name}"

    @property
    def arguments(self) -> bytes:
        """The arguments."""
        return b"{}" if self.cost is None else b'{"cost": %d}' % self.cost


@dataclass(frozen=True)
class ModelToken:
    """A token: what is presented, and the id and offers of each block."""

    session: bytes
    data: bytes
    blocks: tuple[tuple[bytes, tuple[Offer, ...]], ...]


# The name of a budget, and the id of the block that it is in; none of a root.
Ledger = tuple[str, bytes]
# Terms of an approval: id and index of the block, scope, epoch, call.
Terms = tuple[bytes, int, int, int, Call]


@dataclass
class Bill:
    """The costs of a call: uses of scopes, amounts of ledgers, approvals."""

    uses: list[tuple[bytes, int, int]] = field(default_factory=list)
    amounts: dict[Ledger, tuple[int, int]] = field(default_factory=dict)
    approvals: list[ModelRequest] = field(default_factory=list)


@dataclass
class ModelRequest:
    """An approval that was asked for; ``shown`` is what an approver read then."""

    shown: ApprovalRequest
    terms: Terms
    offer: Offer
    status: ApprovalStatus = ApprovalStatus.PENDING
    signers: set[int] = field(default_factory=set)


@dataclass
class ModelPermit:
    """A permit that was given, and what it holds."""

    gateway: str
    token: ModelToken
    call: Call
    epoch: int
    bill: Bill


@dataclass
class Expected:
    """The expected result of a check: the reason, and the changes of the model that follow."""

    reason: Reason
    bill: Bill | None = None
    wanted: tuple[Terms, Offer] | None = None
    again: bytes | None = None


@dataclass
class ModelSession:
    """A session and all that its calls have cost."""

    id: bytes
    parent: ModelSession | None = None
    ceiling: frozenset[str] = frozenset(PLACES)
    golden: bool = True
    epoch: int = 1
    status: SessionStatus = SessionStatus.ACTIVE
    tokens: list[ModelToken] = field(default_factory=list)
    revoked: set[bytes] = field(default_factory=set)
    uses: Counter[tuple[bytes, int]] = field(default_factory=Counter)
    spent: Counter[Ledger] = field(default_factory=Counter)
    permits: dict[bytes, ModelPermit] = field(default_factory=dict)
    closed: list[tuple[bytes, ModelPermit]] = field(default_factory=list)
    requests: list[ModelRequest] = field(default_factory=list)
    # By gateway and retry id: the call that was allowed, and its permit.
    retries: dict[tuple[str, bytes], tuple[bytes, Call, bytes]] = field(default_factory=dict)

    @property
    def line(self) -> Iterator[ModelSession]:
        """The session and its parent."""
        yield self
        if self.parent is not None:
            yield self.parent

    @property
    def over(self) -> bool:
        """True if it or its parent has ended."""
        return any(each.status is SessionStatus.ENDED for each in self.line)

    @property
    def acting(self) -> bool:
        """True if calls of it can be allowed."""
        return all(each.status is SessionStatus.ACTIVE for each in self.line)

    @property
    def effective(self) -> SessionStatus:
        """The status that a server shows."""
        if self.over:
            return SessionStatus.ENDED
        return SessionStatus.ACTIVE if self.acting else SessionStatus.SUSPENDED

    @property
    def waiting(self) -> int:
        """Number of approvals that wait for an answer."""
        return sum(
            each.status is ApprovalStatus.PENDING and each.terms[3] == self.epoch for each in self.requests
        )

    def held(self, ledger: Ledger) -> int:
        """Return what is spent and reserved of a ledger."""
        reserved = (permit.bill.amounts.get(ledger, (0, 0))[0] for permit in self.permits.values())
        return self.spent[ledger] + sum(reserved)

    def in_force(self, terms: Terms) -> ModelRequest | None:
        """Return the approval that was asked for by these terms and is not used up."""
        found = [each for each in self.requests if each.terms == terms]
        return next((each for each in found if each.status is not ApprovalStatus.USED), None)

    def judge(self, token: ModelToken, call: Call) -> Reason:
        """Return what a call comes to before anything is paid."""
        for each in self.line:
            if each.status is SessionStatus.ENDED:
                return Reason.SESSION_ENDED
            if each.status is SessionStatus.SUSPENDED:
                return Reason.SESSION_SUSPENDED
        if any(block_id in self.revoked for block_id, _ in token.blocks):
            return Reason.REVOKED
        if any(call.place not in each.ceiling for each in self.line):
            return Reason.OUT_OF_SCOPE
        for _, offers in token.blocks:
            there = [offer for offer in offers if offer.place == call.place]
            if offers and not there:
                return Reason.OUT_OF_SCOPE
            if there and not any(self.golden or not offer.golden for offer in there):
                return Reason.CONDITION_FAILED
        return Reason.ALLOWED

    def check(
        self,
        gateway: str,
        token: ModelToken,
        call: Call,
        retry: bytes = b"",
        *,
        permit: bool = False,
        answer: tuple[ModelRequest, int] | None = None,
    ) -> Expected:
        """Return what a check comes to. ``answer``: an approver's answer to a request comes with the call."""
        reason = self.judge(token, call)
        if reason is not Reason.ALLOWED:
            return Expected(reason)
        paid = [
            (
                number,
                block_id,
                [pair for pair in enumerate(offers) if pair[1].place == call.place],
            )
            for number, (block_id, offers) in enumerate(token.blocks)
            if offers and all(each.costs for each in offers if each.place == call.place)
        ]
        if not paid and not permit:
            return Expected(Reason.ALLOWED)
        first = self.retries.get((gateway, retry)) if retry else None
        if first is not None:
            if first[:2] != (token.data, call):
                return Expected(Reason.MALFORMED_REQUEST)
            held = self.permits.get(first[2])
            if first[2] and (held is None or held.epoch != self.epoch):
                return Expected(Reason.BAD_PERMIT)
            return Expected(Reason.ALLOWED, again=first[2])
        bill = Bill()
        missing: Expected | None = None
        for number, block_id, offers in paid:
            refused = []
            for place, offer in offers:
                terms = (token.blocks[-1][0], number, place, self.epoch, call)
                reason = self._meet(offer, block_id, terms, bill, answer)
                if reason is Reason.ALLOWED:
                    break
                wanted = (terms, offer) if reason is Reason.APPROVAL_REQUIRED else None
                refused.append(Expected(reason, wanted=wanted))
            else:
                if refused[0].reason is not Reason.APPROVAL_REQUIRED:
                    return refused[0]
                missing = missing or refused[0]  # No approval is asked for what another block denies.
        return missing or Expected(Reason.ALLOWED, bill)

    def _meet(
        self, offer: Offer, block_id: bytes, terms: Terms, bill: Bill, answer: tuple[ModelRequest, int] | None
    ) -> Reason:
        _, block, place, _, call = terms
        request = self.in_force(terms) if offer.threshold else None
        if offer.uses and self.uses[block_id, place] >= offer.uses:
            return Reason.USES_EXHAUSTED
        ledger = (offer.budget, block_id if block else b"")
        if offer.budget and call.cost is None:
            return Reason.CONDITION_FAILED
        if offer.budget and self.held(ledger) + (call.cost or 0) > offer.limit:
            return Reason.BUDGET_EXHAUSTED
        if offer.threshold and (reason := _approved(offer, terms, request, answer)) is not Reason.ALLOWED:
            return reason
        if offer.uses:
            bill.uses.append((block_id, place, offer.uses))
        if offer.budget:
            bill.amounts[ledger] = (call.cost or 0, offer.limit)
        if request is not None:
            bill.approvals.append(request)
        return Reason.ALLOWED

    def believe(
        self, expected: Expected, decision: DecisionBase, gateway: str, token: ModelToken, call: Call,
        retry: bytes = b"", *, permit: bool = False,
    ) -> None:  # fmt: skip
        """Hold a decision against what was expected, and write down what it took."""
        assert decision.reason is expected.reason, (expected, decision, call)
        assert bool(decision) is (expected.reason is Reason.ALLOWED)
        handle: bytes = getattr(decision, "permit", b"")
        if expected.again is not None:
            assert handle == expected.again
            return
        bill = expected.bill
        assert bool(handle) is (permit and bill is not None)
        if expected.wanted is not None:
            self._add_request(*expected.wanted, decision.approval)  # type: ignore[attr-defined]
        if bill is None:
            return
        for block_id, place, limit in bill.uses:
            self.uses[block_id, place] += 1
            assert self.uses[block_id, place] <= limit
        for request in bill.approvals:
            assert request.status in (ApprovalStatus.PENDING, ApprovalStatus.GRANTED)
            request.status = ApprovalStatus.USED
        if permit:
            assert handle not in self.permits
            self.permits[handle] = ModelPermit(gateway, token, call, self.epoch, bill)
        else:
            self.spent.update({ledger: amount for ledger, (amount, _) in bill.amounts.items()})
        assert all(self.held(ledger) <= limit for ledger, (_, limit) in bill.amounts.items())
        if retry:
            self.retries[gateway, retry] = (token.data, call, handle)

    def _add_request(self, terms: Terms, offer: Offer, shown: ApprovalRequest | None) -> None:
        """One approval waits for each call: the one that was asked for before, or a new one."""
        assert shown is not None
        request = self.in_force(terms)
        if request is not None:
            assert request.shown.record.id == shown.record.id
            return
        assert shown.record.id not in {each.shown.record.id for each in self.requests}
        assert (shown.record.status, shown.record.epoch) == (ApprovalStatus.PENDING, self.epoch)
        self.requests.append(ModelRequest(shown, terms, offer))

    def commit(self, gateway: str, permit: bytes, token: ModelToken, call: Call) -> Reason:
        """Return what committing a permit comes to."""
        reason = self.judge(token, call)
        held = self.permits.get(permit)
        if reason is not Reason.ALLOWED:
            return reason
        of_call = held is not None and (held.gateway, held.token.data, held.call) == (
            gateway,
            token.data,
            call,
        )
        if held is None or not of_call or held.epoch != self.epoch:
            return Reason.BAD_PERMIT
        return Reason.ALLOWED

    def close(self, permit: bytes, *, spend: bool) -> None:
        """Close a permit: what it held is spent, or there again."""
        held = self.permits.pop(permit)
        self.closed.append((permit, held))
        if spend:
            self.spent.update({ledger: amount for ledger, (amount, _) in held.bill.amounts.items()})

    def answer(self, request: ModelRequest, signer: int | None) -> str:
        """Return the word that an answer is refused with, or nothing; ``signer`` None: it is denied."""
        if self.over:
            return "ALREADY_ENDED"
        if request.terms[3] != self.epoch:
            return "EPOCH_MISMATCH"
        if request.status not in (ApprovalStatus.PENDING, ApprovalStatus.GRANTED):
            return "WRONG_STATUS"
        if signer is None:
            request.status = ApprovalStatus.DENIED
            return ""
        if request.status is ApprovalStatus.GRANTED:
            return "WRONG_STATUS"
        if signer in request.signers:
            return "BAD_APPROVAL"
        request.signers.add(signer)
        if len(request.signers) >= request.offer.threshold:
            request.status = ApprovalStatus.GRANTED
        return ""


def _approved(
    offer: Offer, terms: Terms, request: ModelRequest | None, answer: tuple[ModelRequest, int] | None
) -> Reason:
    """Return whether enough approvers signed, the one whose answer comes with the call included."""
    signers = set(request.signers) if request is not None else set()
    if answer is not None:
        of, signer = answer
        # An answer for another call, another epoch or a used approval does not count.
        if of is not request or signer in signers:
            return Reason.BAD_APPROVAL
        signers.add(signer)
    if request is not None and request.status is ApprovalStatus.DENIED:
        return Reason.APPROVAL_DENIED
    return Reason.ALLOWED if len(signers) >= offer.threshold else Reason.APPROVAL_REQUIRED
