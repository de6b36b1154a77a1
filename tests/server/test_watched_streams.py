"""Life and end of a watched stream: half-closed, cancelled, drained, without its credential."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from sessauth.server.config import from_dict
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.server.rpc.pool import BoundedPool
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.service import Caller, RpcError, Service, home_folder, running, wait_until
from tests.support.watching import Stream, end, item, mint, open_session, stream

OURS = ("sessauth-watching", "sessauth-watched-stream")


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in OURS]


def _pool(service: Service) -> BoundedPool:
    assert service.control is not None
    return service.control.serving.pools["stream"]


@pytest.fixture
def alone() -> Iterator[Service]:
    """A server of its own, without threads of others."""
    with running() as service:
        assert wait_until(lambda: _threads() == [])
        yield service


def test_a_half_closed_stream_stays_while_something_is_watched(operator: Caller) -> None:
    """The client has asked all it wants: it still hears of withdrawals, and the stream ends with the last."""
    session = open_session(operator)
    token = mint(operator, session.id)
    with stream(operator) as opened:
        opened.allow(1, item(token.token))
        opened.allow(2, item(token.token))
        opened.end_requests()
        assert opened.idle(0.3)
        end(operator, session.id)
        assert sorted(opened.withdrawn() for _ in range(2)) == [
            (1, pb.REASON_SESSION_ENDED),
            (2, pb.REASON_SESSION_ENDED),
        ]
        assert opened.ended()


def test_a_half_closed_stream_without_watched_calls_ends(operator: Caller) -> None:
    """Denied or let go of: nothing is left to be told, so the stream is over, with status OK."""
    token = mint(operator, open_session(operator).id)
    with stream(operator) as opened:
        assert not opened.ask(1, item(token.token, action=b"write")).decision.allowed
        opened.allow(2, item(token.token))
        opened.allow(2, item(token.token), watch=False)
        opened.end_requests()
        assert opened.ended()


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_cancelled_stream_leaves_no_thread(alone: Service, half_closed: bool) -> None:
    """Its pool's place is free again, and neither its reader nor the looking thread stays."""
    operator = alone.operator
    token = mint(operator, open_session(operator).id)
    opened = [Stream(operator) for _ in range(4)]
    for each in opened:
        each.allow(1, item(token.token))
        if half_closed:
            each.end_requests()
    assert _threads().count("sessauth-watching") == 1
    assert wait_until(lambda: len(_threads()) == (1 if half_closed else 5))
    assert _pool(alone).in_flight == 4

    for each in opened:
        each.close()

    assert wait_until(lambda: _threads() == [])
    assert wait_until(lambda: _pool(alone).in_flight == 0)


def test_a_client_that_is_gone_leaves_no_thread(alone: Service) -> None:
    """A connection that is closed without a word ends its streams."""
    operator = alone.operator
    gone = alone.operator
    token = mint(operator, open_session(operator).id)
    opened = Stream(gone)
    opened.allow(1, item(token.token))

    gone.close()

    assert wait_until(lambda: _threads() == [])
    assert wait_until(lambda: _pool(alone).in_flight == 0)


def test_a_deadline_ends_a_watched_stream(alone: Service) -> None:
    """The client's deadline holds for what is watched too.

    Both ends count it. Where the server's is noticed first, its reset becomes DEADLINE_EXCEEDED by a clock
    that gRPC reads once a turn of its loop: on a busy machine it may still stand before the deadline.
    """
    operator = alone.operator
    token = mint(operator, open_session(operator).id)
    with stream(operator, timeout=1.0) as opened:
        opened.allow(1, item(token.token))
        with pytest.raises(RpcError) as refused:
            opened.next()

    assert refused.value.code in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
    assert wait_until(lambda: _threads() == [])
    assert wait_until(lambda: _pool(alone).in_flight == 0)


def test_a_drain_ends_watched_streams() -> None:
    """They are told that the server is about to end, at once; the drain does not wait for them."""
    with home_folder() as home:
        made = initialise(home)
        control = Control(from_dict({"home": str(home), "limits": {"drain_ms": 60_000}}))
        control.start()
        operator = Caller(f"unix:{made.socket}", made.credential_file.read_text().strip())
        token = mint(operator, open_session(operator).id)
        opened = [Stream(operator) for _ in range(3)]
        for each in opened:
            each.allow(1, item(token.token))
        opened[0].end_requests()
        stopping = threading.Thread(target=control.stop)
        stopping.start()

        refusals = []
        for each in opened:
            with pytest.raises(RpcError) as refused:
                each.next()
            refusals.append((refused.value.code, refused.value.word))
        stopping.join(30)
        operator.close()

    assert refusals == [(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")] * 3
    assert not stopping.is_alive()
    assert wait_until(lambda: _threads() == [])


def test_a_stream_that_begins_to_watch_while_draining_is_refused(operator: Caller) -> None:
    """A plain stream that was open before the drain answers on; its first watch ends it."""
    with running(limits={"drain_ms": 20_000}) as service:
        caller = service.operator
        token = mint(caller, open_session(caller).id)
        with stream(caller) as opened:
            opened.allow(1, item(token.token), watch=False)
            assert service.control is not None
            service.control._watching.drain()
            opened.allow(2, item(token.token), watch=False)
            opened.send(3, item(token.token))
            with pytest.raises(RpcError) as refused:
                opened.next()

    assert refused.value.word == "SHUTTING_DOWN"


def test_a_removed_credential_ends_what_it_watches(service: Service, operator: Caller) -> None:
    """Also of a stream on which nothing is asked any more."""
    gateway = service.add("gateway-watching", "gateway", ("gw",))
    token = mint(operator, open_session(operator).id)
    with stream(gateway) as opened:
        opened.allow(1, item(token.token), audience="")
        assert CredentialFile(service.made.state_dir / "credentials.toml").remove("gateway-watching")
        with pytest.raises(RpcError) as refused:
            opened.next()

    assert (refused.value.code, refused.value.word) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_a_client_that_does_not_read_holds_up_nobody_else(operator: Caller) -> None:
    """A stream whose withdrawals can't be sent waits alone; the others are told."""
    big, small = open_session(operator), open_session(operator)
    heavy, light = mint(operator, big.id), mint(operator, small.id)
    slow = operator.channel.stream_stream("/sessauth.v1.AuthorizationService/CheckStream")
    release = threading.Event()

    def requests() -> Iterator[bytes]:
        for number in range(900):
            yield pb.CheckStreamRequest(
                id=number, item=item(heavy.token), audience="gw", watch=True
            ).SerializeToString()
        release.wait(60)

    unread = slow(requests(), timeout=60, metadata=operator.metadata)
    with stream(operator) as opened:
        opened.allow(1, item(light.token))
        time.sleep(0.5)
        end(operator, big.id)
        end(operator, small.id)
        assert opened.withdrawn() == (1, pb.REASON_SESSION_ENDED)
    release.set()
    unread.cancel()


def test_without_a_thread_to_read_with_the_watch_is_refused(
    alone: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OVERLOADED, and the stream's place is given back."""
    operator = alone.operator
    token = mint(operator, open_session(operator).id)
    begin = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name in OURS:
            raise RuntimeError("can't start new thread")
        begin(thread)

    with stream(operator) as opened:
        opened.allow(1, item(token.token), watch=False)
        monkeypatch.setattr(threading.Thread, "start", fail)
        opened.send(2, item(token.token))
        with pytest.raises(RpcError) as refused:
            opened.next()
        monkeypatch.undo()
    with stream(operator) as opened:
        opened.allow(1, item(token.token))

    assert refused.value.word == "OVERLOADED"
    assert wait_until(lambda: _pool(alone).in_flight == 0)


def test_a_look_that_breaks_ends_the_stream(alone: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is never silence: a stream that can't be judged ends, and the next one watches."""
    from sessauth.server.watch import Watchlist

    operator = alone.operator
    token = mint(operator, open_session(operator).id)

    def broken(self: Watchlist, now_ms: int) -> None:
        raise RuntimeError("a fault")

    with stream(operator) as opened:
        opened.allow(1, item(token.token))
        monkeypatch.setattr(Watchlist, "recheck", broken)
        with pytest.raises(RpcError) as refused:
            opened.next()
        monkeypatch.undo()
    assert (refused.value.code, refused.value.word) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    session = open_session(operator)
    with stream(operator) as opened:
        opened.allow(1, item(mint(operator, session.id).token))
        end(operator, session.id)
        assert opened.withdrawn() == (1, pb.REASON_SESSION_ENDED)


def test_a_looking_thread_that_dies_ends_all_its_streams(
    alone: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks any more, so nothing counts as watched; the next stream has another thread."""
    operator = alone.operator
    assert alone.control is not None
    watching = alone.control._watching
    token = mint(operator, open_session(operator).id)

    def broken() -> float:
        raise MemoryError

    with stream(operator) as opened:
        opened.allow(1, item(token.token))
        monkeypatch.setattr(watching, "_poll_members", broken)
        with pytest.raises(RpcError) as refused:
            opened.next()
        monkeypatch.undo()
    assert refused.value.code is grpc.StatusCode.INTERNAL
    session = open_session(operator)
    with stream(operator) as opened:
        opened.allow(1, item(mint(operator, session.id).token))
        end(operator, session.id)
        assert opened.withdrawn() == (1, pb.REASON_SESSION_ENDED)
