from __future__ import annotations

from typing import Any

import grpc
import pytest

from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.service import Caller, RpcError, Service


@pytest.fixture(scope="module")
def issuers(service: Service) -> tuple[Caller, Caller]:
    """Two orchestrators that know nothing of each other."""
    return service.add("issuer-a", "issuer"), service.add("issuer-b", "issuer")


@pytest.mark.parametrize(
    ("rpc", "request_of"),
    [
        ("SessionService/GetSession", lambda one: sessions.GetSessionRequest(session_id=one)),
        ("SessionService/KeepAlive", lambda one: sessions.KeepAliveRequest(session_id=one)),
        (
            "SessionService/NarrowSession",
            lambda one: sessions.NarrowSessionRequest(session_id=one, ceiling=["read:files/x"]),
        ),
        (
            "SessionService/UpdateFacts",
            lambda one: sessions.UpdateFactsRequest(session_id=one, remove=["case"]),
        ),
        ("SessionService/SuspendSession", lambda one: sessions.SuspendSessionRequest(session_id=one)),
        ("SessionService/ResumeSession", lambda one: sessions.ResumeSessionRequest(session_id=one)),
        ("SessionService/EndSession", lambda one: sessions.EndSessionRequest(session_id=one)),
        (
            "SessionService/OpenSession",
            lambda one: sessions.OpenSessionRequest(subject="s", ceiling=["read:files/x"], parent_id=one),
        ),
        (
            "TokenService/Mint",
            lambda one: tokens.MintRequest(session_id=one, scopes=["read:files/x"], audience=["gw"]),
        ),
        ("TokenService/Revoke", lambda one: tokens.RevokeRequest(session_id=one, block_ids=[b"b" * 32])),
    ],
    ids=lambda value: value.rpartition("/")[2] if isinstance(value, str) else "",
)
def test_anothers_session_looks_like_none(issuers: tuple[Caller, Caller], rpc: str, request_of: Any) -> None:
    """An issuer's calls on another's session, a child under it included, change nothing and learn nothing."""
    owner, other = issuers
    opening = sessions.OpenSessionRequest(subject="agent", ceiling=["read:files/**"], lease_ms=60_000)
    session = owner.call("SessionService/OpenSession", opening).session
    told = set()
    for session_id in (session.id, b"\x01" * 16):
        with pytest.raises(RpcError) as caught:
            other.call(rpc, request_of(session_id))
        told.add((caught.value.code, caught.value.word, caught.value.message))

    assert len(told) == 1
    assert told.pop()[0] is grpc.StatusCode.NOT_FOUND
    request = sessions.GetSessionRequest(session_id=session.id)
    assert owner.call("SessionService/GetSession", request).session == session


def test_an_issuer_opens_for_itself_alone(issuers: tuple[Caller, Caller]) -> None:
    """A session is never opened in another's name, and a list shows only one's own."""
    owner, other = issuers
    opening = sessions.OpenSessionRequest(subject="agent", ceiling=["read:files/**"])
    opened = owner.call("SessionService/OpenSession", opening).session
    opening.owner = "issuer-a"
    with pytest.raises(RpcError) as caught:
        other.call("SessionService/OpenSession", opening)
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED

    listed = other.call("SessionService/ListSessions", sessions.ListSessionsRequest(page_size=1000))
    assert opened.id not in {session.id for session in listed.sessions}
    by_owner = sessions.ListSessionsRequest(page_size=1000, owner="issuer-a")
    assert not other.call("SessionService/ListSessions", by_owner).sessions
