from __future__ import annotations

import grpc
import pytest

from sessauth.tokens.token import Token
from sessauth.v1 import key_service_pb2 as keys
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_pb2
from sessauth.v1 import token_service_pb2 as pb
from tests.support.service import Caller, RpcError, Service


def _mint(caller: Caller, session: sessions.Session, **fields: object) -> pb.MintResponse:
    request = {"session_id": session.id, "scopes": ["read:files/a/**"], "audience": ["gw"], **fields}
    return caller.call("TokenService/Mint", pb.MintRequest(**request))


def test_a_minted_token_names_its_session_and_ends_with_it(
    operator: Caller, session: sessions.Session
) -> None:
    """Without ttl_ms the token lives as long as its session may; ids are those in the bytes."""
    minted = _mint(operator, session)
    token = Token.parse(minted.token)

    assert not token.is_open
    assert token.session_id == session.id
    assert minted.block_id == token.block_ids[0]
    assert minted.expires_at_ms == token.expires_at_ms == session.expires_at_ms


def test_a_token_never_outlives_its_session(operator: Caller, session: sessions.Session) -> None:
    """A ttl_ms beyond the session's hard end is cut there, with a warning."""
    minted = _mint(operator, session, ttl_ms=10 * 3_600_000)

    assert minted.expires_at_ms == session.expires_at_ms
    assert any("expires with its session" in warning for warning in minted.warnings)


def test_an_open_token_is_attenuated_by_the_service_as_by_the_library(
    operator: Caller, session: sessions.Session
) -> None:
    """Attenuate adds a block to an open token; the child is sealed and narrower."""
    minted = _mint(operator, session, ending=token_pb2.ENDING_OPEN)
    request = pb.AttenuateRequest(token=minted.token, scopes=["read:files/a/x"], label="sub")
    child = operator.call("TokenService/Attenuate", request)
    token = Token.parse(child.token)

    assert Token.parse(minted.token).is_open
    assert len(token.block_ids) == 2
    assert child.block_id == token.block_ids[1]
    with pytest.raises(RpcError) as refused:
        operator.call("TokenService/Attenuate", pb.AttenuateRequest(token=child.token))
    assert (refused.value.code, refused.value.word) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_EXTENDABLE")


def test_widening_is_refused_with_the_part(operator: Caller, session: sessions.Session) -> None:
    """A scope that sticks out of the ceiling, or of the parent token, is refused and named."""
    with pytest.raises(RpcError) as refused:
        _mint(operator, session, scopes=["delete:files/a"])
    assert (refused.value.word, "delete" in refused.value.message) == ("WIDENS", True)

    minted = _mint(operator, session, ending=token_pb2.ENDING_OPEN)
    with pytest.raises(RpcError) as refused:
        operator.call("TokenService/Attenuate", pb.AttenuateRequest(token=minted.token, scopes=["read:x"]))
    assert refused.value.word == "WIDENS"


def test_a_scope_that_is_not_proven_inside_the_ceiling(operator: Caller) -> None:
    """Mint warns of a scope that may be wider than the ceiling; with ``strict`` it is refused and named."""
    ceiling = ['read:files/** where path glob "*a*b"']
    opened = operator.call(
        "SessionService/OpenSession", sessions.OpenSessionRequest(subject="s", ceiling=ceiling)
    )
    unproven = ['read:files/x where path glob "a*b*b"']

    minted = _mint(operator, opened.session, scopes=unproven)
    assert any("may be wider" in warning for warning in minted.warnings)
    assert not _mint(operator, opened.session, scopes=ceiling, strict=True).warnings
    with pytest.raises(RpcError) as refused:
        _mint(operator, opened.session, scopes=unproven, strict=True)
    assert refused.value.word == "WIDENS"
    assert "scope 0" in refused.value.message


def test_inspect_verifies_and_shows_revocation(operator: Caller, token: pb.MintResponse) -> None:
    """Inspect says that the signatures stand, what the block says, and that it was revoked."""
    inspected = operator.call("TokenService/Inspect", pb.InspectRequest(token=token.token))

    assert inspected.verified
    assert list(inspected.blocks[0].scopes) == ["read:files/a/**"]
    assert inspected.blocks[0].block_id == token.block_id
    assert not inspected.blocks[0].revoked

    session_id = inspected.blocks[0].block.root.session_id
    operator.call("TokenService/Revoke", pb.RevokeRequest(session_id=session_id, block_ids=[token.block_id]))
    assert operator.call("TokenService/Inspect", pb.InspectRequest(token=token.token)).blocks[0].revoked


def test_inspect_of_a_changed_token_says_so(operator: Caller, token: pb.MintResponse) -> None:
    """A token with a changed signature is inspected and not verified; a damaged text is refused."""
    data = bytearray(Token.parse(token.token).data)
    at = bytes(data).index(b"\x0a\x40") + 5  # inside the first signature: field 1, 64 bytes
    data[at] ^= 1
    changed = Token.parse(bytes(data)).text

    assert not operator.call("TokenService/Inspect", pb.InspectRequest(token=changed)).verified
    with pytest.raises(RpcError) as refused:
        operator.call("TokenService/Inspect", pb.InspectRequest(token=token.token[:-3]))
    assert refused.value.word == "MALFORMED_TOKEN"
    assert token.token[20:40] not in refused.value.message


def test_no_token_for_a_session_that_does_not_live(operator: Caller, session: sessions.Session) -> None:
    """Mint is refused for a suspended and for an ended session."""
    operator.call("SessionService/SuspendSession", sessions.SuspendSessionRequest(session_id=session.id))
    with pytest.raises(RpcError) as suspended:
        _mint(operator, session)
    operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session.id))
    with pytest.raises(RpcError) as ended:
        _mint(operator, session)

    assert suspended.value.word == ended.value.word == "NOT_LIVE"


def test_an_issuer_mints_and_revokes_only_for_its_own(
    service: Service, session: sessions.Session, token: pb.MintResponse
) -> None:
    """Minting for another's session, and revoking in it, is NOT_FOUND."""
    issuer = service.add("issuer-t", "issuer")

    with pytest.raises(RpcError) as minting:
        _mint(issuer, session)
    with pytest.raises(RpcError) as revoking:
        issuer.call(
            "TokenService/Revoke", pb.RevokeRequest(session_id=session.id, block_ids=[token.block_id])
        )

    assert minting.value.code is revoking.value.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("rpc", "fields", "field"),
    [
        ("Mint", {"session_id": b"x"}, "session_id"),
        ("Mint", {"scopes": []}, "scopes"),
        ("Mint", {"scopes": ["read:files/a", "read:a//b"]}, "scopes[1]"),
        ("Mint", {"audience": []}, "audience"),
        ("Mint", {"where": ["x =="]}, "where[0]"),
        ("Mint", {"ending": token_pb2.ENDING_BOUND}, "next_key"),
        ("Revoke", {"block_ids": []}, "block_ids"),
        ("Revoke", {"block_ids": [b"x" * 32, b"y"]}, "block_ids[1]"),
        ("Revoke", {"block_ids": [b"x" * 32] * 257}, "block_ids"),
    ],
)
def test_misuse_names_the_field(
    operator: Caller, session: sessions.Session, rpc: str, fields: dict[str, object], field: str
) -> None:
    """A request with a wrong field is INVALID_ARGUMENT, and the details name the field."""
    kinds = {"Mint": pb.MintRequest, "Revoke": pb.RevokeRequest}
    start: dict[str, object] = {"session_id": session.id}
    if rpc == "Mint":
        start |= {"scopes": ["read:files/a"], "audience": ["gw"]}

    with pytest.raises(RpcError) as refused:
        operator.call(f"TokenService/{rpc}", kinds[rpc](**{**start, **fields}))

    assert (refused.value.code, refused.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_the_newest_active_key_of_the_service_signs(operator: Caller, session: sessions.Session) -> None:
    """A new key signs once it is active, and is made once for one request id."""
    request = keys.AddKeyRequest(request_id="add-1")
    added = operator.call("KeyService/AddKey", request).key
    again = operator.call("KeyService/AddKey", request).key

    def signer() -> bytes:
        return Token.parse(_mint(operator, session).token).inspect().issuer_key_id

    before = signer()
    operator.call("KeyService/ActivateKey", keys.ActivateKeyRequest(key_id=added.id))

    assert again.id == added.id
    assert before != added.id
    assert signer() == added.id
