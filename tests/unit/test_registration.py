"""A verifier that enrolled: it allows from when its server counts on it, and not behind its bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sessauth._fast.check.survey import Survey
from sessauth.clock import FixedClock, SystemClock
from sessauth.errors import PermissionDenied, Rejected, StateError, Unavailable
from sessauth.model.log_records import Head
from sessauth.reasons import Reason
from sessauth.verifier.registration import Registration, RegistrationLoop
from tests.support.memory_fixture import MemoryFixture, memory_fixture
from tests.support.service import wait_until

BOUND_MS = 10_000


class Server:
    """What a verifier reads and whom it tells: answers with ``latest``, or raises ``refusal``."""

    def __init__(self) -> None:
        self.heard: list[Registration] = []
        self.latest = 1
        self.called = 0
        self.life = 1
        self.refusal: Exception | None = None

    def __call__(self, told: Registration) -> int:
        """Take what a verifier tells."""
        self.heard.append(told)
        if self.refusal is not None:
            raise self.refusal
        return self.latest

    def head(self) -> Head:
        """Where the log stands."""
        return Head(3, 1, b"c" * 16, b"i" * 16, revision=1)

    def called_for(self) -> tuple[int, int]:
        """Who calls for which revision."""
        return self.life, self.called


@pytest.fixture
def server() -> Server:
    """A server that answers."""
    return Server()


@pytest.fixture
def memory() -> MemoryFixture:
    """A session that may do anything, at revision 1."""
    return memory_fixture()


@pytest.fixture
def enrol(server: Server, memory: MemoryFixture) -> Iterator[Callable[..., RegistrationLoop]]:
    """Makes enrolments, which are closed with the test."""
    made: list[RegistrationLoop] = []

    def make(bound_ms: int = BOUND_MS, clock: object = None) -> RegistrationLoop:
        given = clock or SystemClock()
        enrolling = RegistrationLoop(memory.checker.view, server, server, "gw-1", bound_ms, given)  # type: ignore[arg-type]
        made.append(enrolling)
        return enrolling

    yield make
    for each in made:
        each.close()


def reason(memory: MemoryFixture) -> Reason:
    """Return what a call of a good token comes to."""
    return memory.check(memory.mint("read:files/**"), "read", "files/a").reason


def test_it_allows_from_when_it_is_enrolled(
    enrol: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """Not before, and not once it left; what it tells is its own reading of the state."""
    assert reason(memory) is Reason.ALLOWED
    enrolling = enrol()
    assert reason(memory) is Reason.STALE_STATE

    enrolling.start()

    assert enrolling.enrolled and reason(memory) is Reason.ALLOWED
    told = server.heard[0]
    assert (told.cluster_id, told.incarnation, told.revision) == (b"c" * 16, b"i" * 16, 1)
    assert (told.name, told.staleness_ms, told.leave) == ("gw-1", BOUND_MS, False)
    enrolling.close()
    assert reason(memory) is Reason.STALE_STATE
    assert server.heard[-1].leave and server.heard[-1].instance == told.instance


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
    """What can't be allowed is not listed as if it could."""
    token, now_ms = memory.mint("read:files/**").data, memory.clock.now_ms()

    def surveyed() -> int:
        return Survey(memory.checker, token, audience="gateway", now_ms=now_ms).reason

    assert surveyed() == Reason.ALLOWED
    memory.checker.view.stale_at(1)
    assert surveyed() == Reason.STALE_STATE


def test_it_counts_from_when_it_began_to_ask(
    enrol: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """An answer that was long in coming gives no more time: the server heard it earlier than that."""
    began = SystemClock().steady_ms()
    clock = FixedClock(began - BOUND_MS)
    enrol(clock=clock).start()

    assert reason(memory) is Reason.STALE_STATE


def test_who_is_not_heard_is_asked_again(
    enrol: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """A server that can't be reached is no mistake of the caller's: nothing is allowed until it answers."""
    server.refusal = Unavailable("not there")
    enrolling = enrol()
    enrolling.start()
    assert not enrolling.enrolled and reason(memory) is Reason.STALE_STATE and enrolling.problem

    server.refusal = None

    assert wait_until(lambda: enrolling.enrolled)
    assert reason(memory) is Reason.ALLOWED


@pytest.mark.parametrize("refusal", [Rejected("NAME_TAKEN"), PermissionDenied("no")])
def test_what_is_refused_for_good_is_told(
    enrol: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture, refusal: Exception
) -> None:
    """Another has the name, or the credential may not: the caller hears it."""
    server.refusal = refusal
    with pytest.raises(type(refusal)):
        enrol().start()
    assert reason(memory) is Reason.STALE_STATE


def test_a_name_that_was_lost_denies_at_once(
    enrol: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """Who is told that another has its name does not wait for its bound."""
    enrol().start()
    assert reason(memory) is Reason.ALLOWED

    server.refusal, server.called = Rejected("NAME_TAKEN"), 2

    assert wait_until(lambda: reason(memory) is Reason.STALE_STATE)


def test_it_answers_a_call_for_acknowledgements(
    enrol: Callable[..., RegistrationLoop], server: Server
) -> None:
    """Soon behind the call, and without one nothing is told before it is time."""
    enrol(bound_ms=60 * BOUND_MS).start()
    assert len(server.heard) == 1

    server.called = 1
    assert not wait_until(lambda: len(server.heard) > 1, 0.05)
    server.life = 2
    assert wait_until(lambda: len(server.heard) == 2)
    server.called = 2

    assert wait_until(lambda: len(server.heard) > 2)


def test_a_view_behind_its_server_does_not_count(
    enrol: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """A server that is further than what the view reads has another state, or the view is old."""
    server.latest = 2
    enrolling = enrol()
    enrolling.start()

    assert not enrolling.enrolled and reason(memory) is Reason.STALE_STATE


def test_without_a_bound_it_is_never_stale(
    enrol: Callable[..., RegistrationLoop], server: Server, memory: MemoryFixture
) -> None:
    """A worker's end is seen by its server; it leaves without a word."""
    enrolling = enrol(bound_ms=0)
    assert reason(memory) is Reason.ALLOWED
    enrolling.start()
    enrolling.close()

    assert reason(memory) is Reason.ALLOWED
    assert [told.leave for told in server.heard] == [False]


def test_a_state_that_can_not_be_read_is_not_acknowledged(
    enrol: Callable[..., RegistrationLoop],
    server: Server,
    memory: MemoryFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is told of what was not read."""

    def gone() -> Head:
        raise StateError("gone")

    monkeypatch.setattr(server, "head", gone)
    enrolling = enrol()
    enrolling.start()

    assert server.heard == [] and not enrolling.enrolled and reason(memory) is Reason.STALE_STATE
