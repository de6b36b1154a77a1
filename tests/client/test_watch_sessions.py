"""Watches of sessions of both clients: against a real server, and against one that breaks as it is told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessauth import errors
from sessauth.client import AsyncClient, Client, EventKind, SessionEvent, SessionWatch
from sessauth.client import _live_state as _events
from sessauth.model.session import EndCause
from sessauth.v1 import event_service_pb2 as pb
from tests.support.service import LONGER_MS, Service, wait_until

from .conftest import FakeServer

CEILING = ["read:files/**"]
ID, INCARNATION = b"s" * 16, b"i" * 16
RPC = "EventService/WatchSessions"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_events, "FIRST_PAUSE_SECONDS", 0.01)


def _event(kind: int, revision: int, **fields: Any) -> pb.SessionEvent:
    if kind != EventKind.SYNCED:
        fields.setdefault("session_id", ID)
    return pb.SessionEvent(kind=kind, revision=revision, **fields)


def _synced(revision: int) -> pb.WatchSessionsResponse:
    return _told(_event(EventKind.SYNCED, revision, incarnation=INCARNATION))


def _told(*events: pb.SessionEvent) -> pb.WatchSessionsResponse:
    return pb.WatchSessionsResponse(events=events)


Script = Callable[[], Iterator[pb.WatchSessionsResponse]]


def _scripts(server: FakeServer, *scripts: Script) -> list[pb.WatchSessionsRequest]:
    """Have each stream answered by the next script; returns what is asked, stream by stream."""
    asked: list[pb.WatchSessionsRequest] = []
    left = list(scripts)

    def answer(requests: Iterator[bytes]) -> Iterator[pb.WatchSessionsResponse]:
        asked.append(pb.WatchSessionsRequest.FromString(next(requests)))
        yield from (left.pop(0) if len(left) > 1 else left[0])()

    server.streams[RPC] = answer
    return asked


def test_what_happens_is_handed_out(real: Client) -> None:
    """A watch that was entered misses nothing, and says where another one may go on."""
    with real.watch_sessions(kinds=[EventKind.OPENED, "ended"], subject="watched") as watch:
        opened = real.open_session(subject="watched", purpose="p", ceiling=CEILING)
        real.open_session(subject="other", ceiling=CEILING)
        real.narrow(opened.id, CEILING)
        ended = real.end(opened.id, "enough")
        told = [next(watch), next(watch)]
        stands = (watch.revision, watch.incarnation, watch.missed)
    again = real.watch_sessions(
        [opened.id], after_revision=told[0].revision, incarnation=stands[1], kinds=["ended"]
    )

    assert told == [
        SessionEvent(
            EventKind.OPENED,
            opened.revision,
            opened.opened_at_ms,
            opened.id,
            epoch=1,
            seq=told[0].seq,
            actor="operator",
            subject="watched",
            purpose="p",
            owner="operator",
        ),
        SessionEvent(
            EventKind.ENDED,
            ended.revision,
            ended.ended_at_ms,
            opened.id,
            epoch=3,
            seq=told[1].seq,
            actor="operator",
            reason="enough",
            cause=EndCause.ASKED,
            subject="watched",
            purpose="p",
            owner="operator",
        ),
    ]
    assert stands == (ended.revision, again.incarnation, 0)
    assert next(again) == told[1]
    again.close()
    assert list(again) == []


def test_asyncio_does_the_same(service: Service) -> None:
    """Entered, iterated, closed, and given a time."""

    async def main() -> list[object]:
        async with AsyncClient(str(service.made.socket), timeout_ms=10_000) as client:
            async with client.watch_sessions(kinds=["opened", "ended"]) as watch:
                session = await client.open_session(subject="agent", ceiling=CEILING)
                await client.end(session.id)
                found: list[object] = [
                    (await anext(watch)).kind,
                    (await anext(watch)).session_id == session.id,
                ]
                waiting = asyncio.create_task(anext(watch))
                await asyncio.sleep(0.05)
                await watch.close()
                with pytest.raises(StopAsyncIteration):
                    await waiting
            found += [each async for each in watch]
            for for_ms in LONGER_MS:
                short = client.watch_sessions(heartbeats=True, for_ms=for_ms)
                heard = [each.kind async for each in short]
                if len(heard) == 2:
                    break
            assert short.incarnation == watch.incarnation
            return found + heard

    assert asyncio.run(main()) == [EventKind.OPENED, True, EventKind.SYNCED, EventKind.SYNCED]


def _three_streams() -> list[Script]:
    def first() -> Iterator[pb.WatchSessionsResponse]:
        yield _synced(7)
        yield _told(_event(EventKind.OPENED, 8), _event(EventKind.USED_AFTER_END, 3, count=2))

    def second() -> Iterator[pb.WatchSessionsResponse]:
        yield _synced(8)
        yield _synced(11)

    def third() -> Iterator[pb.WatchSessionsResponse]:
        yield _told(_event(EventKind.ENDED, 12), _event(EventKind.PURGED, 13))

    return [first, second, third]


def test_a_stream_that_ends_is_taken_up_where_it_stood(server: FakeServer, client: Client) -> None:
    """The next stream starts behind the last received revision; a use after an end moves nothing."""
    asked = _scripts(server, *_three_streams())
    with client.watch_sessions([ID], include_children=True) as watch:
        told = [next(watch) for _ in range(4)]

    assert [(each.kind, each.revision) for each in told] == [
        (EventKind.OPENED, 8),
        (EventKind.USED_AFTER_END, 3),
        (EventKind.ENDED, 12),
        (EventKind.PURGED, 13),
    ]
    assert [(each.from_now, each.after_revision, each.incarnation) for each in asked[:3]] == [
        (True, 0, b""),
        (False, 8, INCARNATION),
        (False, 11, INCARNATION),
    ]
    assert {(tuple(each.session_ids), each.include_children) for each in asked} == {((ID,), True)}


def test_asyncio_takes_it_up_as_well(server: FakeServer) -> None:
    """The same streams, awaited."""
    asked = _scripts(server, *_three_streams())

    async def main() -> list[int]:
        async with (
            AsyncClient(server.target, "sessauth_key_tester_secret") as client,
            client.watch_sessions() as watch,
        ):
            return [(await anext(watch)).revision for _ in range(4)]

    assert asyncio.run(main()) == [8, 3, 12, 13]
    assert [each.after_revision for each in asked[:3]] == [0, 8, 11]


def test_heartbeats_are_handed_out_if_asked_for(server: FakeServer, client: Client) -> None:
    """And without them too it is known what was missed."""

    def told() -> Iterator[pb.WatchSessionsResponse]:
        yield _synced(4)
        yield _told(_event(EventKind.SYNCED, 5, missed=3), _event(EventKind.ENDED, 6))

    _scripts(server, told)
    with client.watch_sessions(heartbeats=True) as watch:
        kinds = [next(watch).kind for _ in range(3)]
    with client.watch_sessions() as quiet:
        event = next(quiet)

    assert kinds == [EventKind.SYNCED, EventKind.SYNCED, EventKind.ENDED]
    assert (event.kind, quiet.missed) == (EventKind.ENDED, 3)


def test_no_server_is_said_in_time(client: Client, server: FakeServer) -> None:
    """The first stream is tried for the client's timeout, a broken one for the watch's patience."""

    def once() -> Iterator[pb.WatchSessionsResponse]:
        yield _synced(4)

    def never() -> Iterator[pb.WatchSessionsResponse]:
        yield from ()

    _scripts(server, never)
    with pytest.raises(errors.Unavailable), client.with_timeout(100).watch_sessions():
        pass
    for patience_ms in LONGER_MS:
        asked = _scripts(server, once, never)
        with client.watch_sessions(patience_ms=patience_ms) as watch, pytest.raises(errors.Unavailable):
            next(watch)
        if len(asked) > 2:
            break

    assert len(asked) > 2


@pytest.mark.parametrize("twin", [False, True])
def test_a_server_that_says_nothing_is_left(
    server: FakeServer, client: Client, monkeypatch: pytest.MonkeyPatch, twin: bool
) -> None:
    """Not even a heartbeat: the stream is lost, and the next one goes on."""
    monkeypatch.setattr("sessauth.client._threads._GUARD_SECONDS", 0.05)
    release = threading.Event()

    def hangs() -> Iterator[pb.WatchSessionsResponse]:
        yield _synced(4)
        release.wait(30)

    def answers() -> Iterator[pb.WatchSessionsResponse]:
        yield _told(_event(EventKind.ENDED, 5))

    asked = _scripts(server, hangs, answers)

    def be_impatient() -> None:
        # Not before a watch stands: what is waited for there is the machine.
        monkeypatch.setattr(_events, "QUIET_SECONDS", 0.2)

    async def main() -> int:
        async with AsyncClient(server.target, "") as other, other.watch_sessions() as watch:
            be_impatient()
            return (await anext(watch)).revision

    if twin:
        assert asyncio.run(main()) == 5
    else:
        with client.watch_sessions() as watch:
            be_impatient()
            assert next(watch).revision == 5
    release.set()
    assert [each.after_revision for each in asked[:2]] == [0, 4]


def test_a_watch_that_nobody_has_leaves_no_thread(server: FakeServer, client: Client) -> None:
    """The thread that looks after it does not keep it."""

    def told() -> Iterator[pb.WatchSessionsResponse]:
        yield _synced(1)
        yield _told(_event(EventKind.ENDED, 2))

    _scripts(server, told)
    watch: SessionWatch | None = client.watch_sessions()
    assert watch is not None and next(watch).revision == 2
    guard = watch._guard
    watch = None
    # Its own thread, not every thread of that name: other tests' watches may wait for the garbage collector.
    assert guard is not None and wait_until(lambda: not guard.is_alive())


def test_a_watch_that_never_stood_leaves_no_thread(server: FakeServer, client: Client) -> None:
    """A watch that can't be entered is closed, with no need of the garbage collector."""

    def never() -> Iterator[pb.WatchSessionsResponse]:
        yield from ()

    _scripts(server, never)
    watch = client.with_timeout(100).watch_sessions()
    with pytest.raises(errors.Unavailable), watch:
        pass
    guard = watch._guard
    assert guard is not None
    guard.join(30)
    assert not guard.is_alive()


def test_closing_wakes_who_waits(real: Client) -> None:
    """Another thread can close the watch."""
    with real.watch_sessions() as watch:
        closing = threading.Timer(0.1, watch.close)
        closing.start()
        assert list(watch) == []
        closing.join()


def test_a_watch_ends_with_its_time(real: Client) -> None:
    """Without an error: it was asked for."""
    began = time.monotonic()
    with real.watch_sessions(for_ms=200) as watch:
        assert list(watch) == []

    assert time.monotonic() - began >= 0.2


def test_what_can_not_be_told_is_raised(real: Client) -> None:
    """COMPACTED with its word, another role's limits, a session that is not there."""
    with real.watch_sessions() as watch:
        revision = watch.revision
    with (
        pytest.raises(errors.Rejected, match="COMPACTED"),
        real.watch_sessions(after_revision=revision, incarnation=b"x" * 16),
    ):
        pass
    with pytest.raises(errors.NotFound), real.watch_sessions([b"n" * 16]):
        pass
    with (
        pytest.raises(errors.UsageError, match="after_revision"),
        real.watch_sessions(after_revision=1 << 50),
    ):
        pass


def test_a_kind_that_is_not_known_is_never_silence(server: FakeServer, client: Client) -> None:
    """A later server's event is an error, not nothing."""

    def told() -> Iterator[pb.WatchSessionsResponse]:
        yield _synced(1)
        yield _told(_event(99, 2))

    _scripts(server, told)
    with client.watch_sessions() as watch, pytest.raises(errors.ServerError, match="newer"):
        next(watch)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kinds": ["gone"]}, "kinds"),
        ({"kinds": "ended"}, "kinds"),
        ({"session_ids": [b"x"]}, "session_ids"),
        ({"session_ids": b"x" * 16}, "session_ids"),
        ({"after_revision": -1}, "after_revision"),
        ({"incarnation": INCARNATION}, "incarnation"),
        ({"after_revision": 1, "incarnation": b"x"}, "incarnation"),
        ({"patience_ms": 0}, "timeout_ms"),
        ({"for_ms": -1}, "timeout_ms"),
    ],
)
def test_arguments_are_checked(client: Client, arguments: dict[str, Any], named: str) -> None:
    """A usage error names the argument, before anything is asked."""
    with pytest.raises(errors.UsageError, match=named):
        client.watch_sessions(**arguments)
