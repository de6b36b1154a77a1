"""Checks that the server answers on its loop: never for a caller, a session or a state of before."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessauth._fast._http2 import Loop
from sessauth.server.keys.credentials import CredentialFile
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.scrape import scrape
from tests.support.service import Caller, RpcError, Service, running, wait_until
from tests.support.watching import item as allowed_item
from tests.support.watching import mint, open_session

CHECK = "AuthorizationService/Check"
BATCH = "AuthorizationService/CheckBatch"


@pytest.fixture
def service() -> Iterator[Service]:
    """A control process."""
    with running() as started:
        yield started


@pytest.fixture
def session(service: Service) -> sessions.Session:
    """A live session that may read all files."""
    opened: sessions.Session = open_session(service.operator)
    return opened


@pytest.fixture
def item(service: Service, session: sessions.Session) -> pb.CheckItem:
    """A call that is allowed."""
    return allowed_item(mint(service.operator, session.id, "read:files/a/**").token)


def _answered(service: Service) -> int:
    assert service.control is not None
    return service.control.serving.loop.answered


def _warm(service: Service, gateway: Caller, item: pb.CheckItem) -> None:
    """Check until it is answered on the loop: the caller and the token are known then."""
    before = _answered(service)
    for _ in range(3):
        assert gateway.call(CHECK, pb.CheckRequest(item=item)).decision.allowed
    assert _answered(service) > before


def test_a_known_caller_with_a_known_token_is_answered_on_the_loop(
    service: Service, item: pb.CheckItem
) -> None:
    """An allow, a denial with its explanation, and a batch; a first call of either is not."""
    gateway = service.add("gw-1", "gateway", ("gw",))
    before = _answered(service)
    gateway.call(CHECK, pb.CheckRequest(item=item))
    assert _answered(service) == before
    _warm(service, gateway, item)

    before = _answered(service)
    denied = pb.CheckItem(token=item.token, action=b"write", resource=b"files/a/1")
    answer = gateway.call(CHECK, pb.CheckRequest(item=denied)).decision
    assert not answer.allowed and answer.reason == pb.REASON_OUT_OF_SCOPE and answer.explanation
    gateway.call(BATCH, pb.CheckBatchRequest(items=[item, denied]))
    decisions = gateway.call(BATCH, pb.CheckBatchRequest(items=[item, denied])).decisions
    assert [decision.allowed for decision in decisions] == [True, False]
    assert _answered(service) >= before + 2


def test_a_message_beyond_a_streams_first_window_is_answered_on_the_loop_too(
    service: Service, item: pb.CheckItem
) -> None:
    """A known caller may send it at once; it does not wait to be passed to a thread."""
    gateway = service.add("gw-1", "gateway", ("gw",))
    _warm(service, gateway, item)
    batch = pb.CheckBatchRequest(items=[item] * 256)
    assert batch.ByteSize() > 1 << 16
    gateway.call(BATCH, batch)

    before = _answered(service)
    for _ in range(10):
        assert all(each.allowed for each in gateway.call(BATCH, batch).decisions)

    assert _answered(service) > before + 5


def test_an_end_that_was_acknowledged_denies_the_next_check(
    service: Service, session: sessions.Session, item: pb.CheckItem
) -> None:
    """The connection is the one that answered the check before on the loop."""
    gateway = service.add("gw-1", "gateway", ("gw",))
    _warm(service, gateway, item)

    service.operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session.id))
    answer = gateway.call(CHECK, pb.CheckRequest(item=item)).decision

    assert not answer.allowed and answer.reason == pb.REASON_SESSION_ENDED


def test_a_removed_credential_is_refused_on_its_open_connection(service: Service, item: pb.CheckItem) -> None:
    """Within a second."""
    gateway = service.add("gw-1", "gateway", ("gw",))
    _warm(service, gateway, item)

    CredentialFile(service.made.state_dir / "credentials.toml").remove("gw-1")
    time.sleep(1.0)

    with pytest.raises(RpcError) as refused:
        gateway.call(CHECK, pb.CheckRequest(item=item))
    assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED


def test_two_callers_on_one_connection_are_two(service: Service, item: pb.CheckItem) -> None:
    """One may check for the token's audience, the other may not, in turns."""
    first = service.add("gw-1", "gateway", ("gw",))
    second = service.add("gw-2", "gateway", ("other",))
    _warm(service, first, item)
    channel = first.channel

    for _ in range(3):
        assert first.call(CHECK, pb.CheckRequest(item=item)).decision.allowed
        second.channel = channel
        answer = second.call(CHECK, pb.CheckRequest(item=item)).decision
        assert answer.reason == pb.REASON_WRONG_AUDIENCE
        with pytest.raises(RpcError) as refused:
            second.call(CHECK, pb.CheckRequest(item=item, audience="gw"))
        assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_a_role_that_may_not_check_is_refused(service: Service, item: pb.CheckItem) -> None:
    """An issuer may not, however often it asks, on a connection that checks."""
    gateway = service.add("gw-1", "gateway", ("gw",))
    issuer = service.add("issuer-1", "issuer")
    _warm(service, gateway, item)
    issuer.channel = gateway.channel

    for _ in range(3):
        with pytest.raises(RpcError) as refused:
            issuer.call(CHECK, pb.CheckRequest(item=item, audience="gw"))
        assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_calls_without_a_deadline_are_refused(service: Service, item: pb.CheckItem) -> None:
    """A warm check too."""
    gateway = service.add("gw-1", "gateway", ("gw",))
    _warm(service, gateway, item)

    with pytest.raises(RpcError) as refused:
        gateway.call(CHECK, pb.CheckRequest(item=item), timeout=None)
    assert refused.value.word == "DEADLINE_REQUIRED"


def test_a_server_that_drains_answers_no_new_check(service: Service, item: pb.CheckItem) -> None:
    """It refuses with SHUTTING_DOWN while it still listens."""
    gateway = service.add("gw-1", "gateway", ("gw",))
    _warm(service, gateway, item)
    assert service.control is not None
    serving: Any = service.control.serving

    serving._router.drain()
    serving._direct.drain()

    with pytest.raises(RpcError) as refused:
        gateway.call(CHECK, pb.CheckRequest(item=item))
    assert refused.value.word == "SHUTTING_DOWN"


def test_a_scrape_has_the_numbers_of_the_loop(item: pb.CheckItem) -> None:
    """Connections, and checks that needed no thread."""
    with running(metrics={"address": "127.0.0.1:0"}) as measured:
        gateway = measured.add("gw-1", "gateway", ("gw",))
        for _ in range(5):
            gateway.call(CHECK, pb.CheckRequest(item=item))
        assert measured.control is not None and measured.control.metrics is not None
        at = measured.control.metrics.port
        # The token is of another server: it is never verified, so no check is direct.
        assert wait_until(lambda: scrape(at).value("sessauth_connections") == 1)
        page = scrape(at)
    assert page.value("sessauth_direct_calls_total") == 0
    assert page.value("sessauth_refused_connections_total") == 0


def test_the_loop_returns_when_a_call_has_come(tmp_path: Path) -> None:
    """The timers of calls that wait for their message are looked at again."""
    calls: list[object] = []
    loop = Loop(calls.append, print, max_message=100, max_headers=4096, slow_reader_seconds=1.0)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    loop.listen(listener)
    polling = threading.Thread(target=loop.poll, args=(60.0,), daemon=True)
    polling.start()

    with grpc.insecure_channel(f"unix:{tmp_path / 's'}") as channel:
        rpc = channel.stream_unary("/a/B").future(iter(()), timeout=30)
        polling.join(20)
        returned = not polling.is_alive()
        rpc.cancel()

    assert returned and len(calls) == 1
    loop.close()
    loop.stop_listening()
