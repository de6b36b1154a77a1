"""Tokens of every sort in a server's state, and the other values that check requests are filled with."""

from __future__ import annotations

from typing import Any

from sessauth.tokens.token import Token
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_pb2
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.service import Caller


def mint(operator: Caller, session_id: bytes, scopes: list[str], **fields: Any) -> str:
    """Mint a token for audience gw, unless the fields state another; returns its text."""
    fields = {"audience": ["gw"], **fields}
    request = tokens.MintRequest(session_id=session_id, scopes=scopes, **fields)
    return str(operator.call("TokenService/Mint", request).token)


def tokens_of_each_sort(operator: Caller) -> tuple[list[bytes], bytes]:
    """Return tokens of every sort, right ones first, and the id of the session of most of them."""

    def opened(*ceiling: str, observe: bool = False) -> bytes:
        scopes = ceiling or ["read,write:files/**", "list:**"]
        request = sessions.OpenSessionRequest(subject="s", ceiling=scopes, observe=observe)
        return bytes(operator.call("SessionService/OpenSession", request).session.id)

    session, narrowed, ended, suspended = (opened() for _ in range(4))
    text = mint(operator, session, ["read:files/a/**"])
    plain = Token.parse(text).data
    conditions = ["write:**", "read:files/** where n >= 1 free who"]
    nested = Token.parse(mint(operator, session, conditions, ending=token_pb2.ENDING_OPEN))
    child = nested.attenuate(scopes=["read:files/a/* where n <= 5"], ending="open")
    sealed = child.attenuate(scopes=["read:files/a/x"])
    elsewhere = Token.parse(mint(operator, session, ["read:files/**"], audience=["other"])).data
    # Its ceiling refuses nothing, and answers say where it would have.
    observed = opened("read:files/only", "read:files/** where n >= 3 free *", observe=True)
    of_observed = Token.parse(mint(operator, observed, ["read:files/**", "write:**"])).data
    of_narrowed, of_ended, of_suspended = (
        Token.parse(mint(operator, one, ["read:files/**"])).data for one in (narrowed, ended, suspended)
    )
    revoked = operator.call(
        "TokenService/Mint",
        tokens.MintRequest(session_id=session, scopes=["read:files/**"], audience=["gw"]),
    )
    operator.call(
        "TokenService/Revoke", tokens.RevokeRequest(session_id=session, block_ids=[revoked.block_id])
    )
    operator.call(
        "SessionService/NarrowSession",
        sessions.NarrowSessionRequest(session_id=narrowed, ceiling=["read:files/only"]),
    )
    operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=ended))
    operator.call("SessionService/SuspendSession", sessions.SuspendSessionRequest(session_id=suspended))
    at = plain.index(b"\x0a\x40") + 5
    forged = [plain[:at] + bytes([plain[at] ^ bit]) + plain[at + 1 :] for bit in (1, 2, 4)]
    right = [plain, text.encode(), sealed.data, of_observed]
    wrong = [elsewhere, of_narrowed, of_ended, of_suspended, Token.parse(revoked.token).data, *forged]
    junk = [
        nested.stored_text().encode(),
        nested.data,
        b"",
        b"\x00" * 40,
        b"sessauth_token_!",
        b"\x08" * 9000,
    ]
    return [*right, *right, *right, *wrong, *junk], session


def request_values(operator: Caller) -> dict[str, list[bytes]]:
    """Return values for the fields of check requests, by field; makes sessions and tokens."""
    presented, session = tokens_of_each_sort(operator)
    return {
        "token": presented,
        "action": [b"read", b"read", b"read", b"write", b"", b"re ad", b"\xff"],
        "resource": [b"files/a/x", b"files/a/x", b"files/b", b"files//a", b"", b"\xff/a"],
        "arguments": [
            *(b"", b'{"n": 3}', b'{"n": 3, "who": "me"}', b'{"n": 0}', b'{"m": 1}', b"{"),
            *(b'{"n": 3, "w\xff": 1}', '{"ключ": 1}'.encode()),
        ],
        "tool": [b"", b"", b'{"read_only": true}', b"{", b"[]"],
        "session": [b"", b"", b"", session, b"x" * 16, b"short"],
    }
