"""Watches of both clients: against a real server, and against one that answers as a test tells it to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sessauth import errors
from sessauth.client import AsyncClient, CheckItem, Client, Watch
from sessauth.reasons import Reason
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.service import Service, wait_until

from .conftest import FakeServer

CEILING = ["read:files/**"]
ALLOWED = pb.Decision(allowed=True, reason=pb.REASON_ALLOWED)


def test_a_watch_from_ask_to_withdrawal(real: Client) -> None:
    """An allowed call is true until it is taken back; a denied one never is, and nothing is told of it."""
    with real.session(subject="agent", ceiling=CEILING) as session:
        token = session.mint(CEILING, ["gateway"])
        with real.watch(audience="gateway") as watch:
            allowed = watch.ask(CheckItem(token, "read", "files/a"))
            denied = watch.ask(CheckItem(token, "write", "files/a"))
            assert (bool(allowed), bool(denied)) == (True, False)
            assert denied.decision.reason is Reason.OUT_OF_SCOPE
            session.end()
            gone = next(watch)
            later = watch.ask(CheckItem(token, "read", "files/a"))

    assert gone is allowed
    assert gone.withdrawn is not None
    assert (gone.withdrawn.reason, bool(gone.withdrawn), bool(gone)) == (Reason.SESSION_ENDED, False, False)
    assert gone.decision
    assert later.decision.reason is Reason.SESSION_ENDED
    assert denied.withdrawn is None


def test_a_call_that_was_let_go_is_not_taken_back(real: Client) -> None:
    """It counts as allowed no longer, and only the others are told."""
    with real.session(subject="agent", ceiling=CEILING) as session:
        token = session.mint(CEILING, ["gateway"])
        with real.watch(audience="gateway") as watch:
            done, running_ = (watch.ask(CheckItem(token, "read", f"files/{name}")) for name in "ab")
            watch.forget(done)
            assert (bool(done), bool(running_)) == (False, True)
            session.end()
            told = next(watch)
            watch.close()
            assert list(watch) == []

    assert told is running_
    assert done.withdrawn is None


def test_threads_share_a_watch(real: Client) -> None:
    """Several ask at once while one listens: each gets its own answers, and every allow is taken back."""
    with real.session(subject="agent", ceiling=CEILING) as session:
        token = session.mint(CEILING, ["gateway"])
        with real.watch(audience="gateway") as watch:
            asked: list[bool] = []

            def ask(name: int) -> None:
                for each in range(20):
                    call = watch.ask(CheckItem(token, "read" if each % 2 else "write", f"files/{name}"))
                    asked.append(call.item.action == ("read" if call.decision else "write"))

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(ask, range(4)))
            session.end()
            numbers = {next(watch).number for _ in range(40)}

    assert asked == [True] * 80
    assert len(numbers) == 40


def test_asyncio_watch_does_the_same(service: Service) -> None:
    """Asking, hearing, letting go and leaving, awaited."""

    async def main() -> list[object]:
        async with AsyncClient(str(service.made.socket), timeout_ms=10_000) as client:
            session = await client.open_session(subject="agent", ceiling=CEILING)
            token = await client.mint(session.id, CEILING, ["gateway"])
            async with client.watch(audience="gateway") as watch:
                done, running_, denied = await asyncio.gather(
                    watch.ask(CheckItem(token, "read", "files/a")),
                    watch.ask(CheckItem(token, "read", "files/b")),
                    watch.ask(CheckItem(token, "write", "files/b")),
                )
                found: list[object] = [bool(done), bool(running_), bool(denied)]
                await watch.forget(done)
                await client.end(session.id)
                async for gone in watch:
                    assert gone.withdrawn is not None
                    found += [gone is running_, gone.withdrawn.reason]
                    break
                again = await watch.ask(CheckItem(token, "read", "files/b"))
                found.append(again.decision.reason)
            found += [each async for each in watch]
            with pytest.raises(errors.UsageError):
                await watch.ask(CheckItem(token, "read", "files/b"))
            return found

    assert asyncio.run(main()) == [True, True, False, True, Reason.SESSION_ENDED, Reason.SESSION_ENDED]


def test_a_stream_that_breaks_ends_every_allow(server: FakeServer, client: Client) -> None:
    """Nothing is watched any more: no call counts as allowed, and who listens or asks is told why."""
    release = threading.Event()

    def judge(requests: Iterator[bytes]) -> Iterator[pb.CheckStreamResponse]:
        next(requests)
        yield pb.CheckStreamResponse(id=1, decision=ALLOWED)
        release.wait(30)
        raise RuntimeError("gone")

    server.streams["AuthorizationService/CheckStream"] = judge
    with client.watch() as watch:
        call = watch.ask(CheckItem(b"t", "read", "a"))
        assert call
        release.set()
        with pytest.raises(errors.ServerError):
            next(watch)
        assert not call
        assert call.withdrawn is None
        with pytest.raises(errors.ServerError):
            watch.ask(CheckItem(b"t", "read", "a"))


def test_a_withdrawal_that_claims_to_allow_is_none(server: FakeServer, client: Client) -> None:
    """A withdrawal counts whatever its decision is; one of an unknown number is ignored."""

    def judge(requests: Iterator[bytes]) -> Iterator[pb.CheckStreamResponse]:
        next(requests)
        yield pb.CheckStreamResponse(id=1, decision=ALLOWED)
        yield pb.CheckStreamResponse(id=9, decision=ALLOWED, withdrawn=True)
        yield pb.CheckStreamResponse(id=1, decision=ALLOWED, withdrawn=True)

    server.streams["AuthorizationService/CheckStream"] = judge
    with client.watch() as watch:
        call = watch.ask(CheckItem(b"t", "read", "a"))
        assert next(watch) is call
        with pytest.raises(errors.Unavailable, match="ended the stream"):
            next(watch)

    assert call.withdrawn is not None
    assert not call.withdrawn
    assert not call


def test_an_answer_that_does_not_come_is_no_yes(server: FakeServer, client: Client) -> None:
    """Asking ends with the deadline of the client, and the call is let go of."""
    asked: list[pb.CheckStreamRequest] = []

    def judge(requests: Iterator[bytes]) -> Iterator[pb.CheckStreamResponse]:
        asked.extend(pb.CheckStreamRequest.FromString(each) for each in requests)
        yield from ()

    server.streams["AuthorizationService/CheckStream"] = judge
    impatient = client.with_timeout(200)
    with impatient.watch() as watch:
        with pytest.raises(errors.Unavailable, match="200 ms"):
            watch.ask(CheckItem(b"t", "read", "a"))
        assert wait_until(lambda: len(asked) == 2)

    assert [(each.id, each.watch, each.item.token) for each in asked] == [(1, True, b"t"), (1, False, b"")]


def test_closing_leaves_no_thread(real: Client) -> None:
    """Neither ours nor gRPC's that sends requests stays behind a watch that was closed."""
    before = threading.active_count()
    for _ in range(5):
        watch = real.watch(audience="gateway")
        assert isinstance(watch, Watch)
        watch.close()
        watch.close()
    assert wait_until(lambda: threading.active_count() <= before)
