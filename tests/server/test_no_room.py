"""Paid calls while the writer can't write: a typed error, never a yes; ends are still written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import lmdb
import pytest

from sessauth.state.writer.group import Group
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.service import Caller, RpcError, Service, running
from tests.support.watching import open_session


@pytest.fixture
def service() -> Iterator[Service]:
    """A server of its own, since what is tested here lasts."""
    with running() as started:
        yield started


def _open(operator: Caller) -> tuple[bytes, checks.CheckItem]:
    """A session, and a call of it that costs a use."""
    opened = open_session(operator, ("read:**",))
    scopes = ["read:doc/** needs uses(9)", "read:free/**"]
    mint = tokens.MintRequest(session_id=opened.id, scopes=scopes, audience=["gw"])
    token = operator.call("TokenService/Mint", mint).token.encode()
    return opened.id, checks.CheckItem(token=token, action=b"read", resource=b"doc/1")


def _check(caller: Caller, item: checks.CheckItem, **fields: object) -> checks.Decision:
    asked = checks.CheckItem()
    asked.CopyFrom(item)
    for name, value in fields.items():
        setattr(asked, name, value)
    return caller.call("AuthorizationService/Check", checks.CheckRequest(item=asked, audience="gw")).decision


def _batch(caller: Caller, items: list[checks.CheckItem]) -> list[checks.Decision]:
    request = checks.CheckBatchRequest(items=items, audience="gw")
    return list(caller.call("AuthorizationService/CheckBatch", request).decisions)


def _fill(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writer believe that the state is above its mark."""
    assert service.control is not None
    monkeypatch.setattr(service.control.writer._committer, "is_full", lambda rows: True)


def test_a_full_state_takes_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """STATE_FULL for what costs and for permits, to commit them too; free calls and ends go on."""
    operator = service.operator
    session_id, item = _open(operator)
    given = _check(operator, item, permit_ms=60_000)
    _fill(service, monkeypatch)

    for fields in ({}, {"permit_ms": 1000}, {"resource": b"free/1", "permit_ms": 1000}):
        with pytest.raises(RpcError) as refused:
            _check(operator, item, **fields)
        assert (refused.value.code, refused.value.word) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STATE_FULL")
    with pytest.raises(RpcError) as refused:
        operator.call(
            "AuthorizationService/Commit", checks.CommitRequest(permit=given.permit, item=item, audience="gw")
        )
    assert refused.value.word == "STATE_FULL"
    assert _check(operator, item, resource=b"free/1").allowed
    operator.call("AuthorizationService/Release", checks.ReleaseRequest(permit=given.permit))
    operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))
    assert _check(operator, item).reason == checks.REASON_SESSION_ENDED


def test_in_a_batch_what_can_not_be_taken_is_denied(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other items of a batch, and of a stream, have their answers; those that cost are denied."""
    operator = service.operator
    _, item = _open(operator)
    free = checks.CheckItem(token=item.token, action=b"read", resource=b"free/1")
    permit = checks.CheckItem(token=item.token, action=b"read", resource=b"free/1", permit_ms=100)
    _fill(service, monkeypatch)

    reasons = [decision.reason for decision in _batch(operator, [free, item, free, permit])]
    requests = [
        checks.CheckStreamRequest(id=number, item=each, audience="gw")
        for number, each in enumerate([item, free, permit])
    ]
    streamed = list(operator.stream("AuthorizationService/CheckStream", iter(requests)))

    denied, allowed = checks.REASON_NEEDS_SERVER, checks.REASON_ALLOWED
    assert reasons == [allowed, denied, allowed, denied]
    assert [answer.decision.reason for answer in streamed] == [denied, allowed, denied]


def test_a_commit_that_fails_is_never_a_yes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that can't be made durable is OUTCOME_UNKNOWN to the caller, and sets the brake."""
    operator = service.operator
    _, item = _open(operator)
    assert service.control is not None
    committer = service.control.writer._committer

    def fail(*_: object) -> None:
        raise lmdb.DiskError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr("sessauth.state.writer.group.Group.finish", fail)
        with pytest.raises(RpcError) as refused:
            _check(operator, item, retry_id=b"attempt")
    assert (refused.value.code, refused.value.word) == (grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN")
    assert _check(operator, item).reason == checks.REASON_STATE_BRAKED

    service.control.writer.clear_brake()
    assert _check(operator, item, retry_id=b"attempt").allowed
    assert [_check(operator, item).allowed for _ in range(9)] == [True] * 8 + [False]
    assert committer.stats.failures == 1


def test_calls_that_cost_nothing_do_not_wait_for_the_writer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the writer stands still, and 12 calls wait for it, 50 free calls are allowed."""
    operator = service.operator
    _, item = _open(operator)
    go_on, stuck = threading.Event(), threading.Event()
    finish = Group.finish

    def wait(group: Group) -> None:
        stuck.set()
        go_on.wait(20)
        finish(group)

    monkeypatch.setattr(Group, "finish", wait)
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(_check, operator, item) for _ in range(12)]
        assert stuck.wait(10)
        free = [_check(operator, item, resource=b"free/1").allowed for _ in range(50)]
        assert not any(future.done() for future in waiting)
        go_on.set()
        taken = [future.result(20).allowed for future in waiting]

    assert all(free)
    assert sorted(taken) == [False] * 3 + [True] * 9


def test_a_fault_of_the_judge_denies(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug behind the writer's judgement is INTERNAL_ERROR or an error, and takes nothing."""
    operator = service.operator
    _, item = _open(operator)

    def fault(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as broken:
        broken.setattr("sessauth.server.writer.authorizer.CostAllocator._allocate", fault)
        assert _check(operator, item).reason == checks.REASON_INTERNAL_ERROR
    with monkeypatch.context() as broken:
        broken.setattr("sessauth.server.writer.authorizer.WriterAuthorizer.check", fault)
        with pytest.raises(RpcError) as refused:
            _check(operator, item)
        assert refused.value.code is grpc.StatusCode.UNAVAILABLE
        assert [decision.allowed for decision in _batch(operator, [item, item])] == [False, False]
    assert [_check(operator, item).allowed for _ in range(10)] == [True] * 9 + [False]


def test_a_writer_that_says_nothing_commits_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Commit that the verifier would allow is denied unless the writer itself decides otherwise."""
    operator = service.operator
    _, item = _open(operator)
    item.resource = b"free/1"
    given = _check(operator, item, permit_ms=60_000)
    commit = checks.CommitRequest(permit=given.permit, item=item, audience="gw")

    with monkeypatch.context() as broken:
        broken.setattr("sessauth.server.writer.local.LocalWriter.commit", lambda *_: {})
        refused = operator.call("AuthorizationService/Commit", commit).decision
    assert (refused.allowed, refused.reason) == (False, checks.REASON_NEEDS_SERVER)
    assert operator.call("AuthorizationService/Commit", commit).decision.allowed


@pytest.mark.parametrize("permit", [b"", bytes(31), bytes(33)])
def test_bytes_that_are_no_permit_are_named(service: Service, permit: bytes) -> None:
    """Commit and Release refuse a permit of another size by its field."""
    _, item = _open(service.operator)
    for rpc, request in (
        ("Commit", checks.CommitRequest(permit=permit, item=item, audience="gw")),
        ("Release", checks.ReleaseRequest(permit=permit)),
    ):
        with pytest.raises(RpcError) as refused:
            service.operator.call(f"AuthorizationService/{rpc}", request)
        assert (refused.value.word, refused.value.field) == ("INVALID_ARGUMENT", "permit")
