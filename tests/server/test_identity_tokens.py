"""Tokens of identity providers: those that prove a login, and all the others, each with its word."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.errors import IdentityRefused
from sessauth.server.identity.key_proofs import Possession
from sessauth.server.identity.providers import IdentityProvider
from sessauth.server.identity.tokens import ProvenIdentity, TokenKind, verify
from tests.support.identity_tokens import (
    ISSUER,
    NOW,
    NOW_MS,
    SERVICE,
    access_claims,
    claims,
    key_set,
    part,
    provider,
    public_jwk,
    signed,
)

CORP = provider()
CI = provider(name="ci", kind="ci", issuer="https://ci.example", subject="ci:{repository}", clients=[])
CLUSTER = provider(
    name="k8s", kind="kubernetes", issuer="https://k8s.example", subject="pod:{sub}", clients=[]
)
MESH = provider(
    name="mesh",
    kind="spiffe",
    issuer="spiffe://corp.example",
    subject="svc:{sub}",
    clients=[],
    jwks_file="k.json",
)
PROVIDERS = (CORP, CI, CLUSTER, MESH)
OF_A_POD = {"namespace": "prod", "pod": {"name": "agent-1", "uid": "u"}, "serviceaccount": {"name": "agent"}}


def proven(token: str | bytes, *, providers: tuple[IdentityProvider, ...] = PROVIDERS) -> ProvenIdentity:
    """Return what a token proves now, by keys of the usual set."""
    return verify(token, providers, lambda *_: key_set(), NOW_MS)


def fault_of(token: str | bytes, **options: Any) -> tuple[str, str]:
    """Return the word and the message of a token that proves nothing."""
    with pytest.raises(IdentityRefused) as refused:
        proven(token, **options)
    return refused.value.fault, str(refused.value)


WORKLOAD = {"aud": SERVICE, "auth_time": None, "nonce": None, "sid": None}


@pytest.mark.parametrize(
    ("token", "kind", "subject"),
    [
        (lambda: signed(claims()), TokenKind.ID_TOKEN, "ann"),
        (lambda: signed(claims(), "ES256", typ=None), TokenKind.ID_TOKEN, "ann"),
        (lambda: signed(claims(aud=["desk", "cli"], azp="desk"), "EdDSA"), TokenKind.ID_TOKEN, "ann"),
        (lambda: signed(access_claims(), typ="at+jwt"), TokenKind.ACCESS_TOKEN, "ann"),
        (lambda: signed(access_claims(), typ="application/AT+JWT"), TokenKind.ACCESS_TOKEN, "ann"),
        (lambda: signed(access_claims(jti="j"), typ="oauth-id-jag+jwt"), TokenKind.ID_JAG, "ann"),
        (
            lambda: signed(
                claims(iss=CI.issuer, sub="repo:acme/app:ref:main", repository="acme/app", **WORKLOAD)
            ),
            TokenKind.CI,
            "repo:acme/app:ref:main",
        ),
        (
            lambda: signed(
                claims(iss=CLUSTER.issuer, sub="system:x", **WORKLOAD, **{"kubernetes.io": OF_A_POD})
            ),
            TokenKind.KUBERNETES,
            "system:x",
        ),
        (
            lambda: signed(
                claims(iss=None, sub="spiffe://corp.example/agent", iat=None, **WORKLOAD), typ="JOSE"
            ),
            TokenKind.SVID,
            "spiffe://corp.example/agent",
        ),
    ],
)
def test_each_kind_proves_its_subject(token: Callable[[], str], kind: TokenKind, subject: str) -> None:
    """A token of each kind that providers sign."""
    found = proven(token())

    assert (found.kind, found.subject) == (kind, subject)


def test_a_login_has_the_time_of_the_login_and_not_that_of_the_token() -> None:
    """A refreshed token has a later ``iat``, so it is ``auth_time`` that counts."""
    found = proven(signed(claims(iat=NOW - 1)))
    lenient = provider(require_auth_time=False)

    assert found.logged_in_at_ms == NOW_MS - 300_000
    assert (found.sid, found.client, found.machine, found.expires_at_ms) == (
        "s1",
        "",
        False,
        NOW_MS + 240_000,
    )
    assert proven(signed(claims(auth_time=None)), providers=(lenient,)).logged_in_at_ms == NOW_MS - 60_000


def test_actors_stand_nearest_first() -> None:
    """RFC 8693: who acts is outermost, and acts for the one inside."""
    found = proven(signed(access_claims(act={"sub": "agent", "act": {"sub": "planner"}}), typ="at+jwt"))

    assert found.actors == ("agent", "planner")


def test_a_token_of_a_certificate_counts_beside_it_alone() -> None:
    """RFC 8705; a key that is asked for too has to be proven too."""
    bound, both = {"x5t#S256": "A" * 43}, {"x5t#S256": "A" * 43, "jkt": "x"}

    def judged(confirmation: dict[str, str], certificate: str) -> ProvenIdentity:
        token = signed(claims(cnf=confirmation))
        return verify(token, PROVIDERS, lambda *_: key_set(), NOW_MS, Possession(certificate).require)

    assert judged(bound, "A" * 43).subject == "ann"
    for confirmation, certificate in ((bound, ""), (bound, "B" * 43), (both, "A" * 43), ({}, "")):
        with pytest.raises(IdentityRefused, match="IDENTITY_PROOF_REQUIRED"):
            judged(confirmation, certificate)


def test_a_machine_is_no_user() -> None:
    """The token of a client for itself counts only where that is set."""
    token = signed(access_claims(sub="desk", auth_time=None), typ="at+jwt")
    lenient = {"require_auth_time": False}

    assert fault_of(token, providers=(provider(**lenient),))[0] == "IDENTITY_WRONG_KIND"
    assert proven(token, providers=(provider(machines=True, **lenient),)).machine


def twice() -> bytes:
    """Claims with a name twice, of which the last would count elsewhere."""
    return json.dumps(claims()).encode()[:-1] + b',"sub":"eve"}'


def with_signature(token: str, other: str) -> str:
    """A token with the signature of another one."""
    return f"{token.rpartition('.')[0]}.{other.rpartition('.')[2]}"


def acting(count: int) -> dict[str, Any]:
    """So many actors, each inside of the other."""
    return {"sub": "a", **({"act": acting(count - 1)} if count > 1 else {})}


BAD: dict[str, tuple[Callable[[], str | bytes], str]] = {
    "no signature": (lambda: signed(claims()).rpartition(".")[0] + ".", "UNTRUSTED"),
    "alg none": (lambda: f"{part({'alg': 'none', 'kid': 'RS256'})}.{part(claims())}.", "MALFORMED"),
    "alg HS256 with the public key": (
        lambda: signed(claims(), "HS256", public_jwk("RS256")["n"], kid="RS256"),
        "MALFORMED",
    ),
    "alg that the provider does not use": (lambda: signed(claims(), "PS256", kid="RS256"), "MALFORMED"),
    "alg of another key": (lambda: signed(claims(), "ES256", kid="RS256"), "UNTRUSTED"),
    "no kid": (lambda: signed(claims(), kid=None), "MALFORMED"),
    "a kid that nobody has": (lambda: signed(claims(), kid="other"), "UNTRUSTED"),
    "crit": (lambda: signed(claims(), crit=["exp"]), "MALFORMED"),
    "jku": (lambda: signed(claims(), jku="https://evil.example/keys"), "MALFORMED"),
    "jwk": (lambda: signed(claims(), jwk=public_jwk("RS256")), "MALFORMED"),
    "x5u": (lambda: signed(claims(), x5u="https://evil.example/x"), "MALFORMED"),
    "b64": (lambda: signed(claims(), b64=False), "MALFORMED"),
    "zip": (lambda: signed(claims(), zip="DEF"), "MALFORMED"),
    "a name twice": (lambda: signed(twice()), "MALFORMED"),
    "NaN": (lambda: signed(b'{"iss":NaN}'), "MALFORMED"),
    "not UTF-8": (lambda: signed(b'{"iss":"\xff"}'), "MALFORMED"),
    "no object": (lambda: signed(b"[]"), "MALFORMED"),
    "two parts": (lambda: "a.b", "MALFORMED"),
    "five parts": (lambda: "a.b.c.d.e", "MALFORMED"),
    "padding": (lambda: signed(claims()) + "=", "MALFORMED"),
    "white space": (lambda: signed(claims()) + "\n", "MALFORMED"),
    "17 KiB": (lambda: signed(claims(x="x" * 17_000)), "MALFORMED"),
    "another issuer": (lambda: signed(claims(iss="https://idp.example/realms/two")), "UNTRUSTED"),
    "an issuer with a slash more": (lambda: signed(claims(iss=ISSUER + "/")), "UNTRUSTED"),
    "no issuer": (lambda: signed(claims(iss=None)), "UNTRUSTED"),
    "another domain": (lambda: signed(claims(iss=None, sub="spiffe://evil.example/a")), "UNTRUSTED"),
    "a name of another domain": (
        lambda: signed(claims(iss=MESH.issuer, sub="spiffe://evil.example/a", **WORKLOAD)),
        "WRONG_KIND",
    ),
    "another's signature": (lambda: with_signature(signed(claims(sub="eve")), signed(claims())), "UNTRUSTED"),
    "another audience": (lambda: signed(claims(aud="mail")), "WRONG_KIND"),
    "one audience of two": (lambda: signed(claims(aud=["desk", "mail"], azp="desk")), "WRONG_KIND"),
    "two audiences and no azp": (lambda: signed(claims(aud=["desk", "cli"])), "WRONG_KIND"),
    "another azp": (lambda: signed(claims(azp="mail")), "WRONG_KIND"),
    "no audience": (lambda: signed(claims(aud=None)), "WRONG_KIND"),
    "another service": (lambda: signed(access_claims(aud="x"), typ="at+jwt"), "WRONG_KIND"),
    "another client": (lambda: signed(access_claims(client_id="mail"), typ="at+jwt"), "WRONG_KIND"),
    "a plain JWT": (lambda: signed(claims(nonce=None, auth_time=None)), "WRONG_KIND"),
    "a security event": (lambda: signed(claims(), typ="secevent+jwt"), "WRONG_KIND"),
    "events in an ID token": (lambda: signed(claims(events={})), "WRONG_KIND"),
    "a logout token": (lambda: signed(claims(), typ="logout+jwt"), "WRONG_KIND"),
    "another typ": (lambda: signed(claims(), typ="dpop+jwt"), "WRONG_KIND"),
    "a token of no pod": (lambda: signed(claims(iss=CLUSTER.issuer, **WORKLOAD)), "WRONG_KIND"),
    "no time of the login": (lambda: signed(claims(auth_time=None)), "WRONG_KIND"),
    "expired this second": (lambda: signed(claims(exp=NOW)), "EXPIRED"),
    "no exp": (lambda: signed(claims(exp=None)), "EXPIRED"),
    "no iat": (lambda: signed(claims(iat=None)), "EXPIRED"),
    "of the future": (lambda: signed(claims(iat=NOW + 31)), "EXPIRED"),
    "not yet": (lambda: signed(claims(nbf=NOW + 31)), "EXPIRED"),
    "a login of the future": (lambda: signed(claims(auth_time=NOW + 31)), "EXPIRED"),
    "a login of yesterday": (lambda: signed(claims(auth_time=NOW - 43_201)), "EXPIRED"),
    "exp in ms": (lambda: signed(claims(exp=NOW_MS)), "MALFORMED"),
    "exp as text": (lambda: signed(claims(exp=str(NOW + 60))), "MALFORMED"),
    "exp true": (lambda: signed(claims(exp=True)), "MALFORMED"),
    "exp without end": (lambda: signed(twice().replace(b'"sub":"eve"', b'"nbf":1e400')), "MALFORMED"),
    "bound to a key": (lambda: signed(claims(cnf={"jkt": "x"})), "PROOF_REQUIRED"),
    "five actors": (lambda: signed(access_claims(act=acting(5)), typ="at+jwt"), "MALFORMED"),
    "an ID-JAG without a name": (lambda: signed(access_claims(), typ="oauth-id-jag+jwt"), "MALFORMED"),
    "no subject": (lambda: signed(claims(sub=None)), "MALFORMED"),
    "a subject of 2 KiB": (lambda: signed(claims(sub="x" * 2_048)), "MALFORMED"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_proves_nothing(name: str) -> None:
    """Each has its word, and the message repeats nothing of the token but names of claims."""
    make, word = BAD[name]
    fault, message = fault_of(make())

    assert fault == f"IDENTITY_{word}"
    assert not any(text in message for text in ("ann", "eve", "evil", "mail", "n\n"))


def test_all_faults_of_trust_have_one_text() -> None:
    """So an answer does not tell a forger which issuers and keys there are."""
    faults = {fault_of(BAD[name][0]()) for name in BAD if BAD[name][1] == "UNTRUSTED"}

    assert len(faults) == 1


TOKENS = {algorithm: signed(claims(), algorithm) for algorithm in ("RS256", "ES256", "EdDSA")}


@settings(max_examples=400)
@given(st.sampled_from(list(TOKENS)), st.data())
def test_no_changed_token_is_accepted(algorithm: str, data: st.DataObject) -> None:
    """A byte more, less or another, anywhere: refused with a word, and never with another exception."""
    token = TOKENS[algorithm].encode()
    place = data.draw(st.integers(0, len(token)))
    new = data.draw(st.binary(max_size=3))
    changed = token[:place] + new + token[place + data.draw(st.integers(0, 3)) :]
    if changed == token:
        return
    with pytest.raises(IdentityRefused):
        proven(changed)
