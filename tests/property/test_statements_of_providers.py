"""Mutated statements of identity providers say nothing but what was signed, and are refused by a word."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from sessauth.errors import IdentityRefused
from sessauth.server.identity.statements import Signal, logins_of, verify_logout, verify_revocation
from sessauth.server.identity.tokens import IdentityFault
from tests.support.cases import examples
from tests.support.identity_tokens import ISSUER, NOW, NOW_MS, SERVICE, key_set, part, provider, signed

EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT = {
    "iss": ISSUER, "aud": "desk", "iat": NOW - 5, "exp": NOW + 120, "jti": "j1", "sub": "ann", "sid": "s1",
    "events": {EVENT: {}},
}  # fmt: skip
BEARER = {"iss": ISSUER, "aud": SERVICE, "iat": NOW - 5, "exp": NOW + 120, "jti": "r1"}
BODY = {"sub_id": {"format": "iss_sub", "iss": ISSUER, "sub": "ann"}}
ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CORP, KEYS = provider(), key_set()
OTHER = provider(name="other", issuer="https://other.example", subject="other:{sub}")
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 1e300, 10**30, NOW, str(NOW), "", "ann", "bob", "s2", "a\nb", "\u202e", "\x00",
    "x" * 1_100, "\ud800", [], ["desk"], [["desk"]], {}, {"a": 1}, {EVENT: {}}, {EVENT: None}, ISSUER,
    OTHER.issuer, SERVICE, [SERVICE, 5], "none", "HS256", "ES256", "RS256", "EdDSA", "JWT", "logout+jwt",
    "at+jwt", "global-token-revocation+jwt",
)  # fmt: skip
NAMES = (*LOGOUT, "nonce", "nbf", "auth_time", "crit", "cnf", "act", "toe", "sub_id")
HEADERS = ("alg", "kid", "typ", "crit", "jku", "jwk", "x5c", "b64", "zip", "enc", "cty")
Verify = Callable[[str, bytes], Signal]


def logout(token: str, _: bytes) -> Signal:
    """Return what a logout token says."""
    return verify_logout(token, "corp", (CORP, OTHER), lambda *_: KEYS, NOW_MS)


def revocation(token: str, body: bytes) -> Signal:
    """Return what a revocation says."""
    return verify_revocation(token, body, "corp", (CORP, OTHER), lambda *_: KEYS, NOW_MS)


def flipped(rng: Random, data: bytes) -> bytes:
    """Return bytes with some of them changed, removed, added or repeated."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(len(made) + 1)
        roll = rng.random()
        if roll < 0.5 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif roll < 0.65:
            del made[at : at + rng.randrange(1, 9)]
        elif roll < 0.85:
            made[at:at] = rng.choice((b".", b"=", b"\x00", b'"', b"{", b"}", b"\xff", b" ", b"AAAA"))
        else:
            made[at:at] = made[at : at + rng.randrange(1, 30)]
    return bytes(made)


def altered(rng: Random, stated: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return an object with a member changed or left out."""
    name = rng.choice(names)
    if rng.random() < 0.3:
        return {each: value for each, value in stated.items() if each != name}
    return {**stated, name: rng.choice(VALUES)}


def is_twin(one: str, other: str) -> bool:
    """Return True if two tokens differ only in the sign of an ECDSA signature."""
    (head, mine), (same, theirs) = (each.rpartition(".")[::2] for each in (one, other))
    first, second = (urlsafe_b64decode(each + "==") for each in (mine, theirs))
    twin = (ORDER_P256 - int.from_bytes(first[32:], "big")).to_bytes(32, "big")
    return head == same and second == first[:32] + twin


def outcome(verify: Verify, token: str, body: bytes) -> Signal | str:
    """Return what a statement says, or the word that refuses it; any other exception is a fault."""
    try:
        return verify(token, body)
    except IdentityRefused as refused:
        word, text = IdentityFault(refused.fault), str(refused)
    # A log has it on one line.
    assert text.isprintable()
    return word


def test_bytes_that_were_not_signed_say_nothing() -> None:
    """Flipped, cut, swapped with another token's, or signed by nobody: only an ECDSA twin counts."""
    rng, seen = Random("unsigned statements"), Counter[str]()
    ways = ((logout, LOGOUT, "logout+jwt"), (revocation, BEARER, "global-token-revocation+jwt"))
    pool = [
        (verify, signed({**claims, "jti": f"j{number}"}, algorithm, typ=typ), algorithm)
        for verify, claims, typ in ways
        for algorithm in ("ES256", "RS256", "EdDSA")
        for number in range(3)
    ]
    body = json.dumps(BODY).encode()
    genuine = {token for _, token, _ in pool}
    for _ in range(examples(6_000)):
        verify, token, algorithm = rng.choice(pool)
        parts, roll = token.split("."), rng.random()
        if roll < 0.5:
            made = flipped(rng, token.encode()).decode("latin-1")
        elif roll < 0.7:
            at = rng.randrange(3)
            parts[at] = part(flipped(rng, urlsafe_b64decode(parts[at] + "==")))
            made = ".".join(parts)
        elif roll < 0.85:
            others = rng.choice(pool)[1].split(".")
            made = ".".join(rng.choice(pair) for pair in zip(parts, others, strict=True))
        elif roll < 0.9 and algorithm == "ES256":
            signature = urlsafe_b64decode(parts[2] + "==")
            s = (ORDER_P256 - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
            made = ".".join([*parts[:2], part(signature[:32] + s)])
        else:
            header = {"alg": rng.choice(VALUES), "kid": algorithm, "typ": rng.choice(VALUES)}
            made = ".".join([part(_dumped(header)), parts[1], rng.choice((parts[2], ""))])
        said = outcome(verify, made, body)
        if isinstance(said, Signal) and made not in genuine:
            assert algorithm == "ES256" and is_twin(token, made), made
            seen["twin"] += 1
        seen["said" if isinstance(said, Signal) else said] += 1
    assert seen["twin"] and seen["IDENTITY_UNTRUSTED"] and seen["IDENTITY_MALFORMED"]


def _dumped(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def test_what_a_provider_signs_amiss_is_refused_or_says_what_it_names() -> None:
    """Claims, headers and bodies are changed before they are signed; nothing else is named than they name."""
    rng, seen = Random("signed amiss"), Counter[str]()
    sign = {name: partial(signed, algorithm=name) for name in ("ES256", "EdDSA")}
    for _ in range(examples(6_000)):
        is_logout = rng.random() < 0.5
        claims: dict[str, Any] = dict(LOGOUT if is_logout else BEARER)
        body: dict[str, Any] = {"sub_id": dict(BODY["sub_id"])}
        typ = "logout+jwt" if is_logout else "global-token-revocation+jwt"
        header: dict[str, Any] = {"typ": typ}
        for _ in range(rng.choice((0, 1, 1, 2))):
            claims = altered(rng, claims, NAMES)
        if rng.random() < 0.2:
            header = {**header, **altered(rng, {}, HEADERS)}
        if rng.random() < 0.4:
            body = {"sub_id": altered(rng, body["sub_id"], ("format", "iss", "sub"))}
        if rng.random() < 0.05:
            body = altered(rng, body, ("sub_id", "other"))
        payload = _dumped(claims)
        if rng.random() < 0.15:
            payload = flipped(rng, payload)
        raw = _dumped(body)
        if rng.random() < 0.15:
            raw = flipped(rng, raw)
        token = sign[rng.choice(("ES256", "EdDSA"))](payload, **header)
        said = outcome(logout if is_logout else revocation, token, raw)
        if isinstance(said, Signal):
            _require_named(said, json.loads(payload), raw, is_logout)
        seen["said" if isinstance(said, Signal) else said] += 1
    assert len(seen) == 5, seen


def _require_named(said: Signal, claims: dict[str, Any], body: bytes, is_logout: bool) -> None:
    """Require that a statement names nobody whom its signer did not name."""
    assert said.provider is CORP and claims["iss"] == ISSUER and said.token_id == claims["jti"]
    assert said.moment_ms == int(claims["iat"]) * 1000 + 999 and said.moment_ms <= NOW_MS + 31_000
    if is_logout:
        assert said.named == logins_of(claims.get("sub", ""), claims.get("sid", ""))
        assert EVENT in claims["events"] and "nonce" not in claims and claims.get("exp", NOW + 1) > NOW
    else:
        named = json.loads(body)["sub_id"]
        assert (said.named, named["iss"]) == (logins_of(named["sub"], ""), ISSUER)
        assert claims["iat"] >= NOW - 300
    assert said.named
