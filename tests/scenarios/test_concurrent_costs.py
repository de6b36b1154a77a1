"""Random sequences of calls that cost something, by many clients of a real server, against a plain model."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from sessauth.decisions.decision import DecisionBase
from sessauth.errors import NotFound
from sessauth.reasons import Reason
from tests.support.cases import CASES
from tests.support.model_actors import Door, doors_of, retry_ids
from tests.support.server_fixture import ServerFixture, at_once
from tests.support.service import wait_until
from tests.support.service_machine import CALLS, NUMBERS, OneByOne
from tests.support.service_model import Call

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
