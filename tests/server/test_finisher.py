"""Calls that wait for their changes without a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from sessauth.errors import ServerError
from sessauth.server.rpc import pool as pool_names
from sessauth.server.rpc.call import CallContext
from sessauth.server.rpc.finisher import ON_A_THREAD, Finisher, Steps, in_one_go, next_step
from sessauth.state.writer.group import Group
from sessauth.v1 import session_service_pb2 as pb
from tests.support.service import RpcError, Service, running, wait_until

OPEN = pb.OpenSessionRequest(subject="s", ceiling=["read:files/**"])


@contextmanager
def writer_held(service: Service) -> Iterator[None]:
    """Let the writer take up no change until the block is left."""
    assert service.control is not None
    begun, go_on = threading.Event(), threading.Event()

    def hold(group: Group) -> None:
        begun.set()
        go_on.wait(30)

    held = service.control.writer.decide(hold, 0)
    assert begun.wait(30)
    try:
        yield
    finally:
        go_on.set()
    held.result(30)


def test_waiting_calls_hold_places_and_no_thread() -> None:
    """One thread has as many changes on their way as the caller has places; the next one is refused."""
    with running(limits={"change_threads": 1, "queue_places": 9}) as service:
        assert service.control is not None
        operator, writer = service.operator, service.control.writer
        pool = service.control.serving.pools[pool_names.CHANGE]
        with writer_held(service):
            answers = [operator.begin("SessionService/OpenSession", OPEN) for _ in range(5)]
            assert wait_until(lambda: writer.waiting == 5)
            assert pool.in_flight == 5
            with pytest.raises(RpcError) as refused:
                operator.call("SessionService/OpenSession", OPEN)
            assert refused.value.word == "OVERLOADED"
        assert len({answer.result(30).session.id for answer in answers}) == 5
        assert wait_until(lambda: pool.in_flight == 0)


def test_at_its_deadline_a_call_gives_its_place_back_and_is_never_made() -> None:
    """Nobody waits for it any more, so what was not begun is dropped."""
    with running(limits={"change_threads": 1, "queue_places": 9}) as service:
        assert service.control is not None
        pool = service.control.serving.pools[pool_names.CHANGE]
        with writer_held(service):
            answer = service.operator.begin("SessionService/OpenSession", OPEN, timeout=0.3)
            with pytest.raises(grpc.RpcError):
                answer.result(30)
            assert wait_until(lambda: pool.in_flight == 0)
        found = service.operator.call("SessionService/ListSessions", pb.ListSessionsRequest())
        assert not found.sessions


def call_until(deadline: float) -> CallContext:
    """A call with a deadline of the monotonic clock."""
    remaining = max(0.0, deadline - time.monotonic())
    return cast(CallContext, SimpleNamespace(deadline=deadline, remaining=remaining))


def asking(future: Future[int] | None, told: list[object]) -> Steps[int]:
    """Yield a future, and note what comes of it."""
    try:
        result = yield future
    except Exception as error:
        told.append(error)
        raise
    told.append(result)
    return 7


@pytest.mark.parametrize(("begun", "word"), [(False, "DEADLINE_EXCEEDED"), (True, "OUTCOME_UNKNOWN")])
def test_a_deadline_is_told_to_the_handler(begun: bool, word: str) -> None:
    """It is raised where the handler waits; a change that becomes durable afterwards is too late."""
    finisher, told, ended = Finisher(), [], threading.Event()  # type: ignore[var-annotated]
    future: Future[int] = Future()
    if begun:
        future.set_running_or_notify_cancel()
    call = call_until(time.monotonic() - 1.0)
    steps = asking(future, told)
    assert next_step(steps, ON_A_THREAD, call) is future

    def go_on(done: Future[Any]) -> None:
        with pytest.raises(ServerError):
            next_step(steps, done, call)
        ended.set()

    finisher.when_done(future, call, go_on)
    finisher.expire()
    assert ended.wait(30)
    if begun:
        future.set_result(1)
    finisher.close()
    assert [cast(ServerError, each).reason for each in told] == [word]


def test_a_fault_of_one_call_leaves_the_others() -> None:
    """The thread goes on after a call that raises."""
    finisher, seen = Finisher(), threading.Event()
    first: Future[int] = Future()
    second: Future[int] = Future()
    call = call_until(time.monotonic() + 30.0)

    def fail(done: Future[Any]) -> None:
        raise ValueError("a fault")

    finisher.when_done(first, call, fail)
    finisher.when_done(second, call, lambda done: seen.set())
    first.set_result(1)
    second.set_result(2)
    assert seen.wait(30)
    finisher.close()


def test_on_a_callers_thread_all_steps_are_taken() -> None:
    """A handler waits where it was called: with traces, and in a cluster."""
    told: list[object] = []
    future: Future[int] = Future()
    future.set_result(3)

    def answer(data: bytes, call: CallContext) -> Steps[int]:
        yield ON_A_THREAD
        return (yield from asking(future, told))

    assert in_one_go(answer)(b"", call_until(time.monotonic() + 30.0)) == 7
    assert told == [3]
    assert in_one_go(lambda data, call: b"at once")(b"", call_until(0.0)) == b"at once"
