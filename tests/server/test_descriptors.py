"""Descriptors of the control process: connections of TCP leave some to its Unix socket."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack

import pytest

from sessauth.v1 import session_service_pb2 as sessions
from tests.support.service import running, wait_until

# Connections that the server has places for; of these few more than a quarter are for its Unix socket.
PLACES = 40
RESERVED_DESCRIPTORS = 64


def test_an_operator_ends_a_session_while_strangers_hold_all_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It connects when all other places are taken, and the strangers stay."""
    limits = (RESERVED_DESCRIPTORS + PLACES, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    with running(tcp={"address": "127.0.0.1:0", "insecure_tcp": True}) as service, ExitStack() as opened:
        assert service.control is not None
        loop = service.control.serving.loop
        port = service.control.tcp_port
        strangers = [
            opened.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(3 * PLACES)
        ]
        assert wait_until(lambda: loop.connections + loop.refused_connections == len(strangers))
        held = loop.connections
        assert held == PLACES - PLACES // 4

        opened_session = service.operator.call(
            "SessionService/OpenSession", sessions.OpenSessionRequest(subject="s", ceiling=["read:files/**"])
        ).session
        ended = service.operator.call(
            "SessionService/EndSession", sessions.EndSessionRequest(session_id=opened_session.id)
        )

        assert ended.session.ended_at_ms
        assert loop.connections > held
