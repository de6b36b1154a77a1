"""Proof keys of followers: what a server signs, and what a follower accepts as signed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessauth._fast._check import x25519_public
from sessauth.crypto.keys import IssuerKey, KeyRecord, KeyStatus, SignedVerifierKey, VerifierKey
from sessauth.errors import ServerError, StateError
from sessauth.limits import CLOCK_STEP_MS
from sessauth.server.cluster import follower_role
from sessauth.server.cluster.follower_role import RemoteSigner
from sessauth.server.keys.issuer_keyring import signable
from tests.support.changes import NOW

CLUSTER = b"c" * 16
LIFETIME = 3_600_000
KEY = VerifierKey(b"v" * 16, x25519_public(b"s" * 32), NOW, NOW + LIFETIME, CLUSTER)
ISSUER = IssuerKey(b"i" * 32)


def record(key: IssuerKey = ISSUER, status: KeyStatus = KeyStatus.ACTIVE, owner: str = "") -> KeyRecord:
    """Return the row of an issuer key."""
    return KeyRecord(key.key_id, key.public_key, status, owner=owner)


def test_a_key_of_the_cluster_is_signable() -> None:
    """Also by a server whose clock is behind the host's, as far as a clock may step."""
    for now in (NOW, NOW - CLOCK_STEP_MS, NOW + LIFETIME - 1):
        assert signable(KEY.encode(), CLUSTER, now, LIFETIME) == KEY


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00" * 300,
        KEY.encode() + b"\x00",
        replace(KEY, cluster_id=b"d" * 16).encode(),
        replace(KEY, public_key=bytes(32)).encode(),
        replace(KEY, public_key=b"\x01" + bytes(31)).encode(),
        replace(KEY, public_key=KEY.public_key[:31]).encode(),
        replace(KEY, verifier_id=b"v" * 15).encode(),
        replace(KEY, expires_at_ms=NOW).encode(),
        replace(KEY, not_before_ms=NOW + LIFETIME).encode(),
        replace(KEY, expires_at_ms=NOW + LIFETIME + CLOCK_STEP_MS + 1).encode(),
    ],
)
def test_other_bytes_are_not(payload: bytes) -> None:
    """Not canonical, of another cluster, without a secret, over, or good for longer than is permitted."""
    with pytest.raises(ServerError) as refused:
        signable(payload, CLUSTER, NOW, LIFETIME)
    assert (refused.value.reason, refused.value.field) == ("INVALID_ARGUMENT", "payload")


def test_a_follower_takes_the_signature_of_a_key_that_it_knows() -> None:
    """Active, or retired since."""
    signer = RemoteSigner(lambda payload: VerifierKey.decode(payload).signed_by(ISSUER))
    for status in (KeyStatus.ACTIVE, KeyStatus.RETIRED):
        signed = signer.sign(KEY, {ISSUER.key_id: record(status=status)})
        assert signed.verified({ISSUER.key_id: ISSUER.public_key}) == KEY


OTHER = IssuerKey(b"o" * 32)


@pytest.mark.parametrize(
    ("answer", "issuer"),
    [
        (KEY.signed_by(OTHER), record()),
        (KEY.signed_by(ISSUER), record(status=KeyStatus.DISTRUSTED)),
        (KEY.signed_by(ISSUER), record(status=KeyStatus.PREPARED)),
        (KEY.signed_by(ISSUER), record(owner="pipeline")),
        (replace(KEY.signed_by(ISSUER), signature=bytes(64)), record()),
        (replace(KEY, verifier_id=b"w" * 16).signed_by(ISSUER), record()),
        (SignedVerifierKey(b"", ISSUER.key_id, b""), record()),
    ],
)
def test_it_takes_no_other(answer: SignedVerifierKey, issuer: KeyRecord) -> None:
    """Unknown, distrusted, somebody's own, wrong, or of another key than was asked for."""
    with pytest.raises(ServerError) as refused:
        RemoteSigner(lambda payload: answer).sign(KEY, {issuer.id: issuer})
    assert refused.value.reason == "NO_ISSUER_KEY"


def test_servers_that_do_not_sign_are_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may ask a host for its keys: that must not become as many calls to its servers."""
    asked = []

    def ask(payload: bytes) -> SignedVerifierKey:
        asked.append(payload)
        raise StateError("no answer")

    signer = RemoteSigner(ask)
    for _ in range(3):
        with pytest.raises(ServerError):
            signer.sign(KEY, {})
    assert len(asked) == 1
    monkeypatch.setattr(follower_role, "PAUSE_SECONDS", 0.0)
    signer._paused_until = 0.0
    with pytest.raises(ServerError):
        signer.sign(KEY, {})
    assert len(asked) == 2
