"""Refused calls end with the status, message and details that gRPC's own server gave, as recorded."""

from __future__ import annotations

from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.loop_and_threads import LOOP, BothServers, Client
from tests.support.recorded_answers import RecordedAnswers

CHECK, BATCH, STREAM = (f"AuthorizationService/{name}" for name in ("Check", "CheckBatch", "CheckStream"))
RPCS = ("Check", "CheckBatch", "CheckStream", "ListAllowed", "Commit", "Release")


@pytest.fixture
def request_bytes(values: dict[str, list[bytes]]) -> bytes:
    """A check that is allowed."""
    item = pb.CheckItem(token=values["token"][0], action=b"read", resource=b"files/a/x")
    return pb.CheckRequest(item=item, audience="gw").SerializeToString()


@pytest.mark.parametrize("name", RPCS)
@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", " Bearer sessauth_key_gw-1_wrong ")],
        [("authorization", "Bearer sessauth_key_gw-1_wrong")],
        [("authorization", "Bearer sessauth_key_nobody_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")],
        [("authorization", "Basic Zm9vOmJhcg==")],
        [("authorization", "Bearer a"), ("authorization", "Bearer b")],
        [("authorization-bin", b"Bearer a")],
    ],
    ids=str,
)
def test_strangers_are_refused_alike(
    recorded: RecordedAnswers,
    clients: dict[str, Client],
    request_bytes: bytes,
    name: str,
    metadata: list[tuple[str, str | bytes]],
) -> None:
    """No credential, a wrong one, one of another kind, two of them."""
    outcome = recorded.assert_same(
        clients["gw-1"], f"AuthorizationService/{name}", request_bytes, metadata=metadata
    )

    assert outcome.code == "UNAUTHENTICATED"
    assert outcome.details


@pytest.mark.parametrize("name", RPCS)
def test_missing_roles_are_refused_alike(
    recorded: RecordedAnswers, clients: dict[str, Client], request_bytes: bytes, name: str
) -> None:
    """An auditor checks nothing."""
    outcome = recorded.assert_same(clients["auditor"], f"AuthorizationService/{name}", request_bytes)
    assert (outcome.code, bool(outcome.details)) == ("PERMISSION_DENIED", True)


@pytest.mark.parametrize("known", [False, True], ids=["a first call", "after another call"])
@pytest.mark.parametrize("name", RPCS)
def test_missing_deadlines_are_refused_alike(
    recorded: RecordedAnswers,
    both: BothServers,
    credentials: dict[str, str],
    request_bytes: bytes,
    name: str,
    known: bool,
) -> None:
    """A known caller on the same connection is refused too."""
    client = both.client(credentials["gw-1"])
    if known:
        client.on(LOOP, CHECK, request_bytes)
        client.on(LOOP, CHECK, request_bytes)

    outcome = recorded.assert_same(client, f"AuthorizationService/{name}", request_bytes, timeout=None)

    assert outcome.code == "INVALID_ARGUMENT"
    assert b"DEADLINE_REQUIRED" in outcome.details


@pytest.mark.parametrize(
    "path",
    [
        "/sessauth.v1.AuthorizationService/Nothing",
        "/sessauth.v1.SessionService/OpenSession",
        "/sessauth.v1.AuthorizationService/check",
        "/sessauth.v1.AuthorizationService/Check/",
        "/Check",
        "/",
        "/é",
    ],
)
def test_unknown_methods_are_refused_alike(
    recorded: RecordedAnswers, clients: dict[str, Client], request_bytes: bytes, path: str
) -> None:
    """Those that no service has, and those that only the control process has."""
    assert recorded.assert_same(clients["gw-1"], path, request_bytes).code == "UNIMPLEMENTED"


@pytest.mark.parametrize("service", ["", "sessauth.v1.AuthorizationService", "sessauth.v1.KeyService", "x"])
@pytest.mark.parametrize("credential", ["", "gw-1"])
def test_health_is_answered_alike(
    recorded: RecordedAnswers, both: BothServers, credentials: dict[str, str], service: str, credential: str
) -> None:
    """Anybody may ask; of services that are not there too."""
    metadata = [("authorization", f"Bearer {credentials[credential]}")] if credential else []
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    recorded.assert_same(both.client(), "Health/Check", request, metadata=metadata)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"audience": "other"},
        {"audience": ""},
        {"token": b"sessauth_token_AAAA"},
        {"candidates": []},
        {"candidates": 1025},
        {"candidates": 1024},
        {"session_id": b"short"},
        {"source": "nowhere"},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["gw-1", "gw-2", "gw-3"])
def test_surveys_are_answered_alike(
    recorded: RecordedAnswers,
    clients: dict[str, Client],
    values: dict[str, list[bytes]],
    fields: dict[str, Any],
    name: str,
) -> None:
    """ListAllowed: right requests and wrong ones."""
    candidates = [
        pb.Candidate(action=action, resource=resource)
        for action in (b"read", b"write")
        for resource in (b"files/a/x", b"files/b", b"logs")
    ]
    if isinstance(fields.get("candidates"), int):
        fields = {**fields, "candidates": candidates[:1] * fields["candidates"]}
    for token in values["token"][2:6]:
        request = pb.ListAllowedRequest(
            **{"token": token, "candidates": candidates, "audience": "gw", **fields}
        )
        recorded.assert_same(clients[name], "AuthorizationService/ListAllowed", request.SerializeToString())


@pytest.mark.parametrize("permit", [b"", b"x", bytes(16), bytes(32), bytes(64), bytes(2000)], ids=len)
def test_unknown_permits_are_refused_alike(
    recorded: RecordedAnswers, clients: dict[str, Client], values: dict[str, list[bytes]], permit: bytes
) -> None:
    """Commit and Release of permits that nobody gave."""
    item = pb.CheckItem(token=values["token"][0], action=b"read", resource=b"files/a/x")
    commit = pb.CommitRequest(permit=permit, item=item, audience="gw")
    recorded.assert_same(clients["gw-1"], "AuthorizationService/Commit", commit.SerializeToString())
    recorded.assert_same(
        clients["gw-1"], "AuthorizationService/Release", pb.ReleaseRequest(permit=permit).SerializeToString()
    )


@pytest.mark.parametrize("rpc", [CHECK, BATCH, STREAM])
@pytest.mark.parametrize("size", [12 << 20, (12 << 20) + 1, 13 << 20])
def test_messages_of_the_largest_size_and_beyond_it_are_answered_alike(
    recorded: RecordedAnswers, clients: dict[str, Client], rpc: str, size: int
) -> None:
    """The limit is the same to the byte, and so are the words of the refusal."""
    outcome = recorded.assert_same(clients["gw-1"], rpc, bytes(size))
    assert outcome.code == ("INVALID_ARGUMENT" if size <= 12 << 20 else "RESOURCE_EXHAUSTED")
