"""A registered verifier: it allows once its server counts on it, and not past its bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sessauth._fast._codec import Survey
from sessauth.clock import FixedClock, SystemClock
from sessauth.errors import PermissionDenied, Rejected, StateError, Unavailable
from sessauth.model.change import Head
from sessauth.reasons import Reason
from sessauth.verifier.base import Registration, RegistrationLoop
from tests.support.memory_fixture import MemoryFixture
from tests.support.service import wait_until

BOUND_MS = 10_000


class Server:
    """A source of state and a server: answers with ``latest``, or raises ``refusal``."""

    def __init__(self) -> None:
        self.received: list[Registration] = []
        self.latest = 1
        self.called = 0
        self.life = 1
        self.refusal: Exception | None = None

    def __call__(self, registration: Registration) -> int:
        """Accept a registration."""
        self.received.append(registration)
        if self.refusal is not None:
            raise self.refusal
        return self.latest

    def head(self) -> Head:
        """Return the position of the log."""
        return Head(3, 1, b"c" * 16, b"i" * 16, revision=1)

    def called_for(self) -> tuple[int, int]:
        """Return the life of the server and the revision that it calls for."""
        return self.life, self.called


@pytest.fixture
def server() -> Server:
    """A server that answers."""
    return Server()


@pytest.fixture
def register(server: Server, memory: MemoryFixture) -> Iterator[Callable[..., RegistrationLoop]]:
    """Makes registrations, which are closed with the test."""
    loops: list[RegistrationLoop] = []

    def make(bound_ms: int = BOUND_MS, clock: object = None) -> RegistrationLoop:
        used = clock or SystemClock()
        loop = RegistrationLoop(memory.checker.view, server, server, "gw-1", bound_ms, used)  # type: ignore[arg-type]
        loops.append(loop)
        return loop

    yield make
    for loop in loops:
        loop.close()


def reason(memory: MemoryFixture) -> Reason:
    """Return what a call of a good token comes to."""
    return memory.check(memory.mint("read:files/**"), "read", "files/a").reason


def test_it_allows_once_it_is_registered(
    register: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """Not before, and not once it left; it reports its own reading of the state."""
    assert reason(memory) is Reason.ALLOWED
    loop = register()
    assert reason(memory) is Reason.STALE_STATE

    loop.start()

    assert loop.registered and reason(memory) is Reason.ALLOWED
    sent = server.received[0]
    assert (sent.cluster_id, sent.incarnation, sent.revision) == (b"c" * 16, b"i" * 16, 1)
    assert (sent.name, sent.staleness_ms, sent.leave) == ("gw-1", BOUND_MS, False)
    loop.close()
    assert reason(memory) is Reason.STALE_STATE
    assert server.received[-1].leave and server.received[-1].instance == sent.instance


def test_behind_its_bound_it_denies_by_itself(memory: MemoryFixture) -> None:
    """The kernel holds the bound against its own steady clock, in a batch and a survey as well."""
    view = memory.checker.view
    now_ms = SystemClock().steady_ms()
    good = memory.mint("read:files/**")
    call = (good.data, "read", "files/a", b"", b"", b"", "", ())

    for at_ms, expected in (
        (now_ms + 60_000, Reason.ALLOWED),
        (now_ms, Reason.STALE_STATE),
        (0, Reason.ALLOWED),
    ):
        view.stale_at(at_ms)
        assert reason(memory) is expected
        batch = memory.checker._check_batch([call, call], audience="gateway", now_ms=memory.clock.now_ms())
        assert [each.reason for each in batch] == [expected, expected]


def test_a_survey_is_denied_too(memory: MemoryFixture) -> None:
    """A call that can not be allowed is not listed as possible."""
    token, now_ms = memory.mint("read:files/**").data, memory.clock.now_ms()

    def surveyed() -> int:
        return Survey(memory.checker, token, audience="gateway", now_ms=now_ms).reason

    assert surveyed() == Reason.ALLOWED
    memory.checker.view.stale_at(1)
    assert surveyed() == Reason.STALE_STATE


def test_it_counts_from_when_it_began_to_ask(
    register: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """An answer that was long in coming gives no more time: the server heard it earlier than that."""
    began = SystemClock().steady_ms()
    clock = FixedClock(began - BOUND_MS)
    register(clock=clock).start()

    assert reason(memory) is Reason.STALE_STATE


def test_an_unreachable_server_is_tried_again(
    register: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """A server that can't be reached is no mistake of the caller's: nothing is allowed until it answers."""
    server.refusal = Unavailable("not there")
    loop = register()
    loop.start()
    assert not loop.registered and reason(memory) is Reason.STALE_STATE and loop.problem

    server.refusal = None

    assert wait_until(lambda: loop.registered)
    assert reason(memory) is Reason.ALLOWED


@pytest.mark.parametrize("refusal", [Rejected("NAME_TAKEN"), PermissionDenied("no")])
def test_a_final_refusal_is_raised(
    register: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture, refusal: Exception
) -> None:
    """Another has the name, or the credential may not: the caller hears it."""
    server.refusal = refusal
    with pytest.raises(type(refusal)):
        register().start()
    assert reason(memory) is Reason.STALE_STATE


def test_a_name_that_was_lost_denies_at_once(
    register: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """A verifier that lost its name does not wait for its bound."""
    register().start()
    assert reason(memory) is Reason.ALLOWED

    server.refusal, server.called = Rejected("NAME_TAKEN"), 2

    assert wait_until(lambda: reason(memory) is Reason.STALE_STATE)


def test_it_answers_a_call_for_acknowledgements(
    register: Callable[..., RegistrationLoop], server: Server
) -> None:
    """Soon behind the call, and without one nothing is told before it is time."""
    register(bound_ms=60 * BOUND_MS).start()
    assert len(server.received) == 1

    server.called = 1
    assert not wait_until(lambda: len(server.received) > 1, 0.05)
    server.life = 2
    assert wait_until(lambda: len(server.received) == 2)
    server.called = 2

    assert wait_until(lambda: len(server.received) > 2)


def test_a_view_behind_its_server_does_not_count(
    register: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """A server that is further than what the view reads has another state, or the view is old."""
    server.latest = 2
    loop = register()
    loop.start()

    assert not loop.registered and reason(memory) is Reason.STALE_STATE


def test_without_a_bound_it_is_never_stale(
    register: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """A worker's end is seen by its server; it leaves without a word."""
    loop = register(bound_ms=0)
    assert reason(memory) is Reason.ALLOWED
    loop.start()
    loop.close()

    assert reason(memory) is Reason.ALLOWED
    assert [sent.leave for sent in server.received] == [False]


def test_a_state_that_can_not_be_read_is_not_acknowledged(
    register: Callable[..., RegistrationLoop],
    server: Server,
    memory: MemoryFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is told of what was not read."""

    def gone() -> Head:
        raise StateError("gone")

    monkeypatch.setattr(server, "head", gone)
    loop = register()
    loop.start()

    assert server.received == [] and not loop.registered and reason(memory) is Reason.STALE_STATE
