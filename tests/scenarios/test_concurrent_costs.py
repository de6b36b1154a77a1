"""Random sequences of calls that cost something, by many clients of a real server, against a plain model."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sessauth.decisions.decision import DecisionBase
from sessauth.errors import NotFound
from sessauth.model.approval import ApprovalStatus
from sessauth.model.session import SessionStatus
from sessauth.reasons import Reason
from tests.support.cases import CASES
from tests.support.model_actors import APPROVERS, Door, doors_of, open_family, retry_ids, word_of
from tests.support.server_fixture import ServerFixture, at_once, until_ms
from tests.support.service import wait_until
from tests.support.service_model import PLACES, Call, ModelRequest, ModelSession, ModelToken

LIVE = 3
EXPIRIES = 1
STATUS_AFTER = {
    "end": SessionStatus.ENDED,
    "suspend": SessionStatus.SUSPENDED,
    "resume": SessionStatus.ACTIVE,
}
NUMBERS = st.integers(0, 8 * 64 - 1)
CALLS = st.builds(
    Call, st.sampled_from(PLACES), st.sampled_from("aab"), st.sampled_from([1, 1, 2, 3, 4, 5, 0, None])
)


class OneByOne(RuleBasedStateMachine):
    """Sessions live by the model; each answer is the model's.

    Which rules may run, and what they draw, follows from earlier draws alone: what calls at once come to
    is not the same in each run.
    """

    def __init__(self, server: ServerFixture) -> None:
        """Play on a server's server, which others have played on."""
        super().__init__()
        self.server = server
        self.sessions: list[ModelSession] = []
        self.expiries = 0

    @initialize()
    def begin(self) -> None:
        """Open the first sessions."""
        self.open()

    @precondition(lambda self: sum(not each.over for each in self.sessions) < LIVE)
    @rule()
    def open(self) -> None:
        """Open a session and its child."""
        self.sessions += open_family(self.server)

    # The draws are indices, modulo the number of things there are.

    def session(self, number: int) -> ModelSession:
        """Return one of the sessions, seven times of eight one whose calls can be allowed if there is one."""
        acting = [each for each in self.sessions if each.acting]
        chosen = acting if acting and number % 8 else self.sessions
        return chosen[number // 8 % len(chosen)]

    def token(self, number: int) -> tuple[ModelSession, ModelToken]:
        """Return one of the tokens, mostly one that is not revoked, and its session."""
        session = self.session(number)
        standing = [each for each in session.tokens if not session.revoked & {id_ for id_, _ in each.blocks}]
        chosen = standing if standing and number % 7 else session.tokens
        return session, chosen[number // 64 % len(chosen)]

    def door(self, number: int) -> Door:
        """Return one of the doors."""
        return doors_of(self.server)[number % 4]

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

    @rule(which=NUMBERS, door=NUMBERS, other=st.booleans(), permit=st.booleans())
    def ask_again(self, which: int, door: int, other: bool, permit: bool) -> None:
        """Ask again under a name that a call was allowed by, about that call or another one."""
        named = [(each, name) for each in self.sessions for name in each.retries]
        if not named:
            return
        gone = [(each, name) for each, name in named if each.retries[name][2] and each.acting]
        gone = [(each, name) for each, name in gone if each.retries[name][2] not in each.permits]
        chosen = gone if gone and which % 2 else named
        session, name = chosen[which // 2 % len(chosen)]
        (_, retry), (data, call, _) = name, session.retries[name]
        token = next(each for each in session.tokens if each.data == data)
        self.ask(
            session, token, self.door(door), Call(call.place, "z") if other else call, retry, permit=permit
        )

    @rule(which=NUMBERS, door=NUMBERS, spend=st.booleans(), wrong=st.sampled_from([False] * 5 + [True]))
    def settle(self, which: int, door: int, spend: bool, wrong: bool) -> None:
        """Commit or release a permit: open or closed, one's own or another's, of this call or another."""
        if not any(each.permits or each.closed for each in self.sessions):
            return
        session, permit, held = self.permit(which)
        by = self.door(door)
        if spend:
            call = Call(held.call.place, "z", held.call.cost) if wrong else held.call
            expected = session.commit(by.gateway, permit, held.token, call)
            assert by.commit(permit, held.token, call).reason is expected
            if expected is Reason.ALLOWED:
                session.close(permit, spend=True)
            elif expected is Reason.SESSION_ENDED and permit in session.permits:
                # Whose permit it is knows now that it is worth nothing.
                if held.gateway == by.gateway:
                    session.close(permit, spend=False)
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
        self.expiries += 1
        session, of = self.token(token)
        by = self.door(door)
        expected = session.check(by.gateway, of, call, permit=True)
        decision = by.check(of, call, permit_ms=150)
        session.believe(expected, decision, by.gateway, of, call, permit=True)
        if not decision:
            return
        until_ms(decision.permit_expires_at_ms)  # type: ignore[attr-defined]
        permit: bytes = decision.permit  # type: ignore[attr-defined]
        assert by.commit(permit, of, call).reason is Reason.BAD_PERMIT
        session.close(permit, spend=False)
        opened = len(session.permits)
        assert wait_until(lambda: self.server.operator.get_session(session.id).open_permits == opened)

    # Approvals.

    @rule(
        which=NUMBERS,
        signer=st.sampled_from([0, 1, 2, 0, 1, None, "all", "all"]),
        live=st.sampled_from([True, True, False]),
    )
    def answer(self, which: int, signer: int | str | None, live: bool) -> None:
        """Grant or deny an approval, mostly one that can still come to something."""
        if not self.requests:
            return None
        session, request = self.request(which, live=live)
        if isinstance(signer, str):
            return self.answer_at_once(session, request)
        record = request.shown.record
        if signer is None:
            expected = session.answer(request, None)
            operator = self.server.operator
            assert word_of(lambda: operator.deny_approval(record.session_id, record.id)) == expected
            return None
        signer = request.offer.keys[signer % len(request.offer.keys)]
        expected = session.answer(request, signer)
        by = APPROVERS[signer]
        assert word_of(lambda: self.server.operator.grant_approval(request.shown, by)) == expected
        return None

    def answer_at_once(self, session: ModelSession, request: ModelRequest) -> None:
        """Have every approver who has not signed yet sign at once: no more count than are needed."""
        signers = [number for number in request.offer.keys if number not in request.signers]
        grant = self.server.operator.grant_approval

        def sign(number: int) -> Callable[[], tuple[int, str]]:
            return lambda: (number, word_of(lambda: grant(request.shown, APPROVERS[number])))

        answers = at_once([sign(number) for number in signers]) if signers else []
        for number, word in sorted(answers, key=lambda each: each[1] != ""):
            assert session.answer(request, number) == word

    @property
    def requests(self) -> list[tuple[ModelSession, ModelRequest]]:
        """Every approval that was asked for, and its session."""
        return [(each, request) for each in self.sessions for request in each.requests]

    def request(self, which: int, *, live: bool) -> tuple[ModelSession, ModelRequest]:
        """Return an approval that was asked for; ``live``: one that is still good for something."""
        useful = [
            (each, request)
            for each, request in self.requests
            if each.acting and request.terms[3] == each.epoch and request.status is not ApprovalStatus.USED
        ]
        chosen = useful if live and useful else self.requests
        return chosen[which % len(chosen)]

    @rule(which=NUMBERS, signer=NUMBERS, door=NUMBERS)
    def approved(self, which: int, signer: int, door: int) -> None:
        """Make a call whose approval was asked for, perhaps with an approver's answer beside it."""
        if not self.requests:
            return
        session, request = self.request(which, live=bool(signer % 8))
        token = next(each for each in session.tokens if each.blocks[-1][0] == request.terms[0])
        call, by = request.terms[4], self.door(door)
        # An approval beside a call serves one need, and below a root there may be two.
        answer, approvals = None, []
        if signer % 2 and all(not offers for _, offers in token.blocks[1:]) and call.place != "mix":
            number = request.offer.keys[signer // 2 % len(request.offer.keys)]
            answer, approvals = (request, number), [APPROVERS[number].grant(request.shown)]
        expected = session.check(by.gateway, token, call, answer=answer)
        decision = by.check(token, call, approvals=approvals)
        session.believe(expected, decision, by.gateway, token, call)

    # Changes of sessions.

    def take_away(self, session: ModelSession, token: ModelToken, how: str) -> str:
        """End, suspend or resume a session, or revoke a token's last block; returns the word of a refusal."""
        operator = self.server.operator
        if how == "end":
            return word_of(lambda: operator.end(session.id))
        if how == "suspend":
            return word_of(lambda: operator.suspend(session.id))
        if how == "resume":
            return word_of(lambda: operator.resume(session.id))
        return word_of(lambda: operator.revoke(session.id, [token.blocks[-1][0]]))

    def model_take_away(self, session: ModelSession, token: ModelToken, how: str) -> str:
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

    @rule(number=NUMBERS, how=st.sampled_from(["narrow", "facts", "suspend", "revoke", "end", "resume"]))
    def move(self, number: int, how: str) -> None:
        """Narrow, suspend, resume or end a session, update its facts, or revoke a token of it."""
        session, token = self.token(number)
        if how == "narrow":
            return self.narrow(session, number)
        if how == "facts":
            return self.set_facts(session)
        expected = self.model_take_away(session, token, how)
        assert self.take_away(session, token, how) == expected
        return None

    @precondition(lambda self: any(each.status is SessionStatus.SUSPENDED for each in self.sessions))
    @rule()
    def resume(self) -> None:
        """Let every suspended session go on."""
        for session in self.sessions:
            if session.status is SessionStatus.SUSPENDED:
                expected = self.model_take_away(session, session.tokens[0], "resume")
                assert self.take_away(session, session.tokens[0], "resume") == expected

    def narrow(self, session: ModelSession, number: int) -> None:
        """Take a place from a session's ceiling, or none: what was open is dead either way."""
        left = session.ceiling - {(*PLACES, "")[number % (len(PLACES) + 1)]} or session.ceiling
        word = word_of(
            lambda: self.server.operator.narrow(session.id, [f"read:{place}/**" for place in sorted(left)])
        )
        assert word == ("ALREADY_ENDED" if session.over else "")
        if not word:
            session.ceiling, session.epoch = left, session.epoch + 1

    def set_facts(self, session: ModelSession) -> None:
        """Update a session's facts: the epoch stays, and so does what is open."""
        facts = {"tier": "tin" if session.golden else "gold"}
        word = word_of(lambda: self.server.operator.update_facts(session.id, facts))
        assert word == ("ALREADY_ENDED" if session.over else "")
        if not word:
            session.golden = not session.golden

    @invariant()
    def what_is_open_is_the_models(self) -> None:
        """Status, epoch, open permits and waiting approvals of every session are the model's."""
        for session in self.sessions:
            shown = self.server.operator.get_session(session.id)
            assert (shown.status, shown.epoch) == (session.effective, session.epoch)
            assert (shown.open_permits, shown.open_approvals) == (len(session.permits), session.waiting)


EXAMPLES = max(4, CASES // 2000)
STEPS = 70
CROWD = 12


class Costs(OneByOne):
    """Concurrent calls: as many are allowed as the model says; the rest is denied for its reason."""

    def at_doors(self, count: int, ask: Callable[[Door, int], DecisionBase], doors: int = 4) -> list[Any]:
        """Ask so often at once, from every door in turn; returns door, answer, number, allowed first."""
        asked = [self.door(number % doors) for number in range(count)]
        answers = at_once(
            [lambda door=door, number=number: ask(door, number) for number, door in enumerate(asked)]
        )
        return sorted(zip(asked, answers, range(count), strict=True), key=lambda each: not each[1])

    @rule(token=NUMBERS, call=CALLS, permit=st.booleans())
    def same_call(self, token: int, call: Call, permit: bool) -> None:
        """Ask about one call from every door at once."""
        session, of = self.token(token)
        # The scope that paid for a permit, of two, is not known afterwards.
        permit = permit and call.place != "alt"
        for by, decision, _ in self.at_doors(CROWD, lambda door, _: door.check(of, call, permit=permit)):
            expected = session.check(by.gateway, of, call, permit=permit)
            session.believe(expected, decision, by.gateway, of, call, permit=permit)

    @rule(token=NUMBERS, costs=st.lists(st.integers(0, 5), min_size=4, max_size=CROWD), permit=st.booleans())
    def spread(self, token: int, costs: list[int], permit: bool) -> None:
        """Take different amounts of a budget at once: what was denied does not fit beside the rest."""
        session, of = self.token(token)
        calls = [Call("pay", "a", cost) for cost in costs]
        asked = self.at_doors(len(calls), lambda door, number: door.check(of, calls[number], permit=permit))
        for by, decision, number in asked:
            expected = session.check(by.gateway, of, calls[number], permit=permit)
            session.believe(expected, decision, by.gateway, of, calls[number], permit=permit)

    @rule(token=NUMBERS, call=CALLS, permit=st.booleans())
    def one_name(self, token: int, call: Call, permit: bool) -> None:
        """Ask about one call under one name from every door of a gateway: it is paid once."""
        session, of = self.token(token)
        (retry,) = retry_ids(1)
        asked = self.at_doors(CROWD, lambda door, _: door.check(of, call, permit=permit, retry_id=retry), 3)
        for by, decision, _ in asked:
            expected = session.check(by.gateway, of, call, retry, permit=permit)
            session.believe(expected, decision, by.gateway, of, call, retry, permit=permit)

    @rule(which=NUMBERS)
    def settle_at_once(self, which: int) -> None:
        """Commit and release one permit from every door at once: one of them does it."""
        if not any(each.permits for each in self.sessions):
            return
        session, permit, held = self.permit(4 * which + 1)
        allowed = session.commit(held.gateway, permit, held.token, held.call)

        def settle(door: Door, number: int) -> Any:
            if number % 3:
                return door.commit(permit, held.token, held.call)
            return door.release(permit)

        won = []
        for by, answer, number in self.at_doors(CROWD, settle):
            if number % 3 == 0:
                assert isinstance(answer, NotFound | int)
                if isinstance(answer, int):
                    won.append((by.gateway, False))
            elif answer:
                assert allowed is Reason.ALLOWED
                won.append((by.gateway, True))
            else:
                assert answer.reason is (Reason.BAD_PERMIT if allowed is Reason.ALLOWED else allowed)
        if allowed is Reason.SESSION_ENDED and not won:
            # A commit that was refused because the session is over closed it before a release came.
            won.append((held.gateway, False))
        assert [gateway for gateway, _ in won] == [held.gateway]
        session.close(permit, spend=won[0][1])

    @rule(token=NUMBERS, call=CALLS, how=st.sampled_from(["end", "suspend", "suspend", "revoke"]))
    def take_away_at_once(self, token: int, call: Call, how: str) -> None:
        """Take authority away while it is asked about: what was allowed could be; nothing is afterwards."""
        session, of = self.token(token)
        words: list[str] = []

        def ask(door: Door, number: int) -> Any:
            if number == CROWD // 2:
                words.append(self.take_away(session, of, how))
                return None
            return door.check(of, call)

        asked = [each for each in self.at_doors(CROWD + 1, ask) if each[1] is not None]
        denied = [each for each in asked if not each[1]]
        for by, decision, _ in asked[: len(asked) - len(denied)]:
            session.believe(session.check(by.gateway, of, call), decision, by.gateway, of, call)
        before = session.check("gateway", of, call)
        if before.wanted is not None:
            shown = [each[1] for each in denied if each[1].reason is before.reason]
            for decision in shown:
                session.believe(before, decision, "gateway", of, call)
        assert words == [self.model_take_away(session, of, how)]
        after = session.judge(of, call)
        possible = {before.reason, after} - {Reason.ALLOWED}
        assert {decision.reason for _, decision, _ in denied} <= possible
        for door in doors_of(self.server):
            self.ask(session, of, door, call)


class Killed(Costs):
    """A process dies amid the calls, once in each run."""

    def __init__(self, server: ServerFixture, victim: str, killed: list[str]) -> None:
        """Kill the ``control`` process or the ``worker``, and say so in ``killed``."""
        super().__init__(server)
        self.victim = victim
        self.killed = killed

    @initialize(steps=st.integers(2, 12), token=NUMBERS, call=CALLS, permit=st.booleans())
    def plan(self, **planned: Any) -> None:
        """Say after how many steps, and amid which calls."""
        self.planned = planned

    @invariant()
    def die(self) -> None:
        """Kill it when the time has come."""
        self.planned["steps"] -= 1
        if not self.planned["steps"]:
            self.kill(self.planned["token"], self.planned["call"], self.planned["permit"])
            self.what_is_open_is_the_models()

    def kill(self, token: int, call: Call, permit: bool) -> None:
        """Kill -9 amid calls: asked again under their names, each is paid once."""
        self.killed.append(self.victim)
        session, of = self.token(token)
        permit = permit and call.place != "alt"
        names = retry_ids(CROWD + 1)
        victim = self.server.process.process.pid if self.victim == "control" else self.server.worker_pids()[0]

        def ask(door: Door, number: int) -> Any:
            if number == CROWD // 2:
                os.kill(victim, signal.SIGKILL)
                return None
            return door.check(of, call, permit=permit, retry_id=names[number])

        first = {
            number: answer
            for _, answer, number in self.at_doors(CROWD + 1, ask)
            if isinstance(answer, DecisionBase)
        }
        if self.victim == "control":
            self.server.stop()
            self.server.start()
        else:
            assert wait_until(lambda: victim not in self.server.worker_pids())
            self.server.wait_for_workers()
        asked = [
            (door, door.check(of, call, permit=permit, retry_id=names[number]), number)
            for door, number in ((self.door(number), number) for number in range(CROWD + 1))
        ]
        for by, decision, number in sorted(asked, key=lambda each: not each[1]):
            before = first.get(number)
            if before:
                assert decision and getattr(decision, "permit", b"") == getattr(before, "permit", b"")
            expected = session.check(by.gateway, of, call, names[number], permit=permit)
            session.believe(expected, decision, by.gateway, of, call, names[number], permit=permit)


@pytest.fixture(scope="module")
def one_worker() -> Iterator[ServerFixture]:
    """A server process with one check worker."""
    with ServerFixture(workers=1) as made:
        yield made


def _run(machine: Callable[[], OneByOne], examples: int, steps: int) -> int:
    """Play; returns how often."""
    played = []

    def play() -> OneByOne:
        played.append(machine())
        return played[-1]

    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        # Shrinking would kill servers for minutes; the steps of a failure are printed as they were.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(play, settings=chosen)  # type: ignore[no-untyped-call]
    return len(played)


def test_concurrent_costs(one_worker: ServerFixture) -> None:
    """Nothing is allowed, open or taken but what the model says, whoever asks."""
    assert _run(lambda: Costs(one_worker), EXAMPLES, STEPS) >= EXAMPLES // 2


@pytest.mark.parametrize("victim", ["control", "worker"])
def test_costs_when_a_process_is_killed(one_worker: ServerFixture, victim: str) -> None:
    """A cost charged before a kill -9 is charged once, and given answers stand."""
    killed: list[str] = []
    _run(lambda: Killed(one_worker, victim, killed), max(2, EXAMPLES // 4), 40)
    assert killed
