"""Proofs by the holder's key (DPoP) for tokens that are bound to it: what stands, and all that does not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from sessauth.errors import ConfigError, IdentityRefused
from sessauth.server.identity.key_proofs import MAX_PROOF_BYTES, Possession
from sessauth.server.identity.tokens import ProvenIdentity, verify
from tests.support.identity_tokens import (
    NOW,
    NOW_MS,
    SERVICE,
    bound_to,
    claims,
    key_proof,
    key_set,
    part,
    private_key,
    provider,
    public_jwk,
    signed,
    thumbprint,
)

OPEN = "/sessauth.v1.SessionService/OpenSession"
PROVIDER = provider(proof_origin=SERVICE)
TOKEN = signed(claims(cnf=bound_to("ES256")))


def proven(
    token: str, proof: str, certificate: str = "", path: str = OPEN, **settings: Any
) -> ProvenIdentity:
    """Return what a token proves beside a proof."""
    providers = (provider(**settings),) if settings else (PROVIDER,)
    shown = Possession(certificate, proof, path)
    return verify(token, providers, lambda *_: key_set(), NOW_MS, shown.require)


def fault_of(token: str, proof: str, **more: Any) -> str:
    """Return the whole text of a refusal."""
    with pytest.raises(IdentityRefused) as refused:
        proven(token, proof, **more)
    return str(refused.value)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_proof_by_the_key_of_the_token_stands(algorithm: str) -> None:
    """The proof has to be used up, and has what that needs."""
    token = signed(claims(cnf=bound_to(algorithm)))
    found = proven(token, key_proof(token, algorithm=algorithm, jti="once"))

    assert found.subject == "ann"
    assert found.proof is not None
    assert (found.proof.id, found.proof.issued_at_ms, len(found.proof.thumbprint)) == ("once", NOW_MS, 32)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_proof_of_another_maker_stands(algorithm: str) -> None:
    """Key, thumbprint and signature are those of joserfc."""
    key = ECKey.generate_key("P-256") if algorithm == "ES256" else RSAKey.generate_key(2048)
    token = signed(claims(cnf={"jkt": key.thumbprint()}))
    stated = json.loads(_payload(key_proof(token)))
    header = {"typ": "dpop+jwt", "alg": algorithm, "jwk": key.as_dict(private=False)}

    assert proven(token, jwt.encode(header, stated, key)).proof is not None


def test_a_proof_by_pyjwt_stands() -> None:
    """The form is that of a third library too."""
    maker = pytest.importorskip("jwt", reason="needs PyJWT, which is no dependency: pip install pyjwt")
    stated = json.loads(_payload(made()))
    jwk = json.loads(maker.algorithms.ECAlgorithm.to_jwk(private_key("ES256").public_key()))
    headers = {"typ": "dpop+jwt", "jwk": jwk}

    text = maker.encode(stated, private_key("ES256"), "ES256", headers=headers)
    assert proven(TOKEN, text).proof is not None


def _payload(token: str) -> bytes:
    text = token.split(".")[1]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize(
    "address",
    [
        "HTTPS://Sessauth.EXAMPLE:443/sessauth.v1.SessionService/OpenSession",
        f"{SERVICE}{OPEN}?a=b#c",
        f"{SERVICE}/sessauth%2ev1.Session%53ervice/OpenSession",
        f"{SERVICE}/x/..{OPEN}",
    ],
)
def test_addresses_are_compared_once_they_are_normal(address: str) -> None:
    """Without query and fragment (RFC 9449, section 4.3); case, port and escapes as RFC 3986 has it."""
    assert proven(TOKEN, key_proof(TOKEN, htu=address)).proof is not None


def _signed_by(algorithm: str, **headers: Any) -> str:
    """Return a proof by the key of another algorithm's name."""
    return key_proof(TOKEN, algorithm=algorithm, headers=headers)


def _private() -> dict[str, Any]:
    secret: dict[str, Any] = ECKey.import_key(private_key("ES256")).as_dict(private=True)
    return secret


def _twice() -> str:
    payload = _payload(key_proof(TOKEN))[:-1] + b',"htm":"POST"}'
    jwk = {name: value for name, value in public_jwk("ES256").items() if name != "kid"}
    return signed(payload, "ES256", kid=None, typ="dpop+jwt", jwk=jwk)


def made(rpc: str = "OpenSession", **changed: Any) -> str:
    """Return a proof for the token."""
    return key_proof(TOKEN, rpc, **changed)


def unsigned(algorithm: object) -> str:
    """Return a proof of an algorithm that signs nothing."""
    return f"{part({'alg': algorithm, 'typ': 'dpop+jwt', 'jwk': public_jwk('ES256')})}.{part({})}."


BAD: dict[str, tuple[Callable[[], str], str]] = {
    "none": (lambda: "", "is required"),
    "another RPC": (lambda: made("KeepAlive"), "htu"),
    "another host": (lambda: made(htu=f"https://evil.example{OPEN}"), "htu"),
    "another port": (lambda: made(htu=f"{SERVICE}:444{OPEN}"), "htu"),
    "another scheme": (lambda: made(htu=f"http://sessauth.example{OPEN}"), "htu"),
    "a slash that is escaped": (lambda: made(htu=f"{SERVICE}{OPEN}".replace("ce/O", "ce%2FO")), "htu"),
    "a user in the address": (lambda: made(htu=f"https://x@sessauth.example{OPEN}"), "htu"),
    "a line break in the address": (lambda: made(htu=f"{SERVICE}\n{OPEN}"), "htu"),
    "a port that is none": (lambda: made(htu=f"{SERVICE}:x{OPEN}"), "htu"),
    "a host in the path": (lambda: made(htu=f"{SERVICE}//evil{OPEN}"), "htu"),
    "no address": (lambda: made(htu=None), "htu"),
    "an address that is no text": (lambda: made(htu=[SERVICE + OPEN]), "htu"),
    "GET": (lambda: made(htm="GET"), "htm"),
    "post": (lambda: made(htm="post"), "htm"),
    "no method": (lambda: made(htm=None), "htm"),
    "31 s old": (lambda: made(iat=NOW - 31), "iat"),
    "31 s ahead": (lambda: made(iat=NOW + 31), "iat"),
    "no time": (lambda: made(iat=None), "iat"),
    "a time as text": (lambda: made(iat=str(NOW)), "iat"),
    "a time in ms": (lambda: made(iat=NOW_MS), "iat"),
    "no name": (lambda: made(jti=None), "jti"),
    "an empty name": (lambda: made(jti=""), "jti"),
    "a name that is a number": (lambda: made(jti=1), "jti"),
    "no digest": (lambda: made(ath=None), "ath"),
    "the digest of another token": (lambda: key_proof(signed(claims())), "ath"),
    "another key": (lambda: _signed_by("EdDSA"), "another key"),
    "the key of another alg": (lambda: _signed_by("RS256", jwk=public_jwk("ES256")), "no key for alg"),
    "a signature by another key": (lambda: with_signature(made(), made(iat=NOW - 1)), "signature"),
    "no signature": (lambda: made().rpartition(".")[0] + ".", "signature"),
    "a private key": (lambda: made(headers={"jwk": _private()}), "a private key"),
    "a symmetric key": (lambda: made(headers={"jwk": {"kty": "oct", "k": "AAAA"}}), "no key of RSA"),
    "no key": (lambda: made(headers={"jwk": None}), "jwk"),
    "a key that is no object": (lambda: made(headers={"jwk": "x"}), "jwk"),
    "a key of numbers": (lambda: made(headers={"jwk": {**public_jwk("ES256"), "x": 1}}), "jwk"),
    "a key without a point": (lambda: made(headers={"jwk": {"kty": "EC", "crv": "P-256"}}), "no key for alg"),
    "a point off the curve": (
        lambda: made(headers={"jwk": {**public_jwk("ES256"), "y": public_jwk("ES256")["x"]}}),
        "no key for alg",
    ),
    "an RSA key of 1024 bits": (
        lambda: made(headers={"jwk": public_jwk("weak"), "alg": "RS256"}),
        "below 2048 bits",
    ),
    "HS256": (lambda: made(headers={"alg": "HS256"}, secret="s"), "alg"),
    "alg none": (lambda: unsigned("none"), "alg"),
    "an alg that the provider does not use": (lambda: _signed_by("ES384"), "alg"),
    "an alg that is a list": (lambda: unsigned(["ES256"]), "alg"),
    "no typ": (lambda: made(headers={"typ": None}), "typ"),
    "typ JWT": (lambda: made(headers={"typ": "JWT"}), "typ"),
    "the token itself": (lambda: TOKEN, "typ"),
    "crit": (lambda: made(headers={"crit": ["exp"]}), "crit"),
    "x5c": (lambda: made(headers={"x5c": ["AA"]}), "x5c"),
    "jku": (lambda: made(headers={"jku": "https://evil.example"}), "jku"),
    "a name twice": (_twice, "a name twice"),
    "two parts": (lambda: "a.b", "three parts"),
    "64 KiB": (lambda: made(x="x" * 65_536), f"at most {MAX_PROOF_BYTES}"),
    "padding": (lambda: made() + "=", "base64url"),
}  # fmt: skip


def with_signature(text: str, other: str) -> str:
    """Return a proof with the signature of another one."""
    return f"{text.rpartition('.')[0]}.{other.rpartition('.')[2]}"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_proof_proves_nothing(name: str) -> None:
    """All have one word; the message names the part that is wrong, and repeats nothing of the proof."""
    make, said = BAD[name]
    text = fault_of(TOKEN, make())

    assert text.startswith("IDENTITY_PROOF_REQUIRED: identity_proof: ")
    assert said in text
    assert "evil" not in text


def test_a_proof_is_refused_where_the_token_asks_for_none() -> None:
    """Its caller believes that the token is bound, and a thief could use it."""
    token = signed(claims())

    assert "bound to no key" in fault_of(token, key_proof(token))
    assert "bound to no key" in fault_of(
        signed(claims(cnf={"x5t#S256": "A" * 43})), key_proof(token), certificate="A" * 43
    )
    assert proven(token, "").proof is None


def test_all_that_a_token_is_bound_to_has_to_be_shown() -> None:
    """A certificate and a key; a binding that is not known here is refused, and an empty one too."""
    token = signed(claims(cnf={"x5t#S256": "A" * 43, **bound_to("ES256")}))

    assert proven(token, key_proof(token), certificate="A" * 43).proof is not None
    assert "certificate" in fault_of(token, key_proof(token))
    assert "is required" in fault_of(token, "", certificate="A" * 43)
    extended = {**bound_to("ES256"), "kid": "x"}
    unknown: tuple[Any, ...] = ({}, None, [], "x", {"jwk": public_jwk("ES256")}, extended)
    for binding in unknown:
        other = signed(json.dumps({**claims(), "cnf": binding}).encode())
        assert "not known here" in fault_of(other, key_proof(other), certificate="A" * 43)
    for value in (1, None, ["x"], ""):
        other = signed(claims(cnf={"jkt": value}))
        assert "another key" in fault_of(other, key_proof(other))


def test_no_proof_counts_without_the_address_in_the_settings() -> None:
    """The refusal names the key; an address that is more than an origin is a fault of the settings."""
    assert "proof_origin" in fault_of(TOKEN, key_proof(TOKEN), proof_origin="")
    more = [f"{SERVICE}{end}" for end in ("/", "/x", "?a", "#a", ":65536", ":x")]
    for wrong in ("http://sessauth.example", "sessauth.example", "https://u@sessauth.example", *more):
        with pytest.raises(ConfigError, match="proof_origin"):
            provider(proof_origin=wrong)
    for wrong in ("http://127.0.0.1?a", "http://127.0.0.1#a", "http://127.0.0.1/"):
        with pytest.raises(ConfigError, match="proof_origin"):
            provider(proof_origin=wrong, insecure_http=True)
    local = {"proof_origin": "http://127.0.0.1:7443", "insecure_http": True}
    assert proven(TOKEN, key_proof(TOKEN, htu=f"http://127.0.0.1:7443{OPEN}"), **local).proof is not None


def test_the_thumbprint_is_that_of_the_standard() -> None:
    """The example of RFC 7638, section 3.1: what the tests compare by is right itself."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCi"
        "FV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb"
        "9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0L"
        "s1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}

    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@settings(max_examples=300)
@given(st.data())
def test_no_changed_proof_stands(data: st.DataObject) -> None:
    """A byte more, less or another, anywhere: refused with a word, and never with another exception."""
    text = key_proof(TOKEN, jti="x")
    place = data.draw(st.integers(0, len(text)))
    new = data.draw(st.text(st.characters(max_codepoint=0x17F), max_size=3))
    changed = text[:place] + new + text[place + data.draw(st.integers(0, 3)) :]
    if changed != text and changed:
        assert fault_of(TOKEN, changed).startswith("IDENTITY_PROOF_REQUIRED: ")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda each: st.lists(each, max_size=3)
)


@settings(max_examples=300)
@given(st.sampled_from(["kty", "crv", "x", "y", "alg", "use", "key_ops", "kid"]), _JSON)
def test_no_strange_key_is_another_exception(member: str, value: Any) -> None:
    """A member of any type: the proof stands, or it is refused with its word."""
    proof = key_proof(TOKEN, headers={"jwk": {**public_jwk("ES256"), member: value}})
    with suppress(IdentityRefused):
        assert proven(TOKEN, proof).proof is not None
