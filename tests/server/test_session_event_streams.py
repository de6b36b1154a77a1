"""Life and end of session watches: breaks, restarts, compaction, slow readers, crowds, drains."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from sessauth.client import Client
from sessauth.server.config import from_dict
from sessauth.server.events import Event, SessionEventPublisher
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.control import Control
from sessauth.server.process.init import Initialised, initialise
from sessauth.server.services import event as event_service
from sessauth.state.backup import backup, restore
from sessauth.usage.session_usage import UseAfterEnd
from sessauth.v1 import session_service_pb2 as sessions
from tests.support import events as ev
from tests.support.events import METHOD, Watch, head_of, watching
from tests.support.service import Caller, Service, home_folder, running, wait_until
from tests.support.watching import end, open_session

THREAD = "sessauth-session-events"


# Threads of servers that other files' tests share in this process, as those of the console do.
_OTHERS: set[threading.Thread] = set()


def _threads() -> int:
    return sum(thread.name == THREAD and thread not in _OTHERS for thread in threading.enumerate())


def _held(service: Service) -> int:
    assert service.control is not None
    return service.control.serving.pools["event"].in_flight


@pytest.fixture
def home() -> Iterator[Initialised]:
    """An initialised home folder."""
    with home_folder() as folder:
        yield initialise(folder)


class Run:
    """A server on a home folder, for one run of it."""

    def __init__(self, made: Initialised, **limits: int) -> None:
        """Start it."""
        self.control = Control(from_dict({"home": str(made.home), "limits": limits}))
        self.control.start()
        self.operator = Caller(f"unix:{made.socket}", made.credential_file.read_text().strip())

    def stop(self) -> None:
        """Stop it."""
        self.operator.close()
        self.control.stop()


def test_a_watch_goes_on_over_a_restart(home: Initialised) -> None:
    """A watch continues behind its last revision in the server's next run: each event once, in order."""
    first = Run(home)
    with watching(first.operator, after_revision=0) as watch:
        opened = [open_session(first.operator).id for _ in range(3)]
        received = [watch.event() for _ in range(3)]
        incarnation = first.control.writer.head().incarnation
        end(first.operator, opened[0])
        first.stop()
    second = Run(home)
    end(second.operator, opened[1])
    with watching(second.operator, after_revision=received[-1].revision, incarnation=incarnation) as watch:
        end(second.operator, opened[2])
        received += [watch.event() for _ in range(3)]
    second.stop()

    assert [(each.kind, each.session_id) for each in received] == [
        *((ev.OPENED, each) for each in opened),
        *((ev.ENDED, each) for each in opened),
    ]


def test_a_client_goes_on_over_a_restart(home: Initialised) -> None:
    """The client reconnects by itself: nothing is lost or received twice while the server is away."""
    run = Run(home)
    with (
        Client(str(home.socket), home.credential_file.read_text().strip(), timeout_ms=10_000) as client,
        client.watch_sessions(kinds=["opened"]) as watch,
    ):
        opened = []
        received = []
        for _ in range(3):
            opened += [open_session(run.operator).id for _ in range(2)]
            received.append(next(watch).session_id)
            run.stop()
            run = Run(home)
        received += [next(watch).session_id for _ in range(3)]
    run.stop()

    assert received == opened


def test_a_restored_state_is_found_out(home: Initialised, tmp_path: Path) -> None:
    """The incarnation is another one: COMPACTED, whatever the revision; and what was before is gone."""
    run = Run(home)
    session = open_session(run.operator)
    with watching(run.operator) as watch:
        received = watch.synced()
    end(run.operator, session.id)
    run.stop()
    backup(home.state_dir, tmp_path / "backup")
    restore(tmp_path / "backup", home.state_dir)
    run = Run(home)
    refusals = [
        Watch(run.operator, after_revision=received.revision, incarnation=received.incarnation).refused(),
        Watch(run.operator, after_revision=received.revision).refused(),
        Watch(run.operator, after_revision=head_of(run.control), incarnation=received.incarnation).refused(),
    ]
    before_the_restore = head_of(run.control) - 1
    with watching(run.operator, after_revision=before_the_restore, kinds=[ev.OPENED]) as watch:
        restored = watch.event()
    run.stop()

    assert {(each.code, each.word) for each in refusals} == {
        (grpc.StatusCode.FAILED_PRECONDITION, "COMPACTED")
    }
    assert (restored.kind, restored.session_id) == (ev.RESTORED, b"")
    assert "restored from a backup" in restored.reason


def test_what_was_compacted_is_said(home: Initialised) -> None:
    """COMPACTED, with how to go on; from the oldest stored change on everything is sent."""
    run = Run(home)
    committer = run.control.writer._committer
    committer._retention = replace(committer._retention, changes=4)
    for _ in range(10):
        last = open_session(run.operator)
    refused = Watch(run.operator, after_revision=last.revision - 5).refused()
    with watching(run.operator, after_revision=last.revision - 4) as watch:
        received = watch.until(last.revision)
    run.stop()

    assert (refused.code, refused.word) == (grpc.StatusCode.FAILED_PRECONDITION, "COMPACTED")
    assert "list the sessions" in refused.message
    assert [each.revision for each in received] == [last.revision - n for n in (3, 2, 1, 0)]


def _any_end(session: sessions.Session) -> Event:
    return Event.of(ev.pb.SessionEvent(kind=ev.ENDED, session_id=session.id, owner=session.owner))


@pytest.fixture(scope="module")
def shared() -> Iterator[Service]:
    """A server of these tests, with patience for readers that a busy machine makes slow."""
    _OTHERS.update(threading.enumerate())
    with running(limits={"slow_reader_ms": 120_000}) as service:
        yield service


def test_a_follower_that_the_log_overtook_loses_nothing(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watchers read on by themselves if the thread's own place was compacted away."""
    assert shared.control is not None
    operator = shared.operator
    feed = shared.control.subsystems.events.feed
    read, broken = feed.entries, iter([True])

    def overtaken(since_seq: int, limit: int) -> object:
        if threading.current_thread().name == THREAD and next(broken, False):
            return read(-1, limit)
        return read(since_seq, limit)

    with watching(operator) as watch:
        monkeypatch.setattr(feed, "entries", overtaken)
        opened = [open_session(operator).id for _ in range(5)]
        received = [watch.event().session_id for _ in range(5)]

    assert received == opened


def test_fifty_watchers_are_told_the_same(shared: Service) -> None:
    """One thread follows the log for all of them, and is gone with the last."""
    operator = shared.operator
    assert wait_until(lambda: _threads() == 0)
    # One caller has at most half of the pool.
    callers = [operator, shared.add("console", "auditor")]
    watches = [Watch(caller, from_now=True) for caller in callers for _ in range(25)]
    for watch in watches:
        watch.synced()
    assert _threads() == 1
    opened = [open_session(operator).id for _ in range(20)]
    received = [[watch.event().session_id for _ in range(20)] for watch in watches]
    assert _held(shared) == 50
    for watch in watches:
        watch.close()

    assert received == [opened] * 50
    assert wait_until(lambda: _held(shared) == 0 and _threads() == 0)


def test_a_watch_too_many_is_refused_and_streams_of_checks_are_not() -> None:
    """Watches have a pool of their own: OVERLOADED there, while every other call has its place."""
    with running(limits={"event_threads": 4}) as service:
        operator = service.operator
        with watching(operator), watching(operator):
            refused = Watch(operator, from_now=True).refused()
            session = open_session(operator)
            assert service.control is not None
            assert service.control.serving.pools["stream"].in_flight == 0

    assert (refused.code, refused.word) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert session.id


def test_a_reader_that_is_slow_holds_up_nobody_and_loses_nothing(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue is bounded: what does not fit is read from the log, and uses after an end are counted."""
    monkeypatch.setattr("sessauth.server.events.MAX_WAITING", 8)
    monkeypatch.setattr(event_service, "SYNC_SECONDS", 0.1)
    assert shared.control is not None
    operator = shared.operator
    # Those of the tests before may not be gone yet.
    assert wait_until(lambda: shared.control is not None and shared.control.subsystems.events.watchers == 0)
    ended = open_session(operator)
    end(operator, ended.id)
    request = ev.pb.WatchSessionsRequest(from_now=True).SerializeToString()
    # Without this a client's gRPC takes in megabytes that nobody reads.
    narrow = shared.caller(operator.credential, options=(("grpc.http2.bdp_probe", 0),))
    slow = narrow.channel.unary_stream(METHOD)(request, timeout=120, metadata=operator.metadata)
    assert next(slow)
    wanted: list[bytes] = []
    with watching(operator, kinds=[ev.OPENED]) as quick:
        (unread,) = (
            each for each in shared.control.subsystems.events._members if each.admits(_any_end(ended))
        )
        stuck = False
        while not stuck:
            behind, at = unread._fell_behind, unread.position
            wanted += [open_session(operator, purpose="p" * 1000, owner="o" * 1000).id for _ in range(20)]
            # Behind, and not on its way: it waits for its reader. One that is only late would go on alone,
            # and be received of the use.
            stuck = behind and unread._fell_behind and at == unread.position
            assert len(wanted) < 2_000
        shared.control.subsystems.uses_after_end.on_used_after_end(
            ended.id, "gw", UseAfterEnd((), True, 1, 1, 1)
        )
        wanted += [open_session(operator, purpose="p" * 1000).id for _ in range(20)]
        assert [quick.event().session_id for _ in wanted] == wanted
    received: list[bytes] = []
    missed = 0
    while len(received) < len(wanted) or not missed:
        for event in ev.pb.WatchSessionsResponse.FromString(next(slow)).events:
            received += [event.session_id] if event.kind == ev.OPENED else []
            assert event.kind != ev.USED_AFTER_END
            missed = max(missed, event.missed)
    slow.cancel()

    assert received == wanted
    assert missed == 1


def test_silence_is_said_to_be_silence(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """SYNCED comes again and again, with the revision that a filtered watch has passed."""
    monkeypatch.setattr(event_service, "SYNC_SECONDS", 0.1)
    operator = shared.operator
    with watching(operator, kinds=[ev.NARROWED]) as watch:
        session = open_session(operator)
        while watch.synced().revision < session.revision:
            continue
        again = watch.synced()

    assert shared.control is not None
    assert again.revision == session.revision
    assert again.incarnation == shared.control.writer.head().incarnation


def test_a_drain_ends_watches(home: Initialised) -> None:
    """SHUTTING_DOWN at once: the drain does not wait for them."""
    run = Run(home, drain_ms=60_000)
    watches = [Watch(run.operator, from_now=True) for _ in range(3)]
    for watch in watches:
        watch.synced()
    stopping = threading.Thread(target=run.control.stop)
    stopping.start()
    refusals = [watch.refused() for watch in watches]
    stopping.join(30)
    run.operator.close()

    assert {(each.code, each.word) for each in refusals} == {(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")}
    assert not stopping.is_alive()


def test_a_removed_credential_ends_its_watch(shared: Service) -> None:
    """Also where nothing happens."""
    auditor = shared.add("auditor-watching", "auditor")
    with watching(auditor) as watch:
        assert CredentialFile(shared.made.state_dir / "credentials.toml").remove("auditor-watching")
        refused = watch.refused()

    assert (refused.code, refused.word) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_a_deadline_ends_a_watch(shared: Service) -> None:
    """The client's own holds, and the place is free again."""
    watch = Watch(shared.operator, timeout=0.3, from_now=True)

    assert watch.refused().code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert wait_until(lambda: _held(shared) == 0 and _threads() == 0)


def test_a_thread_that_dies_ends_its_watches(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is never silence; the next watch has another thread."""
    operator = shared.operator

    def broken(self: SessionEventPublisher) -> bool:
        raise MemoryError

    with watching(operator) as watch:
        monkeypatch.setattr(SessionEventPublisher, "_poll", broken)
        refused = watch.refused()
        monkeypatch.undo()
    with watching(operator) as watch:
        session = open_session(operator)
        assert watch.event().session_id == session.id

    assert refused.code is grpc.StatusCode.INTERNAL


def test_without_a_thread_a_watch_is_refused(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """OVERLOADED, and the place is given back."""
    assert wait_until(lambda: _threads() == 0)
    begin = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == THREAD:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    refused = Watch(shared.operator, from_now=True).refused()
    monkeypatch.undo()

    assert refused.word == "OVERLOADED"
    assert wait_until(lambda: _held(shared) == 0)


def test_a_purge_is_told_and_what_came_before_it_still_is(home: Initialised) -> None:
    """The session's owner is known behind its purge; its subject is not."""
    run = Run(home)
    log = run.control.writer
    session = open_session(run.operator, ttl_ms=1000, owner="orchestrator")
    with watching(run.operator, after_revision=0, owner="orchestrator") as watch:
        # It is told while the session is there.
        live = [watch.event()]
        log.sweep(session.expires_at_ms)
        log.sweep(session.expires_at_ms + 8 * 24 * 3_600_000)
        live += [watch.event() for _ in range(2)]
    with watching(run.operator, after_revision=0, owner="orchestrator") as watch:
        again = watch.until(live[-1].revision)
    run.stop()

    assert [(each.kind, each.session_id) for each in live] == [
        (kind, session.id) for kind in (ev.OPENED, ev.LAPSED, ev.PURGED)
    ]
    assert [(each.kind, each.session_id, each.owner, each.revision) for each in again] == [
        (each.kind, each.session_id, each.owner, each.revision) for each in live
    ]
    assert {each.subject for each in again} == {""}
    assert (live[0].subject, live[2].subject) == ("agent-7", "")


def test_list_then_watch_has_no_gap(shared: Service) -> None:
    """The way to continue behind COMPACTED: an established watch from now on, and then the list."""
    operator = shared.operator
    with (
        Client(str(shared.made.socket), timeout_ms=10_000) as client,
        client.watch_sessions(kinds=["ended"]) as watch,
    ):
        session = open_session(operator)
        listed = {each.id for each in client.list_sessions(status="active", page_size=1000).sessions}
        operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session.id))
        event = next(watch)

    assert session.id in listed
    assert event.session_id == session.id
