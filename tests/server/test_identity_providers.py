"""Settings of identity providers, their keys, and the terms of a session that their tokens give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sessauth.errors import ConfigError, IdentityRefused, StateError
from sessauth.server.config import from_dict
from sessauth.server.identity.key_sets import MAX_BYTES, PublicKeys, fetch_keys
from sessauth.server.identity.mapping import map_identity
from sessauth.server.identity.providers import settings_digest
from sessauth.server.identity.tokens import verify
from sessauth.server.process.control import changed_settings
from tests.support.identity_tokens import (
    GRANTS,
    NOW_MS,
    access_claims,
    claims,
    key_set,
    provider,
    public_jwk,
    signed,
)

TABLE: dict[str, Any] = {
    "name": "corp",
    "issuer": "https://idp.example",
    "clients": ["desk"],
    "grants": [{"ceiling": ["read:**"]}],
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "Corp"}, r"\[0\].name: must be"),
        ({"issuer": "http://idp.example"}, r"issuer: must be https"),
        ({"issuer": "http://127.0.0.1:1"}, r"issuer: must be https"),
        ({"issuer": "https://u:p@idp.example"}, r"issuer: must be https"),
        ({"jwks_uri": "ftp://x"}, r"jwks_uri: must be https"),
        ({"jwks_uri": "https://x/k", "jwks_file": "k"}, "state one of them"),
        ({"algorithms": ["HS256"]}, "algorithms: each must be one of"),
        ({"algorithms": ["none"]}, "algorithms: each must be one of"),
        ({"algorithms": "RS256"}, "algorithms: must be a list of strings"),
        ({"kind": "saml"}, "kind: must be one of"),
        ({"kind": "ci"}, "audience: is required"),
        ({"kind": "spiffe", "audience": "a", "jwks_file": "k"}, "trust domain, spiffe"),
        ({"kind": "spiffe", "audience": "a", "issuer": "spiffe://d"}, "jwks_file: is required"),
        ({"clients": []}, "clients: is required"),
        ({"subject": "ann"}, "subject: must name a claim"),
        ({"subject": "user:{sub"}, "subject: must name a claim"),
        ({"subject": "user:{email}"}, "email can change"),
        ({"labels": {"a": "{tid"}}, r"labels\.a: a brace"),
        ({"labels": {"a": 1}}, "labels: must be a table"),
        ({"require": ["a"]}, "require: must be a table"),
        ({"max_age_ms": 1}, "max_age_ms: must be at least"),
        ({"max_age_ms": 7 * 86_400_000 + 1}, "max_age_ms: must be at most 604800000, seven days"),
        ({"lease_ms": 5}, "lease_ms: must be 0 or"),
        ({"on_silence": "shout"}, "on_silence: must be one of log, suspend, end"),
        ({"on_silence": "end"}, "silence_ms: is required beside on_silence"),
        ({"on_gap": "suspend"}, "on_gap: must be one of log, end"),
        ({"on_gap": "end"}, "silence_ms: is required beside on_gap"),
        ({"on": {"verification": "end"}}, r"on\.verification: no such event; known: session-revoked"),
        ({"on": {"session-revoked": "suspend"}}, r"on\.session-revoked: must be one of end, ignore"),
        ({"on": {"account-enabled": "end"}}, r"on\.account-enabled: must be one of ignore"),
        ({"on": {"session-revoked": True}}, "on: must be a table"),
        ({"critical_subject_members": "tenant"}, "critical_subject_members: must be a list"),
        ({"labels": {"sid": "x"}}, r"labels\.sid: each login's session has this label"),
        ({"facts": ["a/b"]}, "facts: 'a/b' is no name of a fact"),
        ({"require_token": 1}, "require_token: must be true or false"),
        ({"machines": 1}, "machines: must be true or false"),
        ({"grants": []}, "grants: is required"),
        ({"grants": [{"ceiling": []}]}, r"grants\[0\].ceiling: is required"),
        ({"grants": [{"ceiling": ["read"]}]}, r"grants\[0\].ceiling: "),
        ({"grants": [{"ceiling": ["read:**"], "if": "x"}]}, r"grants\[0\].if: no such key"),
        ({"grants": [{"ceiling": ["read:**"], "when": {"a": 1.5}}]}, r"grants\[0\].when: must be a table"),
        ({"colour": "red"}, "colour: no such key"),
    ],
)
def test_a_faulty_entry_is_refused_by_its_key(changed: dict[str, Any], said: str) -> None:
    """The settings are refused as a whole, at the start."""
    with pytest.raises(ConfigError, match=said):
        from_dict({"identity_providers": [{**TABLE, **changed}]})


def test_settings_pass_to_other_processes_and_back() -> None:
    """Plain values are read again; entries that lack a key, or name one thing twice, are refused."""
    other = {**TABLE, "name": "two", "issuer": "https://two.example", "subject": "two:{sub}"}
    config = from_dict({"identity_providers": [TABLE, other]})

    assert from_dict(config.to_dict()) == config
    for entries, said in (
        ([{"issuer": "https://x"}], "name: is required"),
        ([TABLE, {**other, "name": "corp"}], r"\[1\].name: is that of identity_providers\[0\]"),
        ([TABLE, {**other, "issuer": TABLE["issuer"]}], r"\[1\].issuer: is that of"),
        ([TABLE, {**other, "subject": "{sub}"}], r"\[1\].subject: could give one of"),
        ({"a": 1}, "must be a list of tables"),
    ):
        with pytest.raises(ConfigError, match=said):
            from_dict({"identity_providers": entries})


def test_a_provider_that_changed_takes_effect_at_the_next_start() -> None:
    """A reload names it among the settings that wait."""
    before, now = from_dict({}), from_dict({"home": "/x", "identity_providers": [TABLE]})

    assert changed_settings(before, now) == ["identity_providers"]
    assert changed_settings(now, now) == []


def test_two_providers_may_share_subjects_where_both_say_so() -> None:
    """One company, two realms."""
    shared = {**TABLE, "shared_subjects": True}
    two = {**shared, "name": "two", "issuer": "https://two.example"}

    assert len(from_dict({"identity_providers": [shared, two]}).identity_providers) == 2


@pytest.mark.parametrize("subject", ["client:{sub}", "staff:{sub}"])
def test_clients_of_two_providers_share_no_subject_unless_both_say_so(subject: str) -> None:
    """A client's subject is client:… whichever provider's it is."""
    one = {**TABLE, "machines": True}
    two = {**TABLE, "name": "two", "issuer": "https://two.example", "subject": subject}
    two["machines"] = subject.startswith("staff")
    with pytest.raises(ConfigError, match="shared_subjects"):
        from_dict({"identity_providers": [one, two]})
    shared = [{**each, "shared_subjects": True} for each in (one, two)]
    assert len(from_dict({"identity_providers": shared}).identity_providers) == 2


def test_keys_that_do_not_count_are_dropped_and_the_others_stand() -> None:
    """Private, symmetric, weak, nameless ones, those for encryption, and two of one name."""
    bad = (
        public_jwk("RS256", d="AQAB"),
        {"kty": "oct", "k": "AQAB", "kid": "s"},
        public_jwk("weak"),
        public_jwk("RS256", kid=None),
        public_jwk("RS256", use="enc"),
        public_jwk("RS256", key_ops=["encrypt"]),
        "text",
    )
    found = key_set(*bad, public_jwk("ES256"), public_jwk("EdDSA", kid="two"), public_jwk("ES384", kid="two"))

    assert list(found.keys) == ["ES256"]
    assert len(found.dropped) == len(bad) + 1
    assert "1024" not in str(found.dropped) and "2048 bits" in str(found.dropped)
    many = key_set(*(public_jwk("ES256", kid=str(number)) for number in range(1_000)))
    assert (len(many.keys), many.dropped) == (32, ("968 more keys than 32",))


def test_a_key_is_for_its_algorithm_alone() -> None:
    """Another curve, another type, another ``alg``, or a value that is no key: none."""
    found = key_set(
        public_jwk("ES384"),
        public_jwk("RS256", alg="RS256"),
        public_jwk("ES256", x="AQAB"),
        public_jwk("EdDSA"),
    )

    assert found.key("ES384", "ES384") is not None
    assert found.key("EdDSA", "Ed25519") is not None
    assert [found.key("ES384", "ES256"), found.key("RS256", "RS384"), found.key("ES256", "ES256")] == [
        None
    ] * 3
    assert found.key("nobody", "RS256") is None


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[],"keys":[]}', b" " * (MAX_BYTES + 1)]
)
def test_other_contents_are_no_key_set(data: bytes) -> None:
    """A whole set is refused, so that an earlier one stays."""
    with pytest.raises(StateError):
        PublicKeys.read(data)


@contextmanager
def serving(pages: dict[str, tuple[int, bytes | str]]) -> Iterator[str]:
    """Serve pages on loopback: a status and a body, or the address of a redirect."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer with a page."""
            status, body = pages.get(self.path, (404, b""))
            self.send_response(status)
            if isinstance(body, str):
                self.send_header("Location", body)
                body = b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_keys_are_found_below_the_issuer(tmp_path: Path) -> None:
    """The discovery document must be of this issuer; other answers are refused with the cause."""
    keys = json.dumps({"keys": [public_jwk("ES256")]}).encode()
    pages: dict[str, tuple[int, bytes | str]] = {"/keys": (200, keys)}
    with serving(pages) as base, serving(pages) as elsewhere:
        corp = provider(issuer=base, insecure_http=True)
        place = "/.well-known/openid-configuration"
        document = {"issuer": base, "jwks_uri": f"{base}/keys"}
        pages[place] = 200, json.dumps(document).encode()
        assert list(fetch_keys(corp, tmp_path).keys) == ["ES256"]

        for body, said in (
            ({**document, "issuer": "https://other.example"}, "another issuer"),
            ({"issuer": base}, "no jwks_uri"),
            ({**document, "jwks_uri": "file:///etc/passwd"}, "no jwks_uri of https"),
            ({**document, "jwks_uri": f"{base}/gone"}, "Not Found"),
        ):
            pages[place] = 200, json.dumps(body).encode()
            with pytest.raises(StateError, match=f"corp: its keys can't be had: .*{said}"):
                fetch_keys(corp, tmp_path)
        pages[place] = 302, f"{elsewhere}/keys"
        with pytest.raises(StateError, match="redirects to another host"):
            fetch_keys(corp, tmp_path)
    with pytest.raises(StateError, match=r"its keys can't be had: .*refused"):
        fetch_keys(corp, tmp_path)


def test_keys_of_a_file_are_read_from_the_home(tmp_path: Path) -> None:
    """A file that is missing, or no key set, is named."""
    corp = provider(jwks_file="corp.json")
    with pytest.raises(StateError, match=r"corp: jwks_file: .*corp\.json: No such file"):
        fetch_keys(corp, tmp_path)
    (tmp_path / "corp.json").write_text(json.dumps({"keys": [public_jwk("RS256")]}))

    assert list(fetch_keys(corp, tmp_path).keys) == ["RS256"]


def mapped(payload: dict[str, Any], typ: str = "JWT", **settings: Any) -> Any:
    """Return the terms that a token gives."""
    proven = verify(signed(payload, typ=typ), [provider(**settings)], lambda *_: key_set(), NOW_MS)
    return map_identity(proven)


def test_a_token_gives_subject_labels_facts_and_the_scopes_of_all_fitting_grants() -> None:
    """Scopes stand in the order of the settings, each once; a list of claims is a fact as JSON."""
    found = mapped(
        claims(tid="t1", acr="2", mfa=True, org={"unit": "sales"}),
        labels={"tenant": "{tid}", "unit": "unit {org/unit}"},
        facts=["acr", "groups", "mfa", "absent"],
        grants=[
            {"ceiling": ["read:public/**"]},
            {"when": {"groups": "admin"}, "ceiling": ["*:**"]},
            {"when": {"groups": "support", "mfa": True}, "ceiling": ["read:public/**", "read:tickets/**"]},
        ],
    )

    assert (found.subject, found.ceiling, found.grants) == (
        "user:ann",
        ("read:public/**", "read:tickets/**"),
        (0, 2),
    )
    assert found.labels == {"tenant": "t1", "unit": "unit sales"}
    assert found.facts == {"acr": "2", "groups": '["staff","support"]', "mfa": True}
    assert (found.ends_at_ms, found.lease_ms) == (NOW_MS - 300_000 + 28_800_000, 900_000)


def test_a_machine_is_named_as_its_client() -> None:
    """So it can't be taken for a user, whatever the template is."""
    payload = access_claims(sub="desk", auth_time=None)

    assert mapped(payload, "at+jwt", machines=True, require_auth_time=False).subject == "client:desk"


@pytest.mark.parametrize(
    ("payload", "settings", "said"),
    [
        ({"groups": ["sales"]}, {}, "grants: none fits"),
        ({"groups": "supporter"}, {}, "grants: none fits"),
        ({"level": 1}, {"grants": [{"when": {"level": True}, "ceiling": ["read:**"]}]}, "grants: none fits"),
        ({"email_verified": "true"}, {"require": {"email_verified": True}}, r"require\.email_verified"),
        ({}, {"subject": "user:{oid}"}, "subject: the token has no text oid"),
        ({"oid": ["a"]}, {"subject": "user:{oid}"}, "subject: the token has no text oid"),
        ({"sub": "a\u202eb"}, {}, "subject: sub is no plain text"),
        ({"sub": "{x}"}, {}, "subject: sub is no plain text"),
        ({"sub": "x" * 257}, {}, "subject: sub is no plain text"),
        ({"sub": " ann"}, {}, "subject: sub is no plain text"),
        ({}, {"labels": {"tenant": "{tid}"}}, "labels.tenant: the token has no text tid"),
        ({"groups": ["support", "x" * 1_100]}, {"facts": ["groups"]}, "facts: groups has more than 1024"),
    ],
)
def test_a_token_that_lacks_a_claim_gives_nothing(
    payload: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    """The rule is named, and no value."""
    with pytest.raises(IdentityRefused, match=f"IDENTITY_NOT_GRANTED: the provider corp, {said}"):
        mapped(claims(**payload), **{"grants": GRANTS, **settings})


def test_the_digest_of_providers_is_that_of_their_meaning() -> None:
    """Their order, paths of files and stated defaults are none; each other value is."""
    one, two = provider(), provider(name="two", issuer="https://two.example")
    same = provider(lease_ms=900_000, jwks_file="")

    assert settings_digest(()) == "none"
    assert settings_digest((one, two)) == settings_digest((two, same))
    assert settings_digest((provider(jwks_file="a"),)) == settings_digest((provider(jwks_file="b"),))
    changed: tuple[dict[str, Any], ...] = (
        {"jwks_file": "a"},
        {"proof_origin": "https://sessauth.example"},
        {"clients": ["cli", "desk"]},
        {"grants": [{"ceiling": ["read:**"]}]},
        {"require": {"email_verified": True}},
        {"lease_ms": 1_000},
    )
    digests = {settings_digest((provider(**each),)) for each in changed} | {settings_digest((one,))}
    assert len(digests) == len(changed) + 1
