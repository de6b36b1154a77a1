"""The token alone over gRPC: judged, watched and answered on the loop; refused beside a call, or unknown."""

from __future__ import annotations

from typing import Any

import pytest

from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.service import Caller, RpcError, Service, running
from tests.support.watching import end, stream

CHECK, BATCH = "AuthorizationService/Check", "AuthorizationService/CheckBatch"


def alone(token: tokens.MintResponse, **fields: Any) -> pb.CheckItem:
    """An item that asks about the token alone."""
    return pb.CheckItem(**{"token": token.token.encode(), "token_only": True, **fields})


def check(caller: Caller, item: pb.CheckItem, audience: str = "gw") -> pb.Decision:
    """Ask about an item."""
    return caller.call(CHECK, pb.CheckRequest(item=item, audience=audience)).decision


def test_a_token_stands_until_its_session_ends(service: Service) -> None:
    """Alone and in a batch beside a call; an allow has no match, and a denial says why."""
    operator = service.operator
    opened = sessions.OpenSessionRequest(subject="agent", ceiling=["read:files/**"])
    session = operator.call("SessionService/OpenSession", opened).session
    minting = tokens.MintRequest(session_id=session.id, scopes=["read:files/a"], audience=["gw"])
    token = operator.call("TokenService/Mint", minting)
    call = pb.CheckItem(token=token.token.encode(), action=b"read", resource=b"files/b")

    for _ in range(3):
        decision = check(operator, alone(token))
        assert (decision.allowed, decision.reason) == (True, pb.REASON_ALLOWED)
        assert not decision.HasField("matched") and not decision.HasField("failed")
        assert (decision.session_id, list(decision.block_ids)) == (session.id, [token.block_id])
        assert decision.expires_at_ms == token.expires_at_ms and not decision.explanation
    batch = pb.CheckBatchRequest(
        items=[alone(token), call, pb.CheckItem(token_index=1, token_only=True)],
        tokens=[token.token.encode()],
        audience="gw",
    )
    reasons = [each.reason for each in operator.call(BATCH, batch).decisions]
    assert reasons == [pb.REASON_ALLOWED, pb.REASON_OUT_OF_SCOPE, pb.REASON_ALLOWED]
    assert check(operator, alone(token), "another").reason == pb.REASON_WRONG_AUDIENCE
    stated = alone(token, session_id=bytes(16))
    assert check(operator, stated).reason == pb.REASON_WRONG_SESSION

    end(operator, session.id)
    denied = check(operator, alone(token))
    assert (denied.allowed, denied.reason, denied.stage) == (
        *(False, pb.REASON_SESSION_ENDED, pb.STAGE_SESSION),
    )
    assert denied.explanation


def test_it_is_answered_on_the_loop() -> None:
    """A known caller and a known token need no thread."""
    with running() as service:
        opened = sessions.OpenSessionRequest(subject="agent", ceiling=["read:files/**"])
        session = service.operator.call("SessionService/OpenSession", opened).session
        minting = tokens.MintRequest(session_id=session.id, scopes=["read:files/a"], audience=["gw"])
        token = service.operator.call("TokenService/Mint", minting)
        gateway = service.add("gw-1", "gateway", ("gw",))
        for _ in range(2):
            assert gateway.call(CHECK, pb.CheckRequest(item=alone(token))).decision.allowed
        assert service.control is not None
        before = service.control.serving.loop.answered
        assert gateway.call(CHECK, pb.CheckRequest(item=alone(token))).decision.allowed
        assert service.control.serving.loop.answered == before + 1


def test_beside_a_part_of_a_call_it_is_refused(service: Service) -> None:
    """The gateway's fault, whichever part it is: nothing is judged, in a batch neither."""
    parts: list[dict[str, Any]] = [
        *({"action": b"read"}, {"resource": b"files/a"}, {"arguments": b"{}"}, {"tool": b"{}"}),
        *({"proof": b"p"}, {"approvals": [b""]}, {"retry_id": b"r"}, {"permit_ms": 1}),
    ]
    for part in parts:
        item = pb.CheckItem(token=b"t", token_only=True, **part)
        for rpc, request, field in [
            (CHECK, pb.CheckRequest(item=item, audience="gw"), "item.token_only"),
            (BATCH, pb.CheckBatchRequest(items=[item], audience="gw"), "items[0].token_only"),
        ]:
            with pytest.raises(RpcError) as caught:
                service.operator.call(rpc, request)
            assert (caught.value.word, caught.value.field) == ("INVALID_ARGUMENT", field)


def test_a_permit_is_never_of_a_token_alone(operator: Caller, token: tokens.MintResponse) -> None:
    """Commit refuses such an item."""
    request = pb.CommitRequest(permit=bytes(32), item=alone(token), audience="gw")
    with pytest.raises(RpcError, match="token_only"):
        operator.call("AuthorizationService/Commit", request)


def test_a_server_that_does_not_know_the_field_refuses_the_item(
    operator: Caller, token: tokens.MintResponse
) -> None:
    """The item lacks an action there, and behind a proxy that drops the field."""
    known = alone(token)
    known.ClearField("token_only")
    with pytest.raises(RpcError) as caught:
        check(operator, known)
    assert (caught.value.word, caught.value.field) == ("INVALID_ARGUMENT", "item.action")
    # The number is not one of an earlier version's fields.
    assert pb.CheckItem.DESCRIPTOR.fields_by_name["token_only"].number == 14


@pytest.mark.slow
def test_it_is_watched_until_the_session_ends(
    operator: Caller, session: sessions.Session, token: tokens.MintResponse
) -> None:
    """A connection stays open without a call; a narrower ceiling leaves its token standing."""
    with stream(operator) as opened:
        opened.allow(1, alone(token))
        narrowed = sessions.NarrowSessionRequest(session_id=session.id, ceiling=["read:files/b"])
        operator.call("SessionService/NarrowSession", narrowed)
        assert opened.idle(1.5)

        end(operator, session.id)
        assert opened.withdrawn() == (1, pb.REASON_SESSION_ENDED)


def test_revoking_a_block_withdraws_it(
    operator: Caller, session: sessions.Session, token: tokens.MintResponse
) -> None:
    """A revocation withdraws a token as it withdraws a call."""
    with stream(operator) as opened:
        opened.allow(1, alone(token))
        request = tokens.RevokeRequest(session_id=session.id, block_ids=[token.block_id])
        operator.call("TokenService/Revoke", request)
        assert opened.withdrawn() == (1, pb.REASON_REVOKED)
