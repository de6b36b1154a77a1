"""Deadlines of clients that end nothing by themselves."""

from __future__ import annotations

import time

import pytest

from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.half_sent import Connection, headers, message
from tests.support.loop_and_threads import LOOP, THREADS, BothServers
from tests.support.service import wait_until


@pytest.mark.parametrize("name", [LOOP, THREADS])
@pytest.mark.parametrize("watch", [False, True])
def test_a_stream_ends_at_its_deadline(
    both: BothServers, credentials: dict[str, str], values: dict[str, list[bytes]], name: str, watch: bool
) -> None:
    """A client that sends nothing more, and cancels nothing, holds no place longer than it said."""
    item = pb.CheckItem(token=values["token"][0], action=b"read", resource=b"files/a/x")
    request = pb.CheckStreamRequest(id=1, item=item, audience="gw", watch=watch).SerializeToString()
    connection = Connection(both.servers[name].socket)
    began = time.monotonic()
    connection.call(
        headers("/sessauth.v1.AuthorizationService/CheckStream", credentials["gw-1"], 1), message(request)
    )

    assert wait_until(lambda: connection.ended == 1, 20)

    assert time.monotonic() - began >= 0.9
    assert connection.data_bytes > 0
    connection.close()
