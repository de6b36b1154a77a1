"""What clients of a server do one by one, as a hypothesis state machine: every answer is the model's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sessauth.decision_base import DecisionBase
from sessauth.errors import NotFound
from sessauth.reasons import Reason
from sessauth.session import SessionStatus
from tests.support.house import House, until_ms
from tests.support.service import wait_until
from tests.support.service_model import PLACES, Call, ModelSession, ModelToken
from tests.support.service_players import APPROVERS, Door, doors_of, open_family, word_of

FAMILIES = 2
EXPIRIES = 1
STATUS_AFTER = {
    "end": SessionStatus.ENDED,
    "suspend": SessionStatus.SUSPENDED,
    "resume": SessionStatus.ACTIVE,
}
NUMBERS = st.integers(0, 1000)
CALLS = st.builds(
    Call, st.sampled_from(PLACES), st.sampled_from("aab"), st.sampled_from([1, 1, 2, 3, 4, 5, 0, None])
)


class OneByOne(RuleBasedStateMachine):
    """Sessions live by the model; each answer is the model's."""

    def __init__(self, house: House) -> None:
        """Play on a house's server, which others have played on."""
        super().__init__()
        self.house = house
        self.sessions: list[ModelSession] = []
        self.families = self.kills = self.expiries = 0

    @initialize()
    def begin(self) -> None:
        """Open the first sessions."""
        self.open()

    @precondition(lambda self: self.families < FAMILIES)
    @rule()
    def open(self) -> None:
        """Open a session and its child."""
        self.sessions += open_family(self.house)
        self.families += 1

    # What the draws are of: indices, taken modulo what there is.

    def session(self, number: int) -> ModelSession:
        """Return one of the sessions."""
        return self.sessions[number % len(self.sessions)]

    def token(self, number: int) -> tuple[ModelSession, ModelToken]:
        """Return one of the tokens, and its session."""
        session = self.session(number)
        return session, session.tokens[number // len(self.sessions) % len(session.tokens)]

    def door(self, number: int) -> Door:
        """Return one of the doors."""
        return doors_of(self.house)[number % 4]

    # One call at a time.

    @rule(
        token=NUMBERS, door=NUMBERS, call=CALLS, permit=st.booleans(),
        retry=st.sampled_from([b"", b"", b"", b"1", b"2"]),
    )  # fmt: skip
    def check(self, token: int, door: int, call: Call, permit: bool, retry: bytes) -> None:
        """Ask about a call, perhaps for a permit, perhaps under a name that was used before."""
        session, of = self.token(token)
        self.ask(session, of, self.door(door), call, retry and session.id[:4] + retry, permit=permit)

    def ask(
        self, session: ModelSession, token: ModelToken, door: Door, call: Call, retry: bytes = b"", *,
        permit: bool = False,
    ) -> DecisionBase:  # fmt: skip
        """Ask about a call, and hold the answer."""
        expected = session.check(door.gateway, token, call, retry, permit=permit)
        decision = door.check(token, call, permit=permit, retry_id=retry)
        session.believe(expected, decision, door.gateway, token, call, retry, permit=permit)
        return decision

    @precondition(lambda self: any(each.retries for each in self.sessions))
    @rule(which=NUMBERS, door=NUMBERS, other=st.booleans())
    def ask_again(self, which: int, door: int, other: bool) -> None:
        """Ask again under a name that a call was allowed by, about that call or another one."""
        named = [(each, name) for each in self.sessions for name in each.retries]
        session, (_, retry) = named[which % len(named)]
        data, call, _ = session.retries[named[which % len(named)][1]]
        token = next(each for each in session.tokens if each.data == data)
        self.ask(session, token, self.door(door), Call(call.place, "z") if other else call, retry)

    @precondition(lambda self: any(each.permits or each.closed for each in self.sessions))
    @rule(which=NUMBERS, door=NUMBERS, spend=st.booleans(), wrong=st.sampled_from([False] * 5 + [True]))
    def settle(self, which: int, door: int, spend: bool, wrong: bool) -> None:
        """Commit or release a permit: open or closed, one's own or another's, of this call or another."""
        session, permit, held = self.permit(which)
        by = self.door(door)
        if spend:
            call = Call(held.call.place, "z", held.call.cost) if wrong else held.call
            expected = session.commit(by.gateway, permit, held.token, call)
            assert by.commit(permit, held.token, call).reason is expected
            if expected is Reason.ALLOWED:
                session.close(permit, spend=True)
        elif permit in session.permits and held.gateway == by.gateway:
            by.release(permit)
            session.close(permit, spend=False)
        else:
            with pytest.raises(NotFound):
                by.release(permit)

    def permit(self, which: int) -> tuple[ModelSession, bytes, Any]:
        """Return one of the permits, three times of four an open one if there is one."""
        opened = [(each, *pair) for each in self.sessions for pair in each.permits.items()]
        closed = [(each, *pair) for each in self.sessions for pair in each.closed]
        chosen = opened if opened and (which % 4 or not closed) else closed
        return chosen[which // 4 % len(chosen)]

    @precondition(lambda self: self.expiries < EXPIRIES)
    @rule(token=NUMBERS, door=NUMBERS, call=CALLS)
    def expire(self, token: int, door: int, call: Call) -> None:
        """Let a permit's deadline pass: it is none then, and what it held comes back."""
        session, of = self.token(token)
        by = self.door(door)
        expected = session.check(by.gateway, of, call, permit=True)
        decision = by.check(of, call, permit_ms=150)
        session.believe(expected, decision, by.gateway, of, call, permit=True)
        if not decision:
            return
        self.expiries += 1
        until_ms(decision.permit_expires_at_ms)  # type: ignore[attr-defined]
        permit: bytes = decision.permit  # type: ignore[attr-defined]
        assert by.commit(permit, of, call).reason is Reason.BAD_PERMIT
        session.close(permit, spend=False)
        opened = len(session.permits)
        assert wait_until(lambda: self.house.operator.get_session(session.id).open_permits == opened)

    # Approvals.

    @precondition(lambda self: any(each.requests for each in self.sessions))
    @rule(which=NUMBERS, signer=st.sampled_from([0, 1, 2, 0, 1, 2, 0, 1, 2, None]), lately=st.booleans())
    def answer(self, which: int, signer: int | None, lately: bool) -> None:
        """Grant or deny an approval; ``lately``: one of the last that were asked for."""
        session, request = self.request(which, lately)
        record = request.shown.record
        if signer is None:
            expected = session.answer(request, None)
            operator = self.house.operator
            assert word_of(lambda: operator.deny_approval(record.session_id, record.id)) == expected
            return
        signer = request.offer.keys[signer % len(request.offer.keys)]
        expected = session.answer(request, signer)
        by = APPROVERS[signer]
        assert word_of(lambda: self.house.operator.grant_approval(request.shown, by)) == expected

    def request(self, which: int, lately: bool) -> tuple[ModelSession, Any]:
        """Return one of the approvals that were asked for."""
        asked = [
            (each, request) for each in self.sessions for request in each.requests[-3 if lately else 0 :]
        ]
        return asked[which % len(asked)]

    @precondition(lambda self: any(each.requests for each in self.sessions))
    @rule(which=NUMBERS, signer=NUMBERS, door=NUMBERS)
    def approved(self, which: int, signer: int, door: int) -> None:
        """Make a call whose approval was asked for, perhaps with an approver's answer beside it."""
        session, request = self.request(which, lately=True)
        token = next(each for each in session.tokens if each.blocks[-1][0] == request.terms[0])
        call, by = request.terms[4], self.door(door)
        # What comes with a call serves one need, and below a root there may be two.
        given, approvals = None, []
        if signer % 2 and all(not offers for _, offers in token.blocks[1:]) and call.place != "mix":
            number = request.offer.keys[signer // 2 % len(request.offer.keys)]
            given, approvals = (request, number), [APPROVERS[number].grant(request.shown)]
        expected = session.check(by.gateway, token, call, given=given)
        decision = by.check(token, call, approvals=approvals)
        session.believe(expected, decision, by.gateway, token, call)

    # What is done to sessions.

    def take_away(self, session: ModelSession, token: ModelToken, how: str) -> str:
        """End, suspend or resume a session, or revoke a token's last block; returns the word of a refusal."""
        operator = self.house.operator
        if how == "end":
            return word_of(lambda: operator.end(session.id))
        if how == "suspend":
            return word_of(lambda: operator.suspend(session.id))
        if how == "resume":
            return word_of(lambda: operator.resume(session.id))
        return word_of(lambda: operator.revoke(session.id, [token.blocks[-1][0]]))

    def taken_away(self, session: ModelSession, token: ModelToken, how: str) -> str:
        """Do the same in the model."""
        if how == "revoke":
            session.revoked.add(token.blocks[-1][0])
            return ""
        if session.status is SessionStatus.ENDED or (session.over and how != "end"):
            return "ALREADY_ENDED"
        if (how, session.status) in (("suspend", SessionStatus.SUSPENDED), ("resume", SessionStatus.ACTIVE)):
            return "WRONG_STATUS"
        session.status = STATUS_AFTER[how]
        session.epoch += 1
        return ""

    @rule(number=NUMBERS, how=st.sampled_from(["suspend", "resume", "resume", "revoke"] * 3 + ["end"]))
    def move(self, number: int, how: str) -> None:
        """End, suspend or resume a session, or revoke a token of it."""
        session, token = self.token(number)
        expected = self.taken_away(session, token, how)
        assert self.take_away(session, token, how) == expected

    @rule(number=NUMBERS, places=st.sets(st.sampled_from(PLACES), max_size=2))
    def narrow(self, number: int, places: set[str]) -> None:
        """Take places from a session's ceiling, or none: what was open is dead either way."""
        session = self.session(number)
        left = session.ceiling - places or session.ceiling
        word = word_of(
            lambda: self.house.operator.narrow(session.id, [f"read:{place}/**" for place in sorted(left)])
        )
        assert word == ("ALREADY_ENDED" if session.over else "")
        if not word:
            session.ceiling, session.epoch = left, session.epoch + 1

    @rule(number=NUMBERS, golden=st.booleans())
    def tell(self, number: int, golden: bool) -> None:
        """Update a session's facts: the epoch stays, and so does what is open."""
        session = self.session(number)
        facts = {"tier": "gold" if golden else "tin"}
        word = word_of(lambda: self.house.operator.update_facts(session.id, facts))
        assert word == ("ALREADY_ENDED" if session.over else "")
        if not word:
            session.golden = golden

    @invariant()
    def what_is_open_is_the_models(self) -> None:
        """Status, epoch, open permits and waiting approvals of every session are the model's."""
        for session in self.sessions:
            shown = self.house.operator.get_session(session.id)
            assert (shown.status, shown.epoch) == (session.status, session.epoch)
            assert (shown.open_permits, shown.open_approvals) == (len(session.permits), session.waiting)
