"""Tokens, credentials and proofs are masked wherever a text is kept or told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessauth._fast._check import is_masked, masked
from sessauth._fast._codec import DecisionText
from sessauth.crypto.keys import IssuerKey
from sessauth.reasons import Reason, Stage
from sessauth.server.keys.credentials import credential_text
from sessauth.tokens.token import Issuer
from tests.support.recorded import RecordedVerifier, bodies
from tests.vectors.world import AUDIENCE, NOW, child, root, token

KINDS = ("token", "secret", "key", "proof", "approval")
BODY = st.text("ABCabc019_.=-", max_size=30)
AROUND = st.text('sessauth_tokn/ \n\x00é\u2028😀{}"\\', max_size=30)


@given(AROUND, st.sampled_from(KINDS), BODY, AROUND)
def test_what_follows_a_prefix_is_masked(before: str, kind: str, body: str, after: str) -> None:
    """Nothing of the secret is left, what stands around it is, and masking again changes nothing."""
    secret = f"sessauth_{kind}_{body}"
    # What follows at once is taken for a part of it.
    text = f"{before} {secret} {after}"
    shown = masked(text)

    assert shown == f"{masked(before + ' ')}sessauth_{kind}_...{masked(' ' + after)}"
    assert masked(shown) == shown
    assert is_masked(shown)


@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_other_texts_stay_as_they_are(text: str) -> None:
    """Any text without such a prefix, lone surrogates too."""
    text = text.replace("sessauth_", "")

    assert masked(text) == text
    assert not is_masked(text)


@pytest.mark.parametrize(
    "text", ["sessauth_", "sessauth_holder_abc", "xsessauth_tokens", "sessauth_toke", "SESSAUTH"]
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    """Public keys, and words that only begin alike."""
    assert masked(text) == text


def _secrets() -> list[str]:
    made = Issuer(IssuerKey.generate()).mint(bytes(16), ["read:a"], [AUDIENCE], ttl_ms=60_000, ending="open")
    return [made.present().text, made.stored_text(), credential_text("ann", bytes(range(32)))]


@pytest.mark.parametrize("place", ["action", "resource", "audience", "source", "argument"])
def test_a_record_of_a_decision_holds_none(place: str) -> None:
    """Wherever an agent puts a token: in each text of a recorded decision only its prefix stands."""
    writer = DecisionText(
        bytes(32), {int(each): each.name for each in Reason}, {int(each): each.name for each in Stage}
    )
    # A name in a scope is no longer than a credential.
    for secret in _secrets()[2:] if place == "argument" else _secrets():
        tapped = RecordedVerifier()
        valid = token(root("read:files/**"), child("*:**"))
        action, resource, more = "read", "files/a", {}
        if place == "action":
            action = secret
        elif place == "resource":
            resource = f"files/{secret}/x"
        elif place == "argument":
            valid = token(root(f'read:files/** where "{secret}" == "x"'))
        else:
            more = {place: secret}
        tapped.verifier._check(valid, action, resource, now_ms=NOW, **more)
        record = bodies(writer.write(tapped.decision_queue.drain())[0])[-1]

        body = secret.split("_", 2)[2]
        text = json.dumps(record)
        assert body[:24] not in text
        if place != "argument":
            assert "_..." in record[place]
            assert record["resource"].endswith("/x") or place != "resource"
        else:
            assert "_..." in record["at"]["argument"]
