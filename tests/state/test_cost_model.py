"""Random consumptions, permits and approvals against a plain model: in memory, and through a real writer."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sessauth.model.approval import ApprovalStatus
from sessauth.model.change import (
    Change,
    ChangeOutcome,
    Ledger,
    Settlement,
    answer_approval,
    end_session,
    ledger_id,
    narrow_session,
    once_change_id,
    purge_session,
    request_approval,
    resume_session,
    retry_change_id,
    settle_permit,
    suspend_session,
)
from sessauth.scopes.value import Number
from sessauth.state import layout
from sessauth.state.rules.effects import CostRows
from tests.support.cases import examples
from tests.support.changes import opening, scopes
from tests.support.cost_model import (
    InMemory,
    ModelApproval,
    ModelPermit,
    ModelSession,
    OnDisk,
    tables_of,
)
from tests.support.costs import BLOCK, charge, pending_record, signing, spending, use

PARENT, CHILD = b"p" * 16, b"c" * 16
LEDGERS = (ledger_id("money", "EUR"), ledger_id("tokens", ""))
GATEWAYS = ("gateway-a", "gateway-b")
LIMIT, USES = 8, 2
HOLDS_MS = 15
_sessions = st.sampled_from((PARENT, CHILD))
_calls = st.integers(0, 2)


def request_of(call: int) -> bytes:
    """Return the request digest of one of a few calls."""
    return bytes([call]) * 32


class Costs(RuleBasedStateMachine):
    """Sessions, uses, ledgers, permits and approvals live by the model; rows live by the log."""

    place: type[InMemory] | type[OnDisk] = InMemory

    def __init__(self) -> None:
        """Start with a session and its child."""
        super().__init__()
        self.log = self.place()
        self.model: dict[bytes, ModelSession] = {}
        self.retries: dict[tuple[str, int], tuple[tuple[bytes, int], ChangeOutcome]] = {}
        self.count = 0
        for session_id, parent in ((PARENT, b""), (CHILD, PARENT)):
            change = opening(self.new_name(), session_id, parent_id=parent, ttl_ms=200)
            assert self.log.do(change).applied
            self.model[session_id] = ModelSession(self.log.now_ms + 200, parent)

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.log.close()

    def new_name(self) -> str:
        """Return a fresh request id."""
        self.count += 1
        return str(self.count)

    def new_id(self) -> bytes:
        """Return a fresh id of 16 bytes."""
        self.count += 1
        return self.count.to_bytes(16, "big")

    def line(self, session_id: bytes) -> list[ModelSession | None]:
        """Return a session and its parent; None for one that is gone."""
        session = self.model.get(session_id)
        parents = [self.model.get(session.parent)] if session and session.parent else []
        return [session, *parents]

    def dead(self, session_id: bytes) -> bool:
        """Return True if the session or its parent is over."""
        return any(s is None or s.ended or self.log.now_ms >= s.expires_at_ms for s in self.line(session_id))

    def acting(self, session_id: bytes) -> bool:
        """Return True if calls of the session can be allowed."""
        return not self.dead(session_id) and not any(s is None or s.suspended for s in self.line(session_id))

    def expect(self, change: Change, applied: bool) -> ChangeOutcome:
        """Make a change, and hold whether it was applied."""
        outcome = self.log.do(change)
        assert outcome.applied is applied, (change, outcome)
        return outcome

    def claims(self, draw_: st.DataObject, session: ModelSession, call: int) -> dict[str, Any]:
        """Draw what a call takes."""
        uses = draw_.draw(st.sets(st.integers(0, 1)), "uses")
        amounts = draw_.draw(st.dictionaries(st.sampled_from(LEDGERS), st.integers(0, 6)), "amounts")
        of_call = [id_ for id_, approval in session.approvals.items() if approval.call == call]
        known = st.sampled_from([*of_call, b"x" * 16])
        return {
            "uses": [use(USES, scope) for scope in sorted(uses)],
            "budgets": [charge(amount, LIMIT, ledger) for ledger, amount in amounts.items()],
            "approval_ids": sorted(draw_.draw(st.sets(known, max_size=1), "approvals")),
        }

    def affordable(self, session: ModelSession, claims: dict[str, Any]) -> bool:
        """Return True if a session can afford a call."""
        for approval_id in claims["approval_ids"]:
            approval = session.approvals.get(approval_id)
            if approval_id in session.used_approvals:
                return False
            if approval and approval.epoch != session.epoch:
                return False
            # A denial is in force as long as the request is.
            if (
                approval
                and approval.status is ApprovalStatus.DENIED
                and self.log.now_ms < approval.expires_at_ms
            ):
                return False
        return all(session.uses[claim.scope] < USES for claim in claims["uses"]) and all(
            session.spent[claim.ledger] + session.reserved(claim.ledger) + claim.amount.units <= LIMIT
            for claim in claims["budgets"]
        )

    @rule(
        data=st.data(), session_id=_sessions, call=_calls, gateway=st.sampled_from(GATEWAYS),
        permit=st.booleans(), retry=st.none() | st.integers(0, 2), stale=st.sampled_from([0] * 7 + [1]),
        lost=st.sampled_from([False] * 7 + [True]),
    )  # fmt: skip
    def consume(
        self, data: st.DataObject, session_id: bytes, call: int, gateway: str, permit: bool,
        retry: int | None, stale: int, lost: bool,
    ) -> None:  # fmt: skip
        """Take something, perhaps with a permit, perhaps under a name that was used before; or lose it."""
        claims = self.claims(data, self.model.get(session_id) or ModelSession(0), call)
        self.take(session_id, call, gateway, claims, permit=permit, retry=retry, stale=stale, lost=lost)

    @rule(session_id=_sessions, scope=st.integers(0, 1), amount=st.integers(1, 4), permit=st.booleans())
    def pay(self, session_id: bytes, scope: int, amount: int, permit: bool) -> None:
        """Take one use and an amount, so that limits are come to."""
        claims = {"uses": [use(USES, scope)], "budgets": [charge(amount, LIMIT)]}
        self.take(session_id, 0, GATEWAYS[0], {**claims, "approval_ids": []}, permit=permit)

    def take(
        self, session_id: bytes, call: int, gateway: str, claims: dict[str, Any], *, permit: bool,
        retry: int | None = None, stale: int = 0, lost: bool = False,
    ) -> None:  # fmt: skip
        """Take what is claimed, and hold what comes of it."""
        session = self.model.get(session_id) or ModelSession(0)
        name = once_change_id() if retry is None else retry_change_id(gateway, bytes([retry]))
        permit_id, deadline_ms = self.new_id(), self.log.now_ms + HOLDS_MS
        change = spending(
            session_id, name, gateway=gateway, request_digest=request_of(call),
            expected_epoch=session.epoch + stale, **claims,
            permit_id=permit_id if permit else b"", permit_deadline_ms=deadline_ms,
        )  # fmt: skip
        before = self.retries.get((gateway, -1 if retry is None else retry))
        fits = self.acting(session_id) and not stale and self.affordable(session, claims)
        if before is not None:
            outcome = self.log.do(change)
            same = before[0] == (session_id, call)
            assert outcome == before[1] if same else outcome.rejection == "CONFLICT"
            return
        if lost:
            if fits:
                self.log.crash(change)
            return
        outcome = self.expect(change, fits)
        if not fits:
            return
        if retry is not None:
            self.retries[gateway, retry] = ((session_id, call), outcome)
        session.uses.update(claim.scope for claim in claims["uses"])
        amounts = {claim.ledger: claim.amount.units for claim in claims["budgets"]}
        if permit:
            session.permits[permit_id] = ModelPermit(session.epoch, gateway, deadline_ms, amounts)
        else:
            session.spent.update(amounts)
        for approval_id in claims["approval_ids"]:
            session.used_approvals.add(approval_id)
            if approval_id in session.approvals:
                session.approvals[approval_id].status = ApprovalStatus.USED

    @rule(
        data=st.data(), session_id=_sessions, how=st.sampled_from([Settlement.COMMIT, Settlement.RELEASE]),
        gateway=st.sampled_from(GATEWAYS),
    )  # fmt: skip
    def settle(self, data: st.DataObject, session_id: bytes, how: Settlement, gateway: str) -> None:
        """Commit or release a permit, perhaps one that is not there or another gateway's."""
        session = self.model.get(session_id) or ModelSession(0)
        permit_id = data.draw(st.sampled_from([*session.permits, b"y" * 16]), "permit")
        permit = session.permits.get(permit_id)
        fits = permit is not None and permit.gateway == gateway
        if fits and permit is not None and how is Settlement.COMMIT:
            in_time = self.log.now_ms < permit.deadline_ms
            fits = self.acting(session_id) and permit.epoch == session.epoch and in_time
        self.expect(settle_permit(once_change_id(), session_id, permit_id, how, gateway=gateway), fits)
        if fits and permit is not None:
            if how is Settlement.COMMIT:
                session.spent.update(permit.reserved)
            del session.permits[permit_id]

    @rule(session_id=_sessions, call=_calls, threshold=st.integers(1, 2), ms=st.integers(5, 40))
    def ask(self, session_id: bytes, call: int, threshold: int, ms: int) -> None:
        """Ask for an approval of a call, perhaps of one that was asked for already."""
        session = self.model.get(session_id) or ModelSession(0)
        now_ms, approval_id = self.log.now_ms, self.new_id()
        earlier = {
            id_: each for id_, each in session.approvals.items()
            if each.call == call and each.epoch == session.epoch and each.status is not ApprovalStatus.USED
        }  # fmt: skip
        asked_already = any(now_ms < each.expires_at_ms for each in earlier.values())
        applied = self.acting(session_id) and not asked_already
        record = pending_record(
            session_id, approval_id, request_digest=request_of(call), threshold=threshold,
            epoch=session.epoch, expires_at_ms=now_ms + ms,
        )  # fmt: skip
        self.expect(request_approval(once_change_id(), record), applied)
        if applied:
            for id_ in earlier:
                del session.approvals[id_]
            expires_at_ms = min(now_ms + ms, session.expires_at_ms)
            session.approvals[approval_id] = ModelApproval(call, session.epoch, expires_at_ms, threshold)

    @rule(data=st.data(), session_id=_sessions, signer=st.integers(0, 3), deny=st.booleans())
    def answer(self, data: st.DataObject, session_id: bytes, signer: int, deny: bool) -> None:
        """Sign or deny an approval; the fourth signer is none of its keys."""
        session = self.model.get(session_id) or ModelSession(0)
        approval_id = data.draw(st.sampled_from([*session.approvals, b"z" * 16]), "approval")
        approval = session.approvals.get(approval_id)
        record = pending_record(session_id, approval_id, epoch=session.epoch)
        applied = (
            approval is not None
            and not self.dead(session_id)
            and approval.epoch == session.epoch
            and self.log.now_ms < approval.expires_at_ms
        )
        if approval is not None:
            record = pending_record(
                session_id, approval_id, request_digest=request_of(approval.call), epoch=approval.epoch
            )
            if deny:
                applied = applied and approval.status in (ApprovalStatus.PENDING, ApprovalStatus.GRANTED)
            else:
                fresh = signer < 3 and signer not in approval.signers
                applied = applied and approval.status is ApprovalStatus.PENDING and fresh
        statement = None if deny else signing(record, signer)
        change = answer_approval(
            self.new_name(), session_id, approval_id, statement=statement, deny=deny, actor="alice"
        )
        self.expect(change, applied)
        if applied and approval is not None:
            if deny:
                approval.status = ApprovalStatus.DENIED
            else:
                approval.signers.add(signer)
                enough = len(approval.signers) >= approval.threshold
                approval.status = ApprovalStatus.GRANTED if enough else ApprovalStatus.PENDING

    @rule(session_id=_sessions, how=st.sampled_from(["narrow", "resume", "resume", "resume", "suspend"]))
    def move(self, session_id: bytes, how: str) -> None:
        """Move an epoch: what was open at the one before is dead, and nothing of it is touched."""
        session = self.model.get(session_id) or ModelSession(0)
        applied = not self.dead(session_id)
        if how == "narrow":
            change = narrow_session(self.new_name(), session_id, scopes("read:files/**"))
        elif how == "suspend":
            applied = applied and not session.suspended
            change = suspend_session(self.new_name(), session_id)
        else:
            applied = applied and session.suspended
            change = resume_session(self.new_name(), session_id)
        self.expect(change, applied)
        if applied:
            session.epoch += 1
            session.suspended = {"suspend": True, "resume": False}.get(how, session.suspended)

    @rule(session_id=_sessions, sure=st.sampled_from([False] * 7 + [True]))
    def end(self, session_id: bytes, sure: bool) -> None:
        """End a session, now and then."""
        session = self.model.get(session_id)
        if not sure or session is None or session.ended:
            return
        self.expect(end_session(self.new_name(), session_id), applied=True)
        session.ended, session.epoch = True, session.epoch + 1

    @precondition(lambda self: any(session.ended for session in self.model.values()))
    @rule(session_id=_sessions)
    def purge(self, session_id: bytes) -> None:
        """Purge an ended session: no row of it is left."""
        session = self.model.get(session_id)
        applied = session is not None and session.ended
        self.expect(purge_session(self.new_name(), session_id), applied)
        if applied:
            del self.model[session_id]

    @invariant()
    def rows_are_the_model(self) -> None:
        """Every count, ledger, permit and approval is the model's, and nothing passes its limit."""
        self.log.look(self.compare)

    def compare(self, rows: CostRows) -> None:
        """Hold the rows against the model."""
        for session_id in (PARENT, CHILD):
            session = self.model.get(session_id)
            if session is None:
                assert tables_of(session_id, rows) == 0
                continue
            for scope in (0, 1):
                assert rows.uses(session_id, BLOCK, scope) == session.uses[scope] <= USES
            for ledger in LEDGERS:
                spent, reserved = session.spent[ledger], session.reserved(ledger)
                assert rows.ledger(session_id, ledger) == Ledger(Number(spent), Number(reserved))
                assert 0 <= spent + reserved <= LIMIT
            counts = rows.counts(session_id)
            assert counts.open_permits == len(session.permits)
            assert counts.waiting(session.epoch) == session.waiting()
            for permit_id in session.permits:
                assert rows.permit(session_id, permit_id) is not None
            for approval_id, approval in session.approvals.items():
                record = rows.approval(session_id, approval_id)
                assert record is not None
                assert (record.status, len(record.statements)) == (approval.status, len(approval.signers))
            for approval_id in session.used_approvals:
                assert rows.approval_used(session_id, approval_id)


class CostsInMemory(Costs):
    """Applies changes in memory. Nothing sweeps, so expired permits stay open until they are settled."""

    @rule(ms=st.integers(1, 20))
    def wait(self, ms: int) -> None:
        """Let time go by."""
        self.log.wait(ms)


class CostsOnDisk(Costs):
    """Through a writer that sweeps, is closed and opened, and loses commits."""

    place = OnDisk

    @rule(ms=st.integers(1, 20))
    def wait(self, ms: int) -> None:
        """Let time go by: the sweep gives back, removes, ends and purges."""
        self.log.wait(ms)
        now_ms = self.log.now_ms
        for session_id, session in list(self.model.items()):
            for permit_id, permit in list(session.permits.items()):
                if now_ms >= permit.deadline_ms:
                    del session.permits[permit_id]
            for approval_id, approval in list(session.approvals.items()):
                if now_ms >= approval.expires_at_ms:
                    del session.approvals[approval_id]
            if self.log.look(lambda rows, id_=session_id: rows.get(layout.SESSIONS, id_)) is None:
                assert session.ended or now_ms >= session.expires_at_ms
                del self.model[session_id]
            elif now_ms >= session.expires_at_ms and not session.ended:
                session.ended, session.epoch = True, session.epoch + 1

    @rule()
    def reopen(self) -> None:
        """Close the writer and open the folder again."""
        assert isinstance(self.log, OnDisk)
        self.log.reopen()

    def teardown(self) -> None:
        """A follower of the log has come to the same rows."""
        assert isinstance(self.log, OnDisk)
        try:
            self.log.followed()
        finally:
            super().teardown()


TestCostsInMemory = CostsInMemory.TestCase
TestCostsInMemory.settings = settings(max_examples=examples(100), stateful_step_count=50, deadline=None)
TestCostsOnDisk = CostsOnDisk.TestCase
TestCostsOnDisk.settings = settings(max_examples=examples(15), stateful_step_count=40, deadline=None)
