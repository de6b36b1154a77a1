from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from sessauth.server.keys.credentials import RELOAD_SECONDS, CredentialFile
from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_pb2
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.service import Caller, RpcError, Service, running
from tests.support.watching import mint, open_session


def _item(presented: bytes | str, **fields: object) -> pb.CheckItem:
    data = presented.encode() if isinstance(presented, str) else presented
    return pb.CheckItem(**{"token": data, "action": b"read", "resource": b"files/a/x", **fields})


def _check(caller: Caller, item: pb.CheckItem, **fields: object) -> pb.Decision:
    request = pb.CheckRequest(item=item, **{"audience": "gw", **fields})
    return caller.call("AuthorizationService/Check", request).decision


def test_text_and_bytes_give_the_same_decision(
    operator: Caller, session: sessions.Session, token: tokens.MintResponse
) -> None:
    """A token may come in text form or as its bytes; both are allowed with the same position."""
    by_text = _check(operator, _item(token.token))
    by_bytes = _check(operator, _item(Token.parse(token.token).data))

    for decision in (by_text, by_bytes):
        assert (decision.allowed, decision.reason) == (True, pb.REASON_ALLOWED)
        assert decision.session_id == session.id
        assert list(decision.block_ids) == [token.block_id]
        assert (decision.matched.level, decision.matched.index, decision.matched.scope) == (
            pb.LEVEL_BLOCK,
            0,
            0,
        )
        assert not decision.HasField("failed")
        assert decision.explanation == ""
        assert decision.expires_at_ms == token.expires_at_ms
    assert by_text.decision_id != by_bytes.decision_id


def test_a_denial_is_an_answer_and_says_where(operator: Caller, token: tokens.MintResponse) -> None:
    """Out of scope: status OK, reason, stage, position, and an explanation for the gateway's operator."""
    decision = _check(operator, _item(token.token, resource=b"files/b"))

    assert (decision.allowed, decision.reason, decision.stage) == (
        False,
        pb.REASON_OUT_OF_SCOPE,
        pb.STAGE_SCOPE,
    )
    assert (decision.failed.level, decision.failed.index) == (pb.LEVEL_BLOCK, 0)
    assert decision.explanation


def test_a_denial_by_the_ceiling_names_its_scope(operator: Caller, session: sessions.Session) -> None:
    """The explanation after a narrowing says what the ceiling would have allowed."""
    request = tokens.MintRequest(session_id=session.id, scopes=["read:files/**"], audience=["gw"])
    minted = operator.call("TokenService/Mint", request)
    narrow = sessions.NarrowSessionRequest(session_id=session.id, ceiling=["read:files/only-this"])
    operator.call("SessionService/NarrowSession", narrow)

    decision = _check(operator, _item(minted.token))

    assert (decision.reason, decision.failed.level) == (pb.REASON_OUT_OF_SCOPE, pb.LEVEL_CEILING)
    assert "files/only-this" in decision.explanation


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"token": b""}, pb.REASON_MALFORMED_TOKEN),
        ({"token": b"\x00" * 40}, pb.REASON_MALFORMED_TOKEN),
        ({"token": b"sessauth_token_!"}, pb.REASON_MALFORMED_TOKEN),
        ({"token": b"sessauth_token_\xff\xfe"}, pb.REASON_MALFORMED_TOKEN),
        ({"token": b"\x08" * 9000}, pb.REASON_TOKEN_TOO_LARGE),
        ({"action": b"re ad"}, pb.REASON_MALFORMED_REQUEST),
        ({"action": b"\xff"}, pb.REASON_MALFORMED_REQUEST),
        ({"resource": b"files//a"}, pb.REASON_MALFORMED_REQUEST),
        ({"resource": b"files/../a"}, pb.REASON_MALFORMED_REQUEST),
        ({"resource": b"files/*"}, pb.REASON_MALFORMED_REQUEST),
        ({"resource": b"files/\xff"}, pb.REASON_MALFORMED_REQUEST),
        ({"arguments": b"{"}, pb.REASON_MALFORMED_REQUEST),
        ({"arguments": b'{"a":1,"a":2}'}, pb.REASON_MALFORMED_REQUEST),
        ({"arguments": b'{"a":NaN}'}, pb.REASON_MALFORMED_REQUEST),
        ({"arguments": b"[" * 1000}, pb.REASON_MALFORMED_REQUEST),
        ({"arguments": b'{"a":"' + b"x" * (10 << 20) + b'"}'}, pb.REASON_MALFORMED_REQUEST),
        ({"session_id": b"x" * 16}, pb.REASON_WRONG_SESSION),
    ],
)
def test_what_an_agent_controls_is_only_ever_denied(
    operator: Caller, token: tokens.MintResponse, fields: dict[str, bytes], reason: int
) -> None:
    """Bad tokens, actions, resources and arguments get a denial with status OK, never an error."""
    decision = _check(operator, _item(token.token, **fields))

    assert (decision.allowed, decision.reason) == (False, reason)


def test_ended_and_revoked_are_denied_from_the_next_check_on(
    operator: Caller, session: sessions.Session, token: tokens.MintResponse
) -> None:
    """The check after an acknowledgement observes the change, also with a cached chain."""
    assert _check(operator, _item(token.token)).allowed

    operator.call(
        "TokenService/Revoke", tokens.RevokeRequest(session_id=session.id, block_ids=[token.block_id])
    )
    assert _check(operator, _item(token.token)).reason == pb.REASON_REVOKED

    operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session.id))
    assert _check(operator, _item(token.token)).reason == pb.REASON_SESSION_ENDED


def test_a_batch_is_judged_item_by_item(operator: Caller, token: tokens.MintResponse) -> None:
    """Answers come in the order of the items; a denial of one leaves the others alone."""
    items = [_item(token.token), _item(b"rubbish"), _item(token.token, action=b"write"), _item(token.token)]
    request = pb.CheckBatchRequest(items=items, audience="gw")

    decisions = operator.call("AuthorizationService/CheckBatch", request).decisions

    assert [decision.reason for decision in decisions] == [
        pb.REASON_ALLOWED,
        pb.REASON_MALFORMED_TOKEN,
        pb.REASON_OUT_OF_SCOPE,
        pb.REASON_ALLOWED,
    ]


def test_a_stream_answers_each_request_by_its_id(
    operator: Caller, session: sessions.Session, token: tokens.MintResponse
) -> None:
    """Requests of one stream are judged as they come, by the state of that moment."""
    ended = threading.Event()

    def requests() -> Iterator[pb.CheckStreamRequest]:
        yield pb.CheckStreamRequest(id=7, item=_item(token.token), audience="gw")
        assert ended.wait(10)
        yield pb.CheckStreamRequest(id=9, item=_item(token.token), audience="gw")

    answers = operator.stream("AuthorizationService/CheckStream", requests())
    first = next(answers)
    operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session.id))
    ended.set()
    [last] = list(answers)

    assert (first.id, first.decision.reason) == (7, pb.REASON_ALLOWED)
    assert (last.id, last.decision.reason) == (9, pb.REASON_SESSION_ENDED)


def test_a_stream_ends_with_its_credential(service: Service, token: tokens.MintResponse) -> None:
    """A removed credential judges nothing more, on the streams that it opened either."""
    gateway = service.add("gateway-gone", "gateway", ("gw",))
    removed = threading.Event()

    def requests() -> Iterator[pb.CheckStreamRequest]:
        yield pb.CheckStreamRequest(id=1, item=_item(token.token))
        assert removed.wait(10)
        yield pb.CheckStreamRequest(id=2, item=_item(token.token))

    answers = gateway.stream("AuthorizationService/CheckStream", requests())
    assert next(answers).decision.allowed
    assert CredentialFile(service.made.state_dir / "credentials.toml").remove("gateway-gone")
    time.sleep(2 * RELOAD_SECONDS)
    removed.set()
    with pytest.raises(RpcError) as caught:
        next(answers)
    assert (caught.value.code, caught.value.word) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("rpc", "request_message", "field"),
    [
        ("Check", pb.CheckRequest(audience="gw"), "item"),
        ("Check", pb.CheckRequest(audience="gw", item=_item(b"t", action=b"")), "item.action"),
        ("Check", pb.CheckRequest(audience="gw", item=_item(b"t", resource=b"")), "item.resource"),
        ("Check", pb.CheckRequest(audience="gw", item=_item(b"t", session_id=b"x")), "item.session_id"),
        ("Check", pb.CheckRequest(audience="gw", item=_item(b"t", peer=["p"] * 17)), "item.peer"),
        ("Check", pb.CheckRequest(item=_item(b"t")), "audience"),
        ("CheckBatch", pb.CheckBatchRequest(audience="gw"), "items"),
        ("CheckBatch", pb.CheckBatchRequest(audience="gw", items=[_item(b"t")] * 1025), "items"),
        (
            "CheckBatch",
            pb.CheckBatchRequest(audience="gw", items=[_item(b"t"), _item(b"t", action=b"")]),
            "items[1].action",
        ),
    ],
)
def test_misuse_names_the_field(operator: Caller, rpc: str, request_message: object, field: str) -> None:
    """Misuse is INVALID_ARGUMENT, and the details name the field."""
    with pytest.raises(RpcError) as refused:
        operator.call(f"AuthorizationService/{rpc}", request_message)

    assert (refused.value.code, refused.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_a_gateway_asks_only_for_its_own_audiences(service: Service, token: tokens.MintResponse) -> None:
    """Its only audience is the default; one that the credential doesn't list is PERMISSION_DENIED."""
    gateway = service.add("gateway-1", "gateway", ("gw",))
    other = service.add("gateway-2", "gateway", ("other",))

    assert _check(gateway, _item(token.token), audience="").allowed
    assert _check(other, _item(token.token), audience="").reason == pb.REASON_WRONG_AUDIENCE
    with pytest.raises(RpcError) as refused:
        _check(other, _item(token.token))
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_an_open_token_is_denied(operator: Caller, session: sessions.Session) -> None:
    """The holder's stored form, secret and all, is no token to present."""
    request = tokens.MintRequest(
        session_id=session.id, scopes=["read:files/**"], audience=["gw"], ending=token_pb2.ENDING_OPEN
    )
    minted = operator.call("TokenService/Mint", request)

    decision = _check(operator, _item(minted.token))

    assert decision.reason == pb.REASON_OPEN_TOKEN
    assert minted.token not in decision.explanation


def test_failed_signatures_of_one_peer_are_limited() -> None:
    """Once a peer used up its failures no new token of it is looked at; verified ones and others go on."""
    limits = {"failed_signatures_burst": 3, "failed_signatures_per_second": 1}
    with running(limits=limits) as service:
        operator = service.operator
        session_id = open_session(operator).id
        data, known = (Token.parse(mint(operator, session_id).token).data for _ in range(2))
        assert _check(operator, _item(known, source="10.0.0.1")).allowed
        at = data.index(b"\x0a\x40") + 5

        for forged in range(3):
            wrong = data[:at] + bytes([data[at] ^ (forged + 1)]) + data[at + 1 :]
            assert _check(operator, _item(wrong, source="10.0.0.1")).reason == pb.REASON_BAD_SIGNATURE

        limited = _check(operator, _item(data, source="10.0.0.1"))
        assert (limited.reason, "too many" in limited.explanation) == (pb.REASON_BAD_SIGNATURE, True)
        assert _check(operator, _item(known, source="10.0.0.1")).allowed
        assert _check(operator, _item(data, source="10.0.0.2")).allowed
