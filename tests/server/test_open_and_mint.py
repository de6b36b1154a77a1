"""OpenSession with mint: one call gives a session and its first token, or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from sessauth.client import Client
from sessauth.errors import SessauthError
from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_pb2
from sessauth.v1 import token_service_pb2 as pb
from tests.support.service import Caller, RpcError, Service

CEILING = ["read,write:files/**"]


@pytest.fixture(scope="module")
def gateway(service: Service) -> Caller:
    """A gateway of the audience gw."""
    return service.add("gw", "gateway", ("gw",))


def _mint(**fields: Any) -> pb.MintRequest:
    return pb.MintRequest(**{"scopes": ["read:files/a/**"], "audience": ["gw"], **fields})


def _open(caller: Caller, mint: pb.MintRequest, **fields: Any) -> sessions.OpenSessionResponse:
    request = sessions.OpenSessionRequest(
        **{"subject": "agent-7", "ceiling": CEILING, "ttl_ms": 60_000, **fields}, mint=mint
    )
    return caller.call("SessionService/OpenSession", request)


def _sessions(caller: Caller) -> int:
    answer = caller.call("SessionService/ListSessions", sessions.ListSessionsRequest(page_size=1000))
    return len(answer.sessions)


def _check(caller: Caller, token: str, resource: bytes) -> checks.Decision:
    item = checks.CheckItem(token=token.encode(), action=b"read", resource=resource)
    return caller.call("AuthorizationService/Check", checks.CheckRequest(item=item, audience="gw")).decision


def test_the_token_is_one_of_the_opened_session(operator: Caller, gateway: Caller) -> None:
    """It names the session, ends with it, is allowed at once, and denied once the session has ended."""
    opened = _open(operator, _mint(label="first"))
    token = Token.parse(opened.token.token)

    assert token.session_id == opened.session.id
    assert opened.token.block_id == token.block_ids[0]
    assert opened.token.token_id == token.token_id
    assert opened.token.expires_at_ms == opened.session.expires_at_ms
    assert _check(gateway, opened.token.token, b"files/a/x").allowed
    assert not _check(gateway, opened.token.token, b"files/b").allowed
    operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=opened.session.id))
    assert not _check(gateway, opened.token.token, b"files/a/x").allowed


def test_one_durable_write(operator: Caller) -> None:
    """The opening is the only change."""
    before = operator.call("SessionService/OpenSession", _plain()).revision
    assert _open(operator, _mint()).revision == before + 1


def _plain() -> sessions.OpenSessionRequest:
    return sessions.OpenSessionRequest(subject="agent-7", ceiling=CEILING, ttl_ms=60_000)


def test_a_repeat_returns_the_same_bytes(operator: Caller) -> None:
    """The same request id gives the same session and token, also when the session has ended since."""
    first = _open(operator, _mint(ttl_ms=5_000), request_id="ticket-17")
    again = _open(operator, _mint(ttl_ms=5_000), request_id="ticket-17")
    assert (again.session.id, again.token) == (first.session.id, first.token)

    operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=first.session.id))
    late = _open(operator, _mint(ttl_ms=5_000), request_id="ticket-17")
    assert (late.session.id, late.token.token) == (first.session.id, first.token.token)
    other = _open(operator, _mint(ttl_ms=5_000), request_id="ticket-18")
    assert other.token.token_id != first.token.token_id


@pytest.mark.parametrize(
    "mint",
    [_mint(scopes=["read:files/b/**"]), _mint(audience=["other"]), _mint(ttl_ms=1), None],
    ids=["scopes", "audience", "ttl", "without"],
)
def test_a_repeat_with_another_token_is_refused(operator: Caller, mint: pb.MintRequest | None) -> None:
    """A request id stands for its token too."""
    _open(operator, _mint(ttl_ms=5_000), request_id="ticket-20")
    request = _plain()
    request.request_id = "ticket-20"
    if mint is not None:
        request.mint.CopyFrom(mint)
    with pytest.raises(RpcError) as refused:
        operator.call("SessionService/OpenSession", request)
    assert refused.value.word == "CONFLICT"


@pytest.mark.parametrize(
    ("mint", "word"),
    [
        (_mint(scopes=["delete:files/a"]), "WIDENS"),
        (_mint(scopes=[]), "INVALID_ARGUMENT"),
        (_mint(scopes=["read files"]), "SCOPE_UNREADABLE"),
        (_mint(audience=[]), "INVALID_ARGUMENT"),
        (_mint(ending=token_pb2.ENDING_OPEN), "INVALID_ARGUMENT"),
        (_mint(session_id=bytes(16)), "INVALID_ARGUMENT"),
        (_mint(not_before_ms=2**52), "INVALID_ARGUMENT"),
        (_mint(source=["not a block"]), "INVALID_ARGUMENT"),
        (_mint(scopes=[f"read:files/{'x' * 900}{i}" for i in range(64)]), "INVALID_ARGUMENT"),
        (_mint(next_key=bytes(32)), "INVALID_ARGUMENT"),
    ],
    ids=[
        *("wider", "no-scope", "unreadable", "no-audience", "open"),
        *("session", "never", "source", "large", "key"),
    ],
)
def test_what_can_not_be_minted_opens_nothing(operator: Caller, mint: pb.MintRequest, word: str) -> None:
    """The request is refused as Mint refuses it, before anything is written."""
    before = _sessions(operator)
    with pytest.raises(RpcError) as refused:
        _open(operator, mint, request_id="ticket-30")
    assert refused.value.word == word
    assert _sessions(operator) == before
    # The request id is free.
    assert _open(operator, _mint(), request_id="ticket-30").token.token


def test_ceilings_of_ancestors_hold(operator: Caller) -> None:
    """A scope outside of the parent's ceiling is refused; a token under a parent ends no later than it."""
    parent = _open(operator, _mint(), ttl_ms=5_000).session
    with pytest.raises(RpcError) as refused:
        _open(operator, _mint(scopes=["read:mail/**"]), ceiling=["read:**"], parent_id=parent.id)
    assert refused.value.word == "WIDENS"
    child = _open(operator, _mint(), parent_id=parent.id)
    assert child.token.expires_at_ms <= parent.expires_at_ms


def test_the_client_has_both(operator: Caller) -> None:
    """``open_and_mint`` gives a session and a token that can be presented."""
    with Client(operator.target, operator.credential) as client:
        session, token = client.open_and_mint(
            ["read:files/a/**"], ["gw"], mint={"ttl_ms": 5_000}, subject="agent-7", ceiling=CEILING
        )
        assert token.session_id == session.id
        assert token.text.startswith("sessauth_token_")
        with pytest.raises(SessauthError, match="wider"):
            client.open_and_mint(["delete:x"], ["gw"], subject="agent-7", ceiling=CEILING)
