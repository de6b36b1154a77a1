"""Verifier keys: what a holder believes of a host."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sessauth._fast import _check as kernel
from sessauth.crypto.keys import (
    LEAVE_MS,
    IssuerKey,
    KeyRecord,
    KeyStatus,
    SignedVerifierKey,
    VerifierKey,
    VerifierKeys,
    load_trusted_keys,
)
from sessauth.errors import UsageError

NOW_MS = 1_800_000_000_000
HOUR = 3_600_000
ISSUER = IssuerKey(bytes(range(32)))
OTHER = IssuerKey(bytes(range(1, 33)))


def host_key(number: int = 1, begins_ms: int = NOW_MS - HOUR // 2, **given: bytes) -> VerifierKey:
    """A key of the host that lives an hour."""
    public = kernel.x25519_public(bytes([number]) * 32)
    return VerifierKey(
        **{
            "verifier_id": b"v" * 16,
            "public_key": public,
            "not_before_ms": begins_ms,
            "expires_at_ms": begins_ms + HOUR,
            "cluster_id": b"c" * 16,
            **given,
        }  # type: ignore[arg-type]
    )


def test_a_signed_key_is_what_the_document_says() -> None:
    """The signature is over label, a zero byte and the payload; the id is the digest of the public key."""
    key = host_key()
    signed = key.signed_by(ISSUER)

    assert kernel.verify(
        ISSUER.public_key, b"sessauth/verifier-key/v1\x00" + signed.payload, signed.signature
    )
    assert signed.issuer_key_id == ISSUER.key_id
    assert VerifierKey.decode(signed.payload) == key
    assert key.key_id == kernel.digest(key.public_key)


def test_the_keys_that_an_issuer_vouches_for_are_taken() -> None:
    """Public keys, KeyRecords and a JWK set trust alike; the newest key is the one to prove for."""
    signed = [host_key(2, NOW_MS - 1000).signed_by(ISSUER), host_key(1).signed_by(OTHER)]
    jwks = json.dumps({"keys": [ISSUER.public_jwk(), OTHER.public_jwk()]})
    records = [KeyRecord(key.key_id, key.public_key, KeyStatus.ACTIVE) for key in (ISSUER, OTHER)]

    for known in ([ISSUER.public_key, OTHER.public_key], records, jwks, jwks.encode()):
        keys = VerifierKeys(signed, known, now_ms=NOW_MS)
        assert [key.public_key for key in keys] == [host_key(n).public_key for n in (2, 1)]
        assert keys.current(NOW_MS) == host_key(2, NOW_MS - 1000)
        assert (len(keys), keys.verifier_id) == (2, b"v" * 16)


def test_a_foreign_issuer_is_refused() -> None:
    """A key that is signed by none of the pinned keys is of another cluster, or forged."""
    with pytest.raises(UsageError, match="none of those given"):
        VerifierKeys([host_key().signed_by(OTHER)], [ISSUER.public_key], now_ms=NOW_MS)


def test_a_wrong_signature_is_refused() -> None:
    """One changed bit of payload or signature, and a signature over another label."""
    signed = host_key().signed_by(ISSUER)
    changed = bytes([signed.payload[5] ^ 1])
    wrong = [
        replace(signed, payload=signed.payload[:5] + changed + signed.payload[6:]),
        replace(signed, signature=bytes(64)),
        replace(signed, signature=ISSUER.sign(b"sessauth/proof/v1\x00" + signed.payload)),
    ]

    for each in wrong:
        with pytest.raises(UsageError, match="signature of the verifier key is wrong"):
            VerifierKeys([each], [ISSUER.public_key], now_ms=NOW_MS)


def test_one_bad_key_spoils_all() -> None:
    """A list with one forged key is refused whole: a host that sends such is not to be trusted."""
    signed = [host_key().signed_by(ISSUER), host_key(2).signed_by(OTHER)]

    with pytest.raises(UsageError):
        VerifierKeys(signed, [ISSUER.public_key], now_ms=NOW_MS)


def test_another_cluster_or_host_is_refused() -> None:
    """It is refused by its name, or by its difference from its neighbour."""
    mine, other = host_key(), host_key(2, cluster_id=b"d" * 16)
    host = host_key(3, verifier_id=b"w" * 16)

    with pytest.raises(UsageError, match="another cluster"):
        VerifierKeys([mine.signed_by(ISSUER)], [ISSUER.public_key], now_ms=NOW_MS, cluster_id=b"d" * 16)
    with pytest.raises(UsageError, match="another cluster"):
        VerifierKeys([each.signed_by(ISSUER) for each in (mine, other)], [ISSUER.public_key], now_ms=NOW_MS)
    with pytest.raises(UsageError, match="several hosts"):
        VerifierKeys([each.signed_by(ISSUER) for each in (mine, host)], [ISSUER.public_key], now_ms=NOW_MS)


def test_a_key_that_is_over_is_not_used() -> None:
    """One that ended, or begins later than clocks may differ, does not count; with none left it is said."""
    over, later = host_key(1, NOW_MS - HOUR), host_key(2, NOW_MS + 30_001)
    early = host_key(3, NOW_MS + 30_000)

    with pytest.raises(UsageError, match="no verifier key counts now"):
        VerifierKeys([key.signed_by(ISSUER) for key in (later, over)], [ISSUER.public_key], now_ms=NOW_MS)
    with pytest.raises(UsageError, match="the server has none"):
        VerifierKeys([], [ISSUER.public_key], now_ms=NOW_MS)
    keys = VerifierKeys([key.signed_by(ISSUER) for key in (early, over)], [ISSUER.public_key], now_ms=NOW_MS)
    assert keys.current(NOW_MS) == early


def test_a_key_is_left_before_it_ends() -> None:
    """A proof that is on its way when the key ends would not count, so another key is asked for earlier."""
    key = host_key()
    keys = VerifierKeys([key.signed_by(ISSUER)], [ISSUER.public_key], now_ms=NOW_MS)

    assert keys.current(key.expires_at_ms - LEAVE_MS - 1) == key
    assert keys.current(key.expires_at_ms - LEAVE_MS) is None


@pytest.mark.parametrize("name", ["verifier_id", "public_key", "cluster_id"])
def test_a_part_of_another_size_is_refused(name: str) -> None:
    """A payload is read strictly, also when it is rightly signed."""
    signed = host_key(**{name: b"short"}).signed_by(ISSUER)

    with pytest.raises(UsageError, match=name):
        VerifierKeys([signed], [ISSUER.public_key], now_ms=NOW_MS)


def test_a_payload_that_is_not_canonical_is_refused() -> None:
    """Trailing bytes, although signed, are no VerifierKey."""
    from sessauth.crypto.keys import LABEL

    payload = host_key().encode() + b"\x00"
    signed = SignedVerifierKey(payload, ISSUER.key_id, ISSUER.sign(LABEL + payload))

    with pytest.raises(UsageError, match="not a verifier key"):
        signed.verified(load_trusted_keys([ISSUER.public_key]))


@pytest.mark.parametrize(
    ("status", "owner", "trusted"),
    [
        (KeyStatus.PREPARED, "", False),
        (KeyStatus.ACTIVE, "", True),
        (KeyStatus.RETIRED, "", True),
        (KeyStatus.DISTRUSTED, "", False),
        (KeyStatus.ACTIVE, "team-a", False),
    ],
)
def test_which_key_records_vouch_for_a_host(status: KeyStatus, owner: str, trusted: bool) -> None:
    """The service's own keys, once active and not distrusted; another principal's never."""
    record = KeyRecord(ISSUER.key_id, ISSUER.public_key, status, owner)

    assert (load_trusted_keys([record]) == {ISSUER.key_id: ISSUER.public_key}) is trusted


@pytest.mark.parametrize(
    "document", ["", "{}", "[]", '{"keys": [{"kty": "OKP", "crv": "Ed25519"}]}', b"\xff"]
)
def test_what_is_no_jwk_set_is_refused(document: str | bytes) -> None:
    """The message says where one comes from."""
    with pytest.raises(UsageError, match="keys jwks"):
        load_trusted_keys(document)
