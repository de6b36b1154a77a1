"""A watch that breaks again and again gives the same events as one that holds, after any changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessauth.client import Client, EventKind, SessionEvent, SessionWatch, _live_state
from sessauth.errors import Rejected
from tests.support.cases import examples
from tests.support.cuttable_socket import Wire
from tests.support.service import Service, running

CHANGES = ("open", "open child", "narrow", "facts", "suspend", "resume", "revoke", "end", "cut")
STEPS = st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 3)), min_size=1, max_size=16)
# What each change is received as, once it was applied.
KINDS = {
    "open": EventKind.OPENED,
    "open child": EventKind.OPENED,
    "narrow": EventKind.NARROWED,
    "facts": EventKind.FACTS_CHANGED,
    "suspend": EventKind.SUSPENDED,
    "resume": EventKind.RESUMED,
    "revoke": EventKind.REVOKED,
    "end": EventKind.ENDED,
}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A server of these tests."""
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    """A client whose connection holds."""
    with Client(str(service.made.socket), timeout_ms=10_000) as made:
        yield made


@pytest.fixture(scope="module")
def wire(service: Service) -> Iterator[Wire]:
    """A connection to the same server that can be cut."""
    made = Wire(Path(service.made.home / "run" / "w.sock"), service.made.socket)
    yield made
    made.close()


def _change(client: Client, what: str, at: int, opened: list[bytes], number: int) -> tuple[EventKind, bytes]:
    """Make a change; returns its expected event, or raises its refusal."""
    if what == "open" or not opened:
        opened.append(client.open_session(subject="agent", ceiling=["read:**"]).id)
        return EventKind.OPENED, opened[-1]
    session_id = opened[at % len(opened)]
    if what == "open child":
        opened.append(client.open_session(subject="a", ceiling=["read:**"], parent_id=session_id).id)
        return EventKind.OPENED, opened[-1]
    if what == "narrow":
        client.narrow(session_id, ["read:files/**"])
    elif what == "facts":
        client.update_facts(session_id, {"n": number})
    elif what == "revoke":
        client.revoke(session_id, [number.to_bytes(32, "big")])
    else:
        getattr(client, what)(session_id)
    return KINDS[what], session_id


def _expected_events(watch: SessionWatch, revision: int) -> list[SessionEvent]:
    found: list[SessionEvent] = []
    while watch.revision < revision:
        event = next(watch)
        if event.kind is not EventKind.SYNCED:
            found.append(event)
    return found


@given(steps=STEPS)
@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_breaks_neither_lose_nor_repeat(
    service: Service,
    client: Client,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[tuple[str, int]],
) -> None:
    """Two watches, one over a connection that is cut: the same events, those of the changes made."""
    monkeypatch.setattr(_live_state, "FIRST_PAUSE_SECONDS", 0.01)
    credential = service.made.credential_file.read_text().strip()
    opened: list[bytes] = []
    expected: list[tuple[EventKind, bytes]] = []
    received: list[SessionEvent] = []
    with (
        Client(str(wire.path), credential, timeout_ms=10_000) as broken,
        client.watch_sessions(heartbeats=True) as whole,
        broken.watch_sessions(heartbeats=True) as torn,
    ):
        begins = whole.revision
        for number, (what, at) in enumerate(steps):
            if what == "cut":
                received += _expected_events(torn, begins + len(expected) - at)
                wire.cut()
                continue
            try:
                expected.append(_change(client, what, at, opened, number))
            except Rejected:
                continue
        revision = begins + len(expected)
        received += _expected_events(torn, revision)
        assert received == _expected_events(whole, revision)
        again = client.watch_sessions(after_revision=begins)
        assert _expected_events(again, revision) == received
        again.close()

    assert [(event.kind, event.session_id) for event in received] == expected
    assert [event.revision for event in received] == [begins + n + 1 for n in range(len(expected))]


def test_each_cut_is_survived(service: Service, client: Client, wire: Wire) -> None:
    """A cut connection is made anew, and continues from where it broke."""
    credential = service.made.credential_file.read_text().strip()
    with (
        Client(str(wire.path), credential, timeout_ms=10_000) as broken,
        broken.watch_sessions(kinds=["opened"]) as torn,
    ):
        before = wire.connections
        for _ in range(3):
            wire.cut()
            session = client.open_session(subject="agent", ceiling=["read:**"])
            assert next(torn).session_id == session.id

    assert wire.connections == before + 3
