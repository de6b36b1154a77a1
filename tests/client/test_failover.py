"""A client of several servers: a call goes from one to the next within its deadline, once for its work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from sessauth.client import AsyncClient, Client, _transport
from sessauth.client._target import resolve_targets
from sessauth.errors import OutcomeUnknown, SessauthError, Unavailable, Unreachable
from sessauth.v1 import authorization_service_pb2 as authorization
from sessauth.v1 import session_service_pb2 as sessions
from tests.client.conftest import Answer, FakeServer, always, failing, in_turn

OPEN = "SessionService/OpenSession"
RENEW = "SessionService/KeepAlive"
END = "SessionService/EndSession"
CHECK = "AuthorizationService/Check"
SECRET = "sessauth_key_tester_secret"
TERMS: dict[str, Any] = {"subject": "agent", "ceiling": ["read:**"]}
OPENED = always(
    sessions.OpenSessionResponse(session=sessions.Session(id=b"s" * 16, subject="agent", lease_ms=900))
)
NOT_LEADER = failing(grpc.StatusCode.UNAVAILABLE, "no server leads at the moment", "NOT_LEADER")
UNKNOWN = failing(grpc.StatusCode.UNAVAILABLE, "the engine did not answer", "OUTCOME_UNKNOWN")
UNUSABLE = failing(grpc.StatusCode.UNAVAILABLE, "its log says why", "STATE_UNUSABLE")
# Of a server that is killed, or stops and waits no longer.
CANCELLED = failing(grpc.StatusCode.CANCELLED, "CANCELLED")
FULL = failing(grpc.StatusCode.UNAVAILABLE, "the engine is full", "ENGINE_FULL")
REJECTED = failing(grpc.StatusCode.FAILED_PRECONDITION, "no", "BANNED")


def silent(over: threading.Event) -> Answer:
    """Return an answer that does not come until a test is over."""

    def answer(_request: bytes, _context: grpc.ServicerContext) -> Message:
        over.wait(20)
        return sessions.OpenSessionResponse()

    return answer


def blocking(targets: Any, timeout_ms: int, call: str) -> SessauthError | None:
    """Make a call by the blocking client; return its error."""
    with Client(targets, SECRET, timeout_ms=timeout_ms) as client:
        try:
            client.open_session(**TERMS) if call == "change" else client.check("x", "read", "a")
        except SessauthError as error:
            return error
    return None


def awaited(targets: Any, timeout_ms: int, call: str) -> SessauthError | None:
    """Make a call by the asyncio client; return its error."""

    async def ask() -> None:
        async with AsyncClient(targets, SECRET, timeout_ms=timeout_ms) as client:
            if call == "change":
                await client.open_session(**TERMS)
            else:
                await client.check("x", "read", "a")

    try:
        asyncio.run(ask())
    except SessauthError as error:
        return error
    return None


Ask = Callable[[Any, int, str], SessauthError | None]


@pytest.fixture(params=[blocking, awaited])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Each client."""
    made: Ask = request.param
    return made


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Let silent servers answer at the end."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again sooner than clients do, where the deadline is far and no fact."""
    monkeypatch.setattr(_transport, "ROUND_S", (0.01, 0.05))
    monkeypatch.setattr(_transport, "RETRY_DELAYS_S", (0.01, 0.03))


@pytest.fixture
def pair(make_server: Callable[[str], FakeServer]) -> tuple[FakeServer, FakeServer]:
    """Two servers without answers."""
    return make_server("one.sock"), make_server("two.sock")


@pytest.mark.usefixtures("quick_rounds")
@pytest.mark.parametrize(
    ("one", "two"),
    [
        (NOT_LEADER, OPENED),
        (UNKNOWN, OPENED),
        (UNUSABLE, OPENED),
        (CANCELLED, OPENED),
        # A take-over: nobody leads for longer than two attempts.
        (in_turn(*[NOT_LEADER] * 5), in_turn(*[NOT_LEADER] * 5, OPENED)),
        (in_turn(UNKNOWN, NOT_LEADER), in_turn(NOT_LEADER, NOT_LEADER, OPENED)),
    ],
)
def test_a_change_is_made_by_the_server_that_can(
    pair: tuple[FakeServer, FakeServer], ask: Ask, one: Answer, two: Answer
) -> None:
    """One request id is used, as often as it takes."""
    for server, answer in zip(pair, (one, two), strict=True):
        server.answers[OPEN] = answer

    assert ask([server.target for server in pair], 20_000, "change") is None

    asked = [request for server in pair for request in server.requests(sessions.OpenSessionRequest)]
    assert len({request.request_id for request in asked}) == 1 and len(asked) >= 2


@pytest.mark.slow
def test_a_silent_server_is_left_in_time(
    pair: tuple[FakeServer, FakeServer], ask: Ask, over: threading.Event
) -> None:
    """It has its part of the deadline, and the other one the rest."""
    pair[0].answers[OPEN], pair[1].answers[OPEN] = silent(over), OPENED

    assert ask([server.target for server in pair], 8_000, "change") is None


def test_a_server_that_is_gone_is_passed_over(tmp_path: Path, server: FakeServer, ask: Ask) -> None:
    """Also by a check."""
    server.answers[CHECK] = always(authorization.CheckResponse())

    assert ask([str(tmp_path / "nobody.sock"), server.target], 20_000, "check") is None


@pytest.mark.usefixtures("quick_rounds")
def test_one_server_is_asked_until_another_leads(server: FakeServer, ask: Ask) -> None:
    """It is one of a cluster, and hands on once somebody leads."""
    server.answers[OPEN] = in_turn(*[NOT_LEADER] * 6, OPENED)

    assert ask(server.target, 20_000, "change") is None


@pytest.mark.parametrize(
    ("one", "two", "kind", "words"),
    [
        (NOT_LEADER, NOT_LEADER, Unavailable, ["no server leads at the moment", "request_id"]),
        (NOT_LEADER, UNUSABLE, SessauthError, ["no server leads at the moment", "its log says why"]),
        (UNKNOWN, UNUSABLE, OutcomeUnknown, ["request_id"]),
        (FULL, OPENED, Unavailable, ["the engine is full"]),
        (REJECTED, OPENED, SessauthError, ["no"]),
    ],
)
def test_an_error_has_the_last_answer_of_each_server(
    pair: tuple[FakeServer, FakeServer],
    ask: Ask,
    one: Answer,
    two: Answer,
    kind: type[SessauthError],
    words: list[str],
) -> None:
    """A refusal that another server would give too is raised at once."""
    for server, answer in zip(pair, (one, two), strict=True):
        server.answers[OPEN] = answer

    error = ask([server.target for server in pair], 600, "change")

    assert isinstance(error, kind) and all(word in str(error) for word in words), error
    assert (len(pair[1].seen) == 0) is (one in (FULL, REJECTED))


@pytest.mark.slow
def test_a_deadline_does_not_hide_what_a_server_said(
    server: FakeServer, ask: Ask, over: threading.Event
) -> None:
    """The last attempt may have no answer: the one before has the reason."""
    server.answers[OPEN] = in_turn(NOT_LEADER, silent(over))

    error = ask(server.target, 1_500, "change")

    assert isinstance(error, Unavailable)
    assert "did not answer within 1500 ms" in str(error) and "no server leads at the moment" in str(error)


def test_servers_that_are_all_gone_were_not_asked(tmp_path: Path, ask: Ask) -> None:
    """So nothing was done, and both are named."""
    error = ask([str(tmp_path / "one.sock"), str(tmp_path / "two.sock")], 700, "change")

    assert isinstance(error, Unreachable)
    assert "one.sock" in str(error) and "two.sock" in str(error)


def test_the_server_that_served_is_asked_first(pair: tuple[FakeServer, FakeServer]) -> None:
    """Calls behind a take-over go straight to it."""
    pair[0].answers[OPEN], pair[1].answers[OPEN] = NOT_LEADER, OPENED
    with Client([server.target for server in pair], SECRET, timeout_ms=20_000) as client:
        for _ in range(3):
            client.open_session(**TERMS)

    assert [len(server.seen) for server in pair] == [1, 3]


def test_a_live_session_is_renewed_at_the_server_that_leads(pair: tuple[FakeServer, FakeServer]) -> None:
    """Its lease does not lapse while another server takes over."""
    renewed, ended = threading.Event(), always(sessions.EndSessionResponse())

    def renew(_request: bytes, _context: grpc.ServicerContext) -> Message:
        renewed.set()
        return sessions.KeepAliveResponse()

    pair[0].answers.update({OPEN: OPENED, RENEW: NOT_LEADER, END: NOT_LEADER})
    pair[1].answers.update({RENEW: renew, END: ended})
    with (
        Client([server.target for server in pair], SECRET, timeout_ms=20_000) as client,
        client.session(**TERMS, lease_ms=900),
    ):
        assert renewed.wait(20)

    assert pair[1].seen[-1].method == END


@pytest.mark.parametrize(
    ("stated", "targets"),
    [
        ("one:7443,two:7443", ("one:7443", "two:7443")),
        ("one:7443, two:7443", ("one:7443", "two:7443")),
        (["one:7443", "/run/a.sock"], ("one:7443", "unix:/run/a.sock")),
        ("/run/a,b.sock", ("unix:/run/a,b.sock",)),
        ("one:7443,one:7443", ("one:7443",)),
    ],
)
def test_targets_are_a_list_or_a_text(
    monkeypatch: pytest.MonkeyPatch, stated: Any, targets: tuple[str, ...]
) -> None:
    """The argument and the environment are read alike; a path is one target."""
    assert resolve_targets(stated) == targets
    if isinstance(stated, str):
        monkeypatch.setenv("SESSAUTH_TARGET", stated)
        assert resolve_targets(None) == targets


def test_time_is_left_for_each_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third for the first of three; the last second is not cut into pieces."""
    now = 1_000.0
    monkeypatch.setattr(_transport, "time", SimpleNamespace(monotonic=lambda: now))
    call = _transport.RpcRequest("S/M", b"", bytes, bytes, request_id="r")
    state = _transport.RetryState(call, 9_000, 3)
    parts = []
    for passed in (0.0, 3.0, 2.0, 3.4):
        now += passed
        parts.append(round(state.remaining_s(), 3))
    assert parts == [3.0, 2.0, 1.333, 0.6]
    once = _transport.RpcRequest("S/M", b"", bytes, bytes, repeatable=False)
    assert _transport.RetryState(once, 9_000, 3).remaining_s() == 9.0
