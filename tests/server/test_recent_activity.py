"""The calls of the last ten minutes: counted by minute, forgotten in time, ranked, and bounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessauth.client import Client
from sessauth.clock import FixedClock
from sessauth.errors import PermissionDenied, UsageError
from sessauth.server.usage import recent_activity
from sessauth.server.usage.recent_activity import MINUTES, RecentActivity
from sessauth.usage.session_usage import SessionObservation
from sessauth.v1 import usage_service_pb2 as pb
from tests.support.service import RpcError, Service, running

from .test_usage_service import batch, send

MINUTE_MS = 60_000
AT = 1_790_000_000_000
STEPS = st.tuples(
    st.integers(0, 3), st.integers(0, 5), st.integers(0, 5), st.sampled_from([0, 1_000, MINUTE_MS, 700_000])
)


def ids(recent: RecentActivity, *, by_calls: bool = False) -> list[int]:
    """Return the ranked sessions, which are named by one byte."""
    return [session_id[0] for session_id, _ in recent.ranked(by_calls=by_calls)]


@given(st.lists(STEPS, max_size=40))
def test_counts_are_those_of_a_list_of_all_calls(steps: list[tuple[int, int, int, int]]) -> None:
    """Each session has its calls of the last ten minutes by minute, whatever time passes between them."""
    clock, calls = FixedClock(AT), []
    recent = RecentActivity(clock)
    for session, allowed, denied, pause_ms in steps:
        clock.advance(pause_ms)
        recent.add(bytes([session]), allowed, denied)
        calls.append((session, clock.steady_ms() // MINUTE_MS, allowed, denied))
    now = clock.steady_ms() // MINUTE_MS
    expected: dict[int, tuple[list[int], list[int]]] = {}
    for session, minute, allowed, denied in calls:
        if now - minute < MINUTES and (allowed or denied):
            row = expected.setdefault(session, ([0] * MINUTES, [0] * MINUTES))
            row[0][minute - now - 1] += allowed
            row[1][minute - now - 1] += denied

    assert {session_id[0]: row for session_id, row in recent.ranked(by_calls=True)} == expected
    for place, column in enumerate(recent.total()):
        assert column == [sum(row[place][minute] for row in expected.values()) for minute in range(MINUTES)]


def test_the_most_denied_stand_first_or_the_most_called() -> None:
    """Equal numbers are ordered by the other count."""
    recent = RecentActivity(FixedClock(AT))
    for session, allowed, denied in ((1, 90, 0), (2, 3, 7), (3, 50, 7), (4, 0, 1)):
        recent.add(bytes([session]), allowed, denied)

    assert ids(recent) == [3, 2, 4, 1]
    assert ids(recent, by_calls=True) == [1, 3, 2, 4]


def test_a_wall_clock_that_is_set_moves_no_count() -> None:
    """A step of an hour, either way, is not an hour without calls."""
    clock = FixedClock(AT)
    recent = RecentActivity(clock)
    recent.add(b"\1", 1, 2)
    for step in (3_600_000, -7_200_000):
        clock.step(step)
        assert [sum(denied) for _, (_, denied) in recent.ranked(by_calls=False)] == [2]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session whose last call is the oldest makes room; no count outgrows its place."""
    monkeypatch.setattr(recent_activity, "MAX_SESSIONS", 2)
    recent = RecentActivity(FixedClock(AT))
    for session in (1, 2, 1, 3):
        recent.add(bytes([session]), 2**32, 1)

    assert sorted(ids(recent)) == [1, 3]
    assert len(recent) == 2
    assert max(next(recent.ranked(by_calls=True))[1][0]) == 2**32 - 1


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, Client]]:
    """A client for each role of a server."""
    with running() as service:
        found = {name: _client(service, name, role) for name, role in ROLES}
        yield found
        for client in found.values():
            client.close()


ROLES = (("gw", "gateway"), ("ann", "issuer"), ("ben", "issuer"), ("aud", "auditor"), ("op", "operator"))


def _client(service: Service, name: str, role: str) -> Client:
    return Client(f"unix:{service.made.socket}", service.add(name, role).credential, timeout_ms=10_000)


def test_activity_is_what_verifiers_reported_of_the_sessions_that_a_caller_reaches(
    clients: dict[str, Client],
) -> None:
    """An operator sees all and the sums, an issuer its own sessions and no sum, a gateway nothing."""
    sessions = {
        name: clients[name].open_session(
            subject=f"agent:{name}", ceiling=["read:**"], labels={"team": "Blue"}
        )
        for name in ("ann", "ben")
    }
    for number, (name, denied) in enumerate((("ann", 5), ("ben", 9)), 1):
        send(clients["gw"], batch(SessionObservation(sessions[name].id, 1, denied), number=number))
    seen = clients["op"].list_activity()
    own = clients["ann"].list_activity(order="calls")

    assert [(each.session.subject, each.denied[-1], each.calls[-1]) for each in seen.sessions] == [
        ("agent:ben", 9, 10),
        ("agent:ann", 5, 6),
    ]
    assert (seen.allowed[-1], seen.denied[-1], len(seen.denied)) == (2, 14, MINUTES)
    assert seen.per_second(seen.denied) == pytest.approx(14 / 60)
    assert [each.session.id for each in own.sessions] == [sessions["ann"].id]
    assert (own.allowed, own.per_second(own.denied)) == ((), 0.0)
    with pytest.raises(PermissionDenied):
        clients["gw"].list_activity()


def test_words_and_a_limit_narrow_it(clients: dict[str, Client]) -> None:
    """Words are found in any case, in every part of what a session was opened with, and by its id."""
    session = clients["ann"].open_session(
        subject="agent:desk", purpose="Refunds", ceiling=["read:**"], labels={"tier": "Gold"}
    )
    send(clients["gw"], batch(SessionObservation(session.id, 0, 1)))

    for words in ("REFUNDS", "tier=gold desk", session.id.hex()[:6], "ann refunds"):
        assert [each.session.id for each in clients["aud"].list_activity(words=words).sessions] == [
            session.id
        ]
    assert clients["aud"].list_activity(words="refunds bea").sessions == ()
    assert len(clients["aud"].list_activity(limit=1).sessions) == 1


def test_a_faulty_question_is_refused(clients: dict[str, Client]) -> None:
    """The client names the parameter; so does the server to another one."""
    with pytest.raises(UsageError, match="order: must be one of denied, calls"):
        clients["op"].list_activity(order="name")
    with pytest.raises(UsageError, match="limit"):
        clients["op"].list_activity(limit=101)
    with running() as service:
        for request, field in (
            (pb.ListActivityRequest(order=9), "order"),
            (pb.ListActivityRequest(limit=101), "limit"),
            (pb.ListActivityRequest(words="x" * 201), "words"),
        ):
            with pytest.raises(RpcError, match=f"{field}: "):
                service.operator.call("UsageService/ListActivity", request)
