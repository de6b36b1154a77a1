from __future__ import annotations

import inspect
import typing

import pytest

from sessauth.client import (
    AsyncClient,
    AsyncLiveSession,
    AsyncSessionWatch,
    AsyncWatch,
    Client,
    LiveSession,
    SessionWatch,
    Watch,
)
from sessauth.client._async.calls import AsyncCalls
from sessauth.client._sync.calls import Calls
from sessauth.client._tasks import AsyncEventStream, AsyncLeaseRenewal
from sessauth.client._threads import EventStream, LeaseRenewal

PAIRS = [
    (Client, AsyncClient),
    (Calls, AsyncCalls),
    (LiveSession, AsyncLiveSession),
    (Watch, AsyncWatch),
    (SessionWatch, AsyncSessionWatch),
    (EventStream, AsyncEventStream),
    (LeaseRenewal, AsyncLeaseRenewal),
]


def _public(kind: type) -> dict[str, typing.Any]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}


@pytest.mark.parametrize(("sync", "twin"), PAIRS)
def test_twins_have_the_same_methods(sync: type, twin: type) -> None:
    """The asyncio classes have the methods of the blocking ones, with the same parameters."""
    assert _public(sync).keys() == _public(twin).keys()
    for name, method in _public(sync).items():
        ours, theirs = inspect.signature(method), inspect.signature(_public(twin)[name])
        assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
            (p.name, p.kind, p.default) for p in theirs.parameters.values()
        ], name


# Hosts of a cluster ask each other for these.
BETWEEN_HOSTS = {"SignVerifierKey", "ReportHostUsage"}


def test_every_rpc_has_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each method of each service can be called through the client."""
    from sessauth.client import _live_state
    from sessauth.client._requests import (
        operations,
        sessions,
        tokens,
    )
    from sessauth.v1 import (
        approval_service_pb2,
        authorization_service_pb2,
        cluster_service_pb2,
        event_service_pb2,
        evidence_service_pb2,
        key_service_pb2,
        session_service_pb2,
        token_service_pb2,
        usage_service_pb2,
    )

    described = (tokens, operations, sessions, _live_state)
    sources = "".join(inspect.getsource(module) for module in described)
    for module in (
        approval_service_pb2,
        authorization_service_pb2,
        cluster_service_pb2,
        event_service_pb2,
        evidence_service_pb2,
        key_service_pb2,
        session_service_pb2,
        token_service_pb2,
        usage_service_pb2,
    ):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if method.name in BETWEEN_HOSTS:
                    continue
                assert f'"{method.name}"' in sources or f"{service.name}/{method.name}" in sources
