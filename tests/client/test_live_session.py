from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import grpc
import pytest
from google.protobuf.message import Message

from sessauth import errors
from sessauth.client import AsyncClient, Client, LiveSession
from sessauth.v1 import record_pb2
from sessauth.v1 import session_service_pb2 as pb
from tests.support.service import wait_until

from .conftest import FakeServer, always, failing, in_turn

ID = bytes(range(16))
KEEP_ALIVE = "SessionService/KeepAlive"
END = "SessionService/EndSession"
LEASE_MS = 150


def _session(**fields: object) -> pb.Session:
    return pb.Session(id=ID, subject="agent", status=record_pb2.SESSION_STATUS_ACTIVE, **fields)


@pytest.fixture(autouse=True)
def lifecycle(server: FakeServer) -> None:
    """Let the server open and end sessions with a short lease, and renew it."""
    server.answers["SessionService/OpenSession"] = always(
        pb.OpenSessionResponse(session=_session(lease_ms=LEASE_MS))
    )
    server.answers[KEEP_ALIVE] = always(pb.KeepAliveResponse(lease_deadline_ms=1))
    server.answers[END] = always(pb.EndSessionResponse(session=_session()))


def _ends(server: FakeServer) -> list[pb.EndSessionRequest]:
    return [pb.EndSessionRequest.FromString(each.request) for each in server.seen if each.method == END]


def _renewals(server: FakeServer) -> int:
    return sum(each.method == KEEP_ALIVE for each in server.seen)


def _opened(client: Client, lease_ms: int = LEASE_MS) -> LiveSession:
    return client.session(subject="agent", ceiling=["read:**"], lease_ms=lease_ms)  # type: ignore[return-value]


def test_session_ends_when_the_block_is_left(server: FakeServer, client: Client) -> None:
    """Leaving the block ends the session, once, and ending it by hand before is no error."""
    with _opened(client) as live:
        assert live.id == ID
        live.end("done early")

    assert [end.reason for end in _ends(server)] == ["done early"]


def test_session_ends_when_the_block_raises(server: FakeServer, client: Client) -> None:
    """An exception ends the session with its name as the reason, and passes through unchanged."""
    with pytest.raises(KeyError), _opened(client):
        raise KeyError("mine")

    assert [end.reason for end in _ends(server)] == ["left by KeyError"]


def test_interrupt_ends_the_session(server: FakeServer, client: Client) -> None:
    """Ctrl-C inside the block ends the session too."""
    with pytest.raises(KeyboardInterrupt), _opened(client):
        raise KeyboardInterrupt

    assert len(_ends(server)) == 1


def test_end_that_fails_is_a_note_on_the_cause(server: FakeServer, client: Client) -> None:
    """An exception in the block passes with a note on it if the session can't be ended."""
    server.answers[END] = failing(grpc.StatusCode.INTERNAL, "sick")

    with pytest.raises(KeyError) as raised, _opened(client):
        raise KeyError("mine")

    assert "could not be ended and lives until its lease lapses" in raised.value.__notes__[0]


def test_end_that_fails_is_raised(server: FakeServer, client: Client) -> None:
    """The failed end is raised if nothing else went wrong."""
    server.answers[END] = failing(grpc.StatusCode.INTERNAL, "sick")

    with pytest.raises(errors.ServerError, match="sick"), _opened(client):
        pass


@pytest.mark.parametrize("word", ["ALREADY_ENDED", "NOT_FOUND"])
def test_session_that_is_over_needs_no_end(server: FakeServer, client: Client, word: str) -> None:
    """A session that ended elsewhere in the meantime is as ended as was asked."""
    server.answers[END] = failing(grpc.StatusCode.FAILED_PRECONDITION, "", word)

    with _opened(client):
        pass

    assert len(_ends(server)) == 1


def test_lease_is_renewed_while_the_block_runs(server: FakeServer, client: Client) -> None:
    """The lease is renewed again and again inside the block, and no more outside of it."""
    with _opened(client) as live:
        assert wait_until(lambda: _renewals(server) >= 4)
        assert not live.lost

    after = _renewals(server)
    time.sleep(LEASE_MS / 1000)
    assert _renewals(server) <= after + 1


def test_session_without_a_lease_is_not_renewed(server: FakeServer, client: Client) -> None:
    """Without a lease nothing runs in the background."""
    server.answers["SessionService/OpenSession"] = always(pb.OpenSessionResponse(session=_session()))

    with _opened(client, 0):
        time.sleep(0.2)

    assert _renewals(server) == 0


def test_a_missed_renewal_is_tried_again(server: FakeServer, client: Client) -> None:
    """A renewal that the server did not answer is repeated, and the session is not lost by it."""
    # Long enough that a busy machine does not let it lapse between two tries.
    answer = pb.OpenSessionResponse(session=_session(lease_ms=1_500))
    server.answers["SessionService/OpenSession"] = always(answer)
    server.answers[KEEP_ALIVE] = in_turn(
        failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "", "OVERLOADED"), always(pb.KeepAliveResponse())
    )

    with _opened(client) as live:
        assert wait_until(lambda: _renewals(server) >= 3)
        assert not live.lost
        live.raise_if_lost()


def test_refused_renewal_loses_the_session(server: FakeServer, client: Client) -> None:
    """A renewal that is refused loses the session: the next use raises, and says why."""
    server.answers[KEEP_ALIVE] = failing(
        grpc.StatusCode.FAILED_PRECONDITION, "ended by operator", "ALREADY_ENDED"
    )

    with _opened(client) as live:
        assert wait_until(lambda: live.lost)
        for use in (lambda: live.mint(["read:x"], ["a"]), lambda: live.narrow(["read:x"]), live.update_facts):
            with pytest.raises(errors.Rejected, match="is lost") as raised:
                use()
            assert raised.value.word == "ALREADY_ENDED"
            assert "ended by operator" in str(raised.value.__cause__)


def test_silent_server_loses_the_session(server: FakeServer, client: Client) -> None:
    """A session whose lease must have lapsed, with nobody answering, is lost."""
    server.answers[KEEP_ALIVE] = failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "", "OVERLOADED")

    with _opened(client) as live:
        assert wait_until(lambda: live.lost)
        with pytest.raises(errors.Rejected, match="LEASE_LAPSED"):
            live.raise_if_lost()


def test_facts_are_those_of_the_last_answer(server: FakeServer, client: Client) -> None:
    """The facts of a live session follow its updates, and can't be changed in place."""
    fact = record_pb2.Fact(name="case")
    fact.value.text = "c2"
    number = record_pb2.Fact(name="level")
    number.value.number.units = 3
    server.answers["SessionService/UpdateFacts"] = always(
        pb.UpdateFactsResponse(session=_session(facts=[fact, number]))
    )

    with _opened(client) as live:
        assert dict(live.facts) == {}
        live.update_facts({"case": "c2", "level": 3})
        assert dict(live.facts) == {"case": "c2", "level": 3}
        with pytest.raises(TypeError):
            live.facts["case"] = "c3"  # type: ignore[index]


def _run_async(server: FakeServer, body: Callable[[AsyncClient], object]) -> None:
    async def main() -> None:
        async with AsyncClient(server.target, "") as client:
            await body(client)  # type: ignore[misc]

    asyncio.run(main())


def test_async_session_lives_and_ends(server: FakeServer) -> None:
    """The asyncio client keeps the lease alive and ends the session just the same."""
    # Long enough that a busy machine does not let it lapse: the block would wait for ever then.
    answer = pb.OpenSessionResponse(session=_session(lease_ms=1_500))
    server.answers["SessionService/OpenSession"] = always(answer)

    async def body(client: AsyncClient) -> None:
        async with client.session(subject="agent", ceiling=["read:**"], lease_ms=LEASE_MS) as live:
            while _renewals(server) < 3:
                await asyncio.sleep(0.01)
            assert not live.lost

    _run_async(server, body)

    assert [end.reason for end in _ends(server)] == [""]


def test_async_cancellation_ends_the_session(server: FakeServer) -> None:
    """A task that is cancelled inside the block still ends its session before it goes."""

    async def body(client: AsyncClient) -> None:
        async def hold() -> None:
            async with client.session(subject="agent", ceiling=["read:**"], lease_ms=60_000):
                inside.set()
                await asyncio.sleep(60)

        inside = asyncio.Event()
        task = asyncio.create_task(hold())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    _run_async(server, body)

    assert [end.reason for end in _ends(server)] == ["left by CancelledError"]


def test_async_loss_is_surfaced(server: FakeServer) -> None:
    """A refused renewal loses an asyncio session too."""
    server.answers[KEEP_ALIVE] = failing(grpc.StatusCode.NOT_FOUND, "gone", "NOT_FOUND")

    async def body(client: AsyncClient) -> None:
        async with client.session(subject="agent", ceiling=["read:**"], lease_ms=LEASE_MS) as live:
            while not live.lost:
                await asyncio.sleep(0.01)
            with pytest.raises(errors.Rejected, match="is lost"):
                await live.mint(["read:x"], ["a"])

    _run_async(server, body)


def test_async_failures_and_retries(server: FakeServer) -> None:
    """The asyncio client retries as the blocking one does, and raises the same errors."""
    get: Message = pb.GetSessionResponse(session=_session())
    server.answers["SessionService/GetSession"] = in_turn(
        failing(grpc.StatusCode.UNAVAILABLE),
        always(get),
        failing(grpc.StatusCode.NOT_FOUND, "no such session"),
    )

    async def body(client: AsyncClient) -> None:
        assert (await client.get_session(ID)).id == ID
        with pytest.raises(errors.NotFound, match="no such session"):
            await client.get_session(ID)
        with pytest.raises(errors.UsageError, match="session_id"):
            await client.get_session(b"x")

    _run_async(server, body)

    assert len(server.seen) == 3


def test_closed_client_is_a_usage_error(server: FakeServer, client: Client) -> None:
    """A client that was closed says so, and a session whose client was closed is lost, not forgotten."""

    def close_inside() -> None:
        with _opened(client) as live:
            client.close()
            assert wait_until(lambda: live.lost)

    with pytest.raises(errors.UsageError, match="the client is closed"):
        close_inside()

    async def body(client: AsyncClient) -> None:
        await client.close()
        with pytest.raises(errors.UsageError, match="the client is closed"):
            await client.list_keys()

    _run_async(server, body)
