from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import grpc
import pytest

from sessauth.clock import SystemClock
from sessauth.server import config as server_config
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.service import RpcError, Service, home_folder, serves, wait_until

HOUR_MS = 3_600_000


class _SteppedClock(SystemClock):
    """The machine's clocks, with a wall clock that somebody set wrong."""

    step_ms = 0

    def now_ms(self) -> int:
        """Return the wrong wall time in ms."""
        return super().now_ms() + self.step_ms


@pytest.fixture
def clock() -> _SteppedClock:
    """A clock that is right so far."""
    return _SteppedClock()


@pytest.fixture
def stepped(clock: _SteppedClock) -> Iterator[Service]:
    """A server that lives by that clock."""
    with home_folder() as home:
        service = Service(initialise(home))
        service.control = Control(server_config.from_dict({"home": str(home)}), clock)
        service.control.start()
        try:
            yield service
        finally:
            for caller in service.callers:
                caller.close()
            service.control.stop()


def test_a_wrong_clock_grants_nothing_and_ends_what_is_asked(stepped: Service, clock: _SteppedClock) -> None:
    """While the wall clock is off: no session, no token, not ready; an end is written all the same."""
    operator = stepped.operator
    opening = sessions.OpenSessionRequest(subject="agent", ceiling=["read:**"])
    session = operator.call("SessionService/OpenSession", opening).session
    mint = tokens.MintRequest(session_id=session.id, scopes=["read:**"], audience=["gw"])
    assert serves(operator)

    clock.step_ms = HOUR_MS
    for rpc, request in (("SessionService/OpenSession", opening), ("TokenService/Mint", mint)):
        with pytest.raises(RpcError) as caught:
            operator.call(rpc, request)
        assert (caught.value.code, caught.value.word) == (grpc.StatusCode.UNAVAILABLE, "STATE_UNUSABLE")
    assert wait_until(lambda: not serves(operator))
    ended = operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session.id))
    assert ended.session.ended_at_ms < session.opened_at_ms + 60_000

    clock.step_ms = 0
    assert wait_until(lambda: serves(operator))
    assert operator.call("SessionService/OpenSession", opening).session.id


def test_a_clock_before_the_states_floor_is_not_ready(clock: _SteppedClock) -> None:
    """A server that starts with a clock an hour behind its state denies every check, and reports that."""
    with home_folder() as home:
        service = Service(initialise(home))
        config = server_config.from_dict({"home": str(home)})
        opening = sessions.OpenSessionRequest(subject="agent", ceiling=["read:**"])
        for clock.step_ms, problem in ((0, ""), (-HOUR_MS, "clock floor"), (-1_000, "")):
            service.control = Control(config, clock)
            service.control.start()
            operator = service.operator
            try:
                found = service.control.readiness.problem()
                assert (bool(found), problem in found) == (bool(problem), True)
                if problem:
                    assert not serves(operator)
                else:
                    assert wait_until(partial(serves, operator))
                    operator.call("SessionService/OpenSession", opening)
            finally:
                for caller in service.callers:
                    caller.close()
                service.callers.clear()
                service.control.stop()
