"""Tokens and statements in the form that products document, with the settings that their page has.

The products are not here. Names and values are made up; headers, claims and their shapes are the products'.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sessauth.errors import ConfigError, IdentityRefused
from sessauth.server.identity.mapping import map_identity
from sessauth.server.identity.providers import IdentityProvider, check_providers
from sessauth.server.identity.statements import (
    LoginEffect,
    Named,
    Signal,
    verify_event,
    verify_logout,
    verify_revocation,
)
from sessauth.server.identity.tokens import TokenKind, verify
from tests.support.identity_tokens import NOW, NOW_MS, SERVICE, key_set, public_jwk, signed

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "providers.md"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"


def providers() -> list[IdentityProvider]:
    """Return the entries of the page."""
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    tables = [table for block in blocks for table in tomllib.loads(block)["identity_providers"]]
    return [
        IdentityProvider.from_table(f"identity_providers[{at}]", table) for at, table in enumerate(tables)
    ]


def of_page(name: str) -> IdentityProvider:
    """Return the entry of a product."""
    return next(each for each in providers() if each.name == name)


def keys_of(_: IdentityProvider, __: str) -> Any:
    """Return keys in the form that products publish: some for other uses, with certificates beside."""
    rsa = public_jwk("RS256", x5c=["MIIC"], x5t="abc", **{"x5t#S256": "def"})
    encryption = public_jwk("PS256", kid="enc", use="enc", alg="RSA-OAEP")
    return key_set(rsa, encryption, public_jwk("ES256", use="jwt-svid"))


TIMES = {"iat": NOW - 30, "exp": NOW + 270}
KEYCLOAK = {
    **TIMES,
    "auth_time": NOW - 60,
    "jti": "5cd1f5c6-4e0a-4f4b-9d0e-0d6b7f6f5f5e",
    "iss": "https://keycloak.example/realms/corp",
    "aud": "desk",
    "sub": "f3d9a7e2-8a8b-4f0b-a6c3-0c9c1e1b7c11",
    "typ": "ID",
    "azp": "desk",
    "nonce": "n-0S6",
    "sid": "2e6d6a0c-7a0e-4a57-a9b0-98a0a0a5f2b7",
    "at_hash": "77QmUPtjPfzWtF2AnpK9RQ",
    "acr": "1",
    "email_verified": True,
    "preferred_username": "ann",
    "groups": ["support", "staff"],
}
OKTA = {
    **TIMES,
    "sub": "00u1a2b3c4",
    "ver": 1,
    "iss": "https://corp.okta.com",
    "aud": "0oa1b2c3d4",
    "jti": "ID.4eAWJOCMB3SX8XewDfVR",
    "amr": ["pwd", "mfa"],
    "idp": "00o1a2b3c4",
    "nonce": "n",
    "auth_time": NOW - 60,
    "at_hash": "cpqKfdQA5eH891Ff5oJr_Q",
    "groups": ["Everyone", "support"],
}
ENTRA = {
    **TIMES,
    "nbf": NOW - 30,
    "aud": "11112222-0000-4000-8000-333344445555",
    "iss": "https://login.microsoftonline.com/9b6b5f3c-0000-4000-8000-3c1d2e4f5a6b/v2.0",
    "auth_time": NOW - 60,
    "name": "Ann",
    "nonce": "678910",
    "oid": "00000000-0000-0000-66f3-3332eca7ea81",
    "preferred_username": "ann@corp.example",
    "rh": "0.AX0A",
    "roles": ["Support"],
    "sid": "0c5c1f6e-0000-4000-8000-2f6a7b8c9d0e",
    "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
    "tid": "9b6b5f3c-0000-4000-8000-3c1d2e4f5a6b",
    "uti": "fqiBqXLPj0eQa82S-IYFAA",
    "ver": "2.0",
}
AUTH0 = {
    **TIMES,
    "https://corp.example/roles": ["support"],
    "nickname": "ann",
    "iss": "https://corp.eu.auth0.com/",
    "sub": "auth0|507f1f77bcf86cd799439020",
    "aud": "kZ3v0example",
    "sid": "w0gK8l5m",
    "nonce": "n",
}
AUTH0_ACCESS = {
    **TIMES,
    "https://corp.example/roles": ["support"],
    "iss": "https://corp.eu.auth0.com/",
    "sub": "auth0|507f1f77bcf86cd799439020",
    "aud": [SERVICE, "https://corp.eu.auth0.com/userinfo"],
    "scope": "openid",
    "jti": "CKHN2bZ5",
    "client_id": "kZ3v0example",
}
GOOGLE = {
    **TIMES,
    "iss": "https://accounts.google.com",
    "azp": "123456789-abc.apps.googleusercontent.com",
    "aud": "123456789-abc.apps.googleusercontent.com",
    "sub": "10769150350006150715113082367",
    "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q",
    "hd": "corp.example",
    "email": "ann@corp.example",
    "email_verified": True,
    "nonce": "0394852-3190485-2490358",
}
GITHUB = {
    **TIMES,
    "jti": "6d0d0b5b",
    "sub": "repo:acme/app:environment:production",
    "aud": SERVICE,
    "iss": "https://token.actions.githubusercontent.com",
    "ref": "refs/heads/main",
    "ref_protected": "true",
    "repository": "acme/app",
    "repository_id": "74",
    "repository_owner": "acme",
    "repository_owner_id": "65",
    "environment": "production",
    "run_id": "30433642",
    "runner_environment": "github-hosted",
}
GITLAB = {
    **TIMES,
    "nbf": NOW - 35,
    "namespace_id": "72",
    "project_path": "acme/app",
    "job_id": "302",
    "ref_protected": "true",
    "environment": "production",
    "sub": "project_path:acme/app:ref_type:branch:ref:main",
    "iss": "https://gitlab.com",
    "aud": SERVICE,
    "jti": "c82eeb0c",
}
KUBERNETES = {
    **TIMES,
    "nbf": NOW - 30,
    "aud": [SERVICE],
    "iss": "https://kubernetes.default.svc.cluster.local",
    "jti": "1b5f0a9e",
    "kubernetes.io": {
        "namespace": "prod",
        "node": {"name": "n1", "uid": "8b2f"},
        "pod": {"name": "reader-0", "uid": "5e1c"},
        "serviceaccount": {"name": "reader", "uid": "14ee"},
        "warnafter": NOW + 200,
    },
    "sub": "system:serviceaccount:prod:reader",
}
SPIRE = {
    **TIMES,
    "aud": [SERVICE],
    "iss": "https://spire.corp.example",
    "sub": "spiffe://corp.example/agents/reader",
}


@pytest.mark.parametrize(
    ("name", "claims", "header", "kind", "subject"),
    [
        ("keycloak", KEYCLOAK, {}, TokenKind.ID_TOKEN, f"user:{KEYCLOAK['sub']}"),
        ("okta", OKTA, {"typ": None}, TokenKind.ID_TOKEN, "user:00u1a2b3c4"),
        ("entra", ENTRA, {}, TokenKind.ID_TOKEN, f"user:{ENTRA['oid']}"),
        ("auth0", AUTH0, {}, TokenKind.ID_TOKEN, f"user:{AUTH0['sub']}"),
        ("auth0", AUTH0_ACCESS, {"typ": "at+jwt"}, TokenKind.ACCESS_TOKEN, f"user:{AUTH0['sub']}"),
        ("google", GOOGLE, {}, TokenKind.ID_TOKEN, f"user:{GOOGLE['sub']}"),
        ("github", GITHUB, {"x5t": "thumb"}, TokenKind.CI, "ci:github:acme/app"),
        ("gitlab", GITLAB, {}, TokenKind.CI, "ci:gitlab:acme/app"),
        ("k8s", KUBERNETES, {"typ": None}, TokenKind.KUBERNETES, "pod:prod/reader"),
        ("spire", SPIRE, {"alg": "ES256"}, TokenKind.SVID, f"svc:{SPIRE['sub']}"),
        ("spire", {**SPIRE, "iss": None}, {"alg": "ES256"}, TokenKind.SVID, f"svc:{SPIRE['sub']}"),
    ],
)
def test_a_token_of_each_product_opens_a_session(
    name: str, claims: Mapping[str, Any], header: dict[str, Any], kind: TokenKind, subject: str
) -> None:
    """The entry of the page takes it, and gives its subject and the scopes of its grant."""
    stated = {key: value for key, value in claims.items() if value is not None}
    token = signed(stated, header.get("alg", "RS256"), **header)

    found = verify(token, providers(), keys_of, NOW_MS)

    assert (found.provider.name, found.kind) == (name, kind)
    terms = map_identity(found)
    assert (terms.subject, len(terms.ceiling)) == (subject, 1)


REFUSED = {
    "Keycloak: an access token for the client": (
        {**KEYCLOAK, "typ": "Bearer", "scope": "openid"},
        {},
        "must be ID",
    ),
    "Okta: an access token": ({**OKTA, "aud": "api://default", "cid": "0oa1b2c3d4"}, {"typ": None}, "aud"),
    "Entra: an access token": (
        {key: value for key, value in ENTRA.items() if key not in ("nonce", "auth_time")},
        {},
        "neither an ID token",
    ),
    "Google: an account of another organization": ({**GOOGLE, "hd": "other.example"}, {}, "require.hd"),
    "GitHub: a repository of its name by another owner": (
        {**GITHUB, "repository_owner_id": "66"},
        {},
        "require.repository_owner_id",
    ),
    "GitLab: another environment": ({**GITLAB, "environment": "test"}, {}, "grants"),
    "Kubernetes: a token of a Secret": (
        {**KUBERNETES, "kubernetes.io": {"namespace": "prod"}},
        {"typ": None},
        "kubernetes.io/pod",
    ),
    "SPIRE: another trust domain": (
        {**SPIRE, "sub": "spiffe://corp.example.evil/agents/reader"},
        {"alg": "ES256"},
        "IDENTITY_UNTRUSTED",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_token_that_opens_nothing_says_why(case: str) -> None:
    """The tokens that people try first, and those of others."""
    claims, header, words = REFUSED[case]
    token = signed(claims, header.get("alg", "RS256"), **header)

    with pytest.raises(IdentityRefused, match=words):
        map_identity(verify(token, providers(), keys_of, NOW_MS))


def test_keycloak_logs_out() -> None:
    """Newer releases state a type and an end, older ones neither."""
    user, sid = KEYCLOAK["sub"], KEYCLOAK["sid"]
    token = {
        "iat": NOW - 1,
        "jti": "l1",
        "iss": KEYCLOAK["iss"],
        "aud": "desk",
        "sub": user,
        "typ": "Logout",
        "sid": sid,
        "events": {"http://schemas.openid.net/event/backchannel-logout": {"revoke_offline_access": True}},
    }
    for claims, typ in ((token, "JWT"), ({**token, "exp": NOW + 119}, "logout+jwt")):
        signal = verify_logout(signed(claims, typ=typ), "keycloak", providers(), keys_of, NOW_MS)
        assert signal.named == (Named(sid=sid), Named(subject=user, without_sid=True))


def test_okta_revokes_all_of_a_user() -> None:
    """Universal Logout: a JWT of the organization beside the user's name."""
    claims = {
        "iss": OKTA["iss"],
        "sub": OKTA["iss"],
        "aud": SERVICE,
        "jti": "r1",
        "iat": NOW,
        "exp": NOW + 300,
    }
    bearer = signed(claims, typ="global-token-revocation+jwt")
    body = f'{{"sub_id": {{"format": "iss_sub", "iss": "{OKTA["iss"]}", "sub": "00u1a2b3c4"}}}}'.encode()

    signal = verify_revocation(bearer, body, "okta", providers(), keys_of, NOW_MS)

    assert (signal.named, signal.effect) == ((Named(subject="00u1a2b3c4"),), LoginEffect.END)


def google_event(event: str, content: dict[str, Any], **changed: Any) -> Signal:
    """Return what an event of Google says: it has no type, and its subject is inside of the event."""
    claims = {
        "iss": "https://accounts.google.com/",
        "aud": GOOGLE["aud"],
        "iat": NOW - 1,
        "jti": "756E69717565206964656E746966696572",
        "events": {event: content},
        **changed,
    }
    return verify_event(signed(claims, typ=None), "google", providers(), keys_of, NOW_MS)


@pytest.mark.parametrize("issuer", ["https://accounts.google.com/", "https://accounts.google.com"])
def test_google_disables_an_account(issuer: str) -> None:
    """Cross-Account Protection: the subject's issuer is written either way."""
    subject = {"subject_type": "iss-sub", "iss": issuer, "sub": GOOGLE["sub"]}
    for event, effect in (
        (f"{RISC}account-disabled", LoginEffect.END),
        (f"{RISC}sessions-revoked", LoginEffect.END),
        ("https://schemas.openid.net/secevent/oauth/event-type/tokens-revoked", LoginEffect.END),
        (f"{RISC}account-enabled", LoginEffect.NOTHING),
    ):
        signal = google_event(event, {"subject": subject, "reason": "hijacking"})
        assert (signal.named, signal.effect) == ((Named(subject=GOOGLE["sub"]),), effect), event
    assert google_event(f"{RISC}verification", {"state": "s1"}).state == "s1"


def test_a_token_without_a_type_is_an_event_of_a_transmitter_with_its_own_name_alone() -> None:
    """A name that ID tokens have too needs the type, which says which is which."""
    with pytest.raises(IdentityRefused):
        google_event(f"{RISC}account-disabled", {}, iss="https://accounts.google.com")
    subject = {"format": "iss_sub", "iss": KEYCLOAK["iss"], "sub": KEYCLOAK["sub"]}
    claims = {"iss": KEYCLOAK["iss"], "aud": SERVICE, "iat": NOW, "jti": "e", "sub_id": subject}
    token = signed({**claims, "events": {f"{RISC}account-disabled": {}}}, typ=None)
    with pytest.raises(IdentityRefused, match="secevent"):
        verify_event(token, "keycloak", providers(), keys_of, NOW_MS)


def test_keycloak_sends_events() -> None:
    """The session of a user, by the name that its tokens have."""
    user = {"format": "iss_sub", "iss": KEYCLOAK["iss"], "sub": KEYCLOAK["sub"]}
    subject = {"format": "complex", "user": user, "session": {"format": "opaque", "id": KEYCLOAK["sid"]}}
    claims = {
        "iss": KEYCLOAK["iss"],
        "aud": SERVICE,
        "iat": NOW - 1,
        "jti": "k1",
        "txn": "t1",
        "sub_id": subject,
        "events": {f"{CAEP}session-revoked": {"event_timestamp": NOW - 2, "initiating_entity": "user"}},
    }

    signal = verify_event(signed(claims, typ="secevent+jwt"), "keycloak", providers(), keys_of, NOW_MS)

    assert signal.named[0] == Named(sid=KEYCLOAK["sid"])
    assert signal.moment_ms == (NOW - 2) * 1000 + 999


def test_all_entries_stand_beside_each_other_but_for_users() -> None:
    """Two providers of users need subjects that differ."""
    workloads = [each for each in providers() if each.kind != "oidc"]
    check_providers([*workloads, of_page("keycloak")])

    with pytest.raises(ConfigError, match="shared_subjects"):
        check_providers([of_page("keycloak"), of_page("okta")])
