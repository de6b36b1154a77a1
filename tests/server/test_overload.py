from __future__ import annotations

import threading
from collections import Counter

import grpc
import pytest
from grpc_health.v1 import health_pb2

from sessauth.server.rpc import pool as pool_names
from sessauth.server.rpc.pool import BoundedPool, PoolShare, open_pools
from sessauth.server.sections import LimitSettings
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.pool_calls import submit
from tests.support.service import Caller, RpcError, Service, running, wait_until
from tests.support.watching import item, mint, open_session


def _prepared(operator: Caller) -> tuple[bytes, checks.CheckItem, bytes]:
    """A session, an item that is allowed in it, and the token's block id."""
    session_id = open_session(operator).id
    minted = mint(operator, session_id)
    return session_id, item(minted.token), minted.block_id


def test_a_full_pool_refuses_and_the_reserved_pool_works() -> None:
    """Three waves: while checks, changes and reads are full, each is refused; Revoke, End and health work."""
    with running(
        limits={"check_threads": 1, "read_threads": 1, "change_threads": 1, "queue_places": 2}
    ) as service:
        operator = service.operator
        assert service.control is not None
        pools = service.control.serving.pools
        for _wave in range(3):
            session_id, item, block_id = _prepared(operator)
            request = checks.CheckRequest(item=item, audience="gw")
            release = threading.Event()
            busy = [pools[pool_names.CHECK], pools[pool_names.READ], pools[pool_names.CHANGE]]
            held = [submit(pool, release.wait, 30) for pool in busy for _ in range(pool.capacity)]

            for rpc, message in [
                ("AuthorizationService/Check", request),
                ("SessionService/GetSession", sessions.GetSessionRequest(session_id=session_id)),
                ("SessionService/KeepAlive", sessions.KeepAliveRequest(session_id=session_id)),
            ]:
                with pytest.raises(RpcError) as refused:
                    operator.call(rpc, message)
                assert (refused.value.code, refused.value.word) == (
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "OVERLOADED",
                )
            operator.call("Health/Check", health_pb2.HealthCheckRequest())
            operator.call(
                "TokenService/Revoke", tokens.RevokeRequest(session_id=session_id, block_ids=[block_id])
            )
            operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))

            release.set()
            assert all(future.result(30) for future in held)
            decision = operator.call("AuthorizationService/Check", request).decision
            assert decision.reason == checks.REASON_SESSION_ENDED


def test_a_wave_of_calls_is_answered_or_refused_never_lost() -> None:
    """Some of 200 batches at once are refused, all others are right, and the pool is empty afterwards."""
    with running(limits={"check_threads": 1, "queue_places": 9}) as service:
        operator = service.operator
        session_id, item, _ = _prepared(operator)
        request = checks.CheckBatchRequest(items=[item] * 512, audience="gw")
        rpc = operator.channel.unary_unary(
            "/sessauth.v1.AuthorizationService/CheckBatch",
            request_serializer=checks.CheckBatchRequest.SerializeToString,
            response_deserializer=checks.CheckBatchResponse.FromString,
        )
        for _wave in range(2):
            calls = [rpc.future(request, timeout=30, metadata=operator.metadata) for _ in range(100)]
            operator.call("SessionService/GetSession", sessions.GetSessionRequest(session_id=session_id))
            codes = Counter(call.code() for call in calls)
            for call in calls:
                if call.code() is grpc.StatusCode.OK:
                    assert all(decision.allowed for decision in call.result().decisions)

            assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert codes[grpc.StatusCode.OK] >= 5
            assert codes[grpc.StatusCode.RESOURCE_EXHAUSTED] > 0
        assert service.control is not None
        pool = service.control.serving.pools[pool_names.CHECK]
        # An answer is on its way a moment before its call has left the pool.
        assert wait_until(lambda: pool.in_flight == 0)


def test_a_bounded_number_of_streams_is_open() -> None:
    """A stream holds its thread: beyond a caller's half, and beyond all, one is refused at once."""
    with running(limits={"stream_threads": 4}) as service:
        operator, gateway, other = service.operator, *(service.add(name, "gateway") for name in "gh")
        _, item, _ = _prepared(operator)
        request = checks.CheckStreamRequest(id=1, item=item, audience="gw")
        done = threading.Event()

        def requests() -> object:
            yield request
            done.wait(30)

        streams = []
        for caller in (operator, gateway):
            mine = [caller.stream("AuthorizationService/CheckStream", requests()) for _ in range(2)]
            assert all(next(stream).decision.allowed for stream in mine)
            streams += mine
            for refused_caller in (caller, other) if caller is gateway else (caller,):
                with pytest.raises(RpcError) as refused:
                    next(refused_caller.stream("AuthorizationService/CheckStream", iter([request])))
                assert refused.value.word == "OVERLOADED"
        done.set()
        assert [list(stream) for stream in streams] == [[]] * 4


def test_strangers_take_no_place(service: Service) -> None:
    """Calls without a credential are refused while every pool is full, not queued and not OVERLOADED."""
    stranger = service.caller()
    assert service.control is not None
    pool = service.control.serving.pools[pool_names.RESERVED]
    release = threading.Event()
    held = [submit(pool, release.wait, 30) for _ in range(pool.capacity)]

    with pytest.raises(RpcError) as refused:
        stranger.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=bytes(16)))
    release.set()

    assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert all(future.result(30) for future in held)


def test_a_place_is_given_back_however_a_call_ends() -> None:
    """A pool counts calls that return and raise alike, and goes on after one that raises."""
    pool = BoundedPool("test", 1, 2)
    release = threading.Event()
    running_call = submit(pool, release.wait, 30)
    pool.submit(PoolShare(pool), lambda: 1 / 0)
    last = submit(pool, int)
    assert (pool.in_flight, pool.full) == (3, True)

    release.set()

    assert (running_call.result(10), last.result(10)) == (True, 0)
    pool.shutdown()
    pool.join(10)
    assert pool.in_flight == 0
    with pytest.raises(RuntimeError):
        submit(pool, int)
    assert pool.in_flight == 0


def test_each_pool_of_the_table_is_open() -> None:
    """Every pool that an RPC names exists."""
    from sessauth.server.rpc.access import RULES, pool_of

    pools = open_pools(LimitSettings())

    named = {pool_of(rule, role) for rule in RULES.values() for role in rule.roles}
    assert named == set(pools.by_name)
    pools.close()
