"""The blocking client of grpcio at a native worker: over a Unix socket, TCP and TLS."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.interop_server import CHECK, InteropServer, interop_server
from tests.support.service import Caller, RpcError, wait_until
from tests.support.watching import Stream, item


@pytest.fixture
def caller(transport: str, served: InteropServer) -> Iterator[Caller]:
    """A caller with a connection of its own."""
    credential = "" if transport == "tls" else served.credential
    made = Caller(
        served.target(transport), credential, channel_credentials=served.channel_credentials(transport)
    )
    yield made
    made.close()


def test_calls_are_answered(caller: Caller, served: InteropServer) -> None:
    """Allowed, denied and in batches; a survey; the health of the service, once and as it changes."""
    allowed, denied = (
        caller.call("AuthorizationService/Check", pb.CheckRequest.FromString(served.check(resource))).decision
        for resource in (b"files/a", b"logs")
    )
    assert (allowed.allowed, denied.allowed, denied.reason) == (True, False, pb.REASON_OUT_OF_SCOPE)
    assert denied.explanation
    request = pb.CheckBatchRequest.FromString(served.batch())
    answer = caller.call("AuthorizationService/CheckBatch", request)
    assert [each.allowed for each in answer.decisions] == [True, False, True]
    candidates = [pb.Candidate(action=b"read", resource=name) for name in (b"files/a", b"logs")]
    survey = pb.ListAllowedRequest(token=served.token, candidates=candidates, audience="gw")
    verdicts = caller.call("AuthorizationService/ListAllowed", survey).verdicts
    assert list(verdicts) == [pb.VERDICT_YES, pb.VERDICT_NO]
    health = health_pb2_grpc.HealthStub(caller.channel)
    service = health_pb2.HealthCheckRequest(service="sessauth.v1.AuthorizationService")
    assert health.Check(service, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(service, timeout=10, metadata=caller.metadata)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_errors_come_with_their_details(caller: Caller) -> None:
    """The word of the refusal, the field, a message."""
    with pytest.raises(RpcError) as refused:
        caller.call("AuthorizationService/Check", pb.CheckRequest(audience="gw"))
    error = refused.value
    assert (error.code.name, error.word, error.field) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT", "item")
    assert error.message == "item: is required"


def test_deadlines_are_required_and_kept(caller: Caller) -> None:
    """Without one a call is refused; at its end it has ended."""
    with pytest.raises(RpcError) as refused:
        caller.call("AuthorizationService/Check", pb.CheckRequest(audience="gw"), timeout=None)
    assert refused.value.word == "DEADLINE_REQUIRED"
    opened = Stream(caller, timeout=0.3)
    with pytest.raises(RpcError) as ended:
        opened.next()
    assert ended.value.code.name == "DEADLINE_EXCEEDED"
    opened.close()


def test_a_watched_stream_is_answered_and_withdrawn(caller: Caller, served: InteropServer) -> None:
    """Several messages, a withdrawal when the session ends, an end in peace; then one that is cancelled."""
    session_id, token = served.session()
    opened = Stream(caller)
    for number in range(5):
        opened.allow(number, item(token), watch=number < 2)
    served.end(session_id)
    assert sorted(opened.withdrawn()[0] for _ in range(2)) == [0, 1]
    opened.end_requests()
    assert opened.ended()

    cancelled = Stream(caller)
    cancelled.allow(1, item(served.token))
    cancelled.close()
    assert cancelled.call.code() is grpc.StatusCode.CANCELLED
    assert caller.call(
        "AuthorizationService/Check", pb.CheckRequest.FromString(served.check())
    ).decision.allowed


def test_a_message_of_eleven_mebibytes_is_answered(caller: Caller, served: InteropServer) -> None:
    """1,024 calls with arguments of 11 KiB each."""
    arguments = b'{"n":1,"text":"%s"}' % (b"a" * 11_400)
    items = [
        pb.CheckItem(token_index=1, action=b"read", resource=b"files/%d" % number, arguments=arguments)
        for number in range(1024)
    ]
    request = pb.CheckBatchRequest(items=items, tokens=[served.token], audience="gw")
    assert request.ByteSize() > 11 << 20

    answer = caller.call("AuthorizationService/CheckBatch", request, timeout=60)

    assert len(answer.decisions) == 1024
    assert {each.reason for each in answer.decisions} == {pb.REASON_ALLOWED}


def test_many_calls_share_a_connection(caller: Caller, served: InteropServer) -> None:
    """600 checks at once, more than the server takes streams, beside 20 streams."""
    streams = []
    for _ in range(20):
        # One by one: a caller has few places for calls whose message has not come.
        streams.append(Stream(caller))
        streams[-1].allow(1, item(served.token))
    stub = caller.channel.unary_unary(CHECK, response_deserializer=pb.CheckResponse.FromString)
    waiting = [stub.future(served.check(), timeout=30, metadata=caller.metadata) for _ in range(600)]
    assert all(each.result().decision.allowed for each in waiting)
    for opened in streams:
        opened.allow(2, item(served.token))
        opened.close()


def _code(caller: Caller, served: InteropServer) -> str:
    try:
        caller.call("AuthorizationService/Check", pb.CheckRequest.FromString(served.check()), timeout=5)
    except RpcError as error:
        return str(error.code.name)
    return "OK"


def test_a_replaced_worker_is_reached_on_the_same_channel(caller: Caller, served: InteropServer) -> None:
    """The calls while there is none are UNAVAILABLE, those to the next worker succeed."""
    assert _code(caller, served) == "OK"
    served.replace_worker()
    codes: list[str] = []
    assert wait_until(lambda: codes.append(_code(caller, served)) or codes[-1] == "OK")
    assert set(codes) <= {"OK", "UNAVAILABLE"}


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_a_drain_ends_what_runs_and_refuses_what_comes(transport: str) -> None:
    """A watched stream learns of it; new calls are UNAVAILABLE; none ends in any other way."""
    with interop_server() as server:
        caller = server.caller(server.target(transport), server.credential)
        opened = Stream(caller)
        opened.allow(1, item(server.token))
        assert _code(caller, server) == "OK"
        server.drain()
        with pytest.raises(RpcError) as ended:
            opened.next()
        assert (ended.value.code.name, ended.value.word) == ("UNAVAILABLE", "SHUTTING_DOWN")
        codes: list[str] = []
        assert wait_until(lambda: codes.append(_code(caller, server)) or codes[-1] != "OK")
        codes += [_code(caller, server) for _ in range(20)]
        assert set(codes) <= {"OK", "UNAVAILABLE"}, codes
        assert codes[-1] == "UNAVAILABLE"
        assert server.process.wait(30) == 0
        opened.close()
