"""Clients of streams that do not read what they are sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import event_service_pb2 as events
from tests.support.doors import ServerFixture, running_server
from tests.support.half_sent import Connection, headers, message
from tests.support.service import wait_until

STREAM = "/sessauth.v1.AuthorizationService/CheckStream"
WATCH = "/sessauth.v1.EventService/WatchSessions"
SECONDS = 2
AT_ONCE = 100


@pytest.fixture(scope="module")
def opened() -> Iterator[ServerFixture]:
    """A server that has little patience."""
    milliseconds = str(1000 * SECONDS)
    settings = {
        "SESSAUTH_LIMITS_SLOW_READER_MS": milliseconds,
        "SESSAUTH_LIMITS_MAX_DEADLINE_MS": milliseconds,
    }
    with running_server(**settings) as found:
        yield found


@pytest.mark.parametrize("rpc", [STREAM, WATCH])
def test_a_stream_that_is_not_read_is_ended_and_holds_up_nobody(rpc: str, opened: ServerFixture) -> None:
    """A hundred streams without a window take half of the pool, others have theirs, and all are ended."""
    if rpc == STREAM:
        check = opened.check()
        request = checks.CheckStreamRequest(id=1, item=check.item, audience="gw").SerializeToString()
    else:
        request = events.WatchSessionsRequest(from_now=True).SerializeToString()
    block = headers(rpc, opened.credentials["gateway"], 60)
    slow = Connection(opened.control, window=0)
    try:
        for _ in range(AT_ONCE):
            slow.call(block, message(request))
        seen = opened.noticed(None)
        assert (seen.lost_ends, seen.lost_checks, seen.same_workers) == ((), (), True)
        if rpc == STREAM:
            stream = opened.operator.stream(
                "AuthorizationService/CheckStream",
                iter([checks.CheckStreamRequest(id=1, item=check.item, audience="gw")]),
            )
            assert next(stream).decision.allowed
        else:
            watch = opened.operator.stream(
                "EventService/WatchSessions", iter([events.WatchSessionsRequest(from_now=True)])
            )
            assert next(watch).events
        assert wait_until(lambda: slow.ended == AT_ONCE, 30.0)
        assert slow.data_bytes == 0
        assert wait_until(lambda: f'"method": "{rpc}"' in opened.process.log)
        assert wait_until(lambda: '"outcome": "SLOW_READER"' in opened.process.log)
    finally:
        slow.close()


@pytest.mark.parametrize("seconds", [1, 3_600])
def test_an_answer_that_is_not_read_is_kept_until_the_deadline(seconds: int, opened: ServerFixture) -> None:
    """Beyond the client's own deadline, and the server's cap on it, the call is ended; no place is held."""
    block = headers("/sessauth.v1.AuthorizationService/Check", opened.credentials["gateway"], seconds)
    request = message(opened.check().SerializeToString())
    slow = Connection(opened.control, window=0)
    try:
        for _ in range(AT_ONCE):
            slow.call(block, request, last=True)
        seen = opened.noticed(None, ends=2)
        assert (seen.lost_ends, seen.lost_checks) == ((), ())
        assert wait_until(lambda: slow.ended == AT_ONCE, 30.0)
        assert slow.data_bytes == 0
    finally:
        slow.close()
