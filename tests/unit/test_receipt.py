"""Receipts: their bytes, what a signature proves, and each way in which one proves nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sessauth.crypto.keys import KeyRecord, KeyStatus, public_jwk
from sessauth.errors import InvalidReceipt, UsageError
from sessauth.model.receipt import (
    HOSTS_VERSION,
    LABEL,
    HostStatus,
    Receipt,
    ReceiptFault,
    ReceiptState,
    SignedReceipt,
    VerifierState,
    VerifierStatus,
    closure_state,
    verify,
)
from sessauth.model.session import EndCause
from tests.support.receipts import (
    CLOSED,
    CLUSTER,
    CONTROL,
    NOW,
    PARTIAL,
    SERVICE,
    SESSION,
    STRANGER,
    WAITING,
    receipt,
)

KEYS = [SERVICE.public_key]
HOST = HostStatus("host-1", VerifierState.OUTLIVED, 4, NOW + 3)
SERVER = HostStatus("server/one", VerifierState.ACKNOWLEDGED, 5, NOW + 1)
OF_HOSTS = replace(CLOSED, version=HOSTS_VERSION, record=5, hosts=(HOST, SERVER))


def fault_of(signed: SignedReceipt, **expected: object) -> ReceiptFault:
    """Return why a receipt proves nothing."""
    with pytest.raises(InvalidReceipt) as caught:
        verify(signed, KEYS, **expected)  # type: ignore[arg-type]
    return ReceiptFault(caught.value.fault)


@pytest.mark.parametrize("made", [CLOSED, PARTIAL, receipt(state=ReceiptState.UNKNOWN), OF_HOSTS])
def test_what_was_signed_is_what_is_read(made: Receipt) -> None:
    """A receipt that a key of the service signed says what it was made to say, through its text too."""
    signed = made.signed_by(SERVICE)

    assert verify(signed, KEYS, cluster_id=CLUSTER, session_id=SESSION, made_since_ms=NOW) == made
    assert SignedReceipt.from_text(signed.text) == signed
    assert bool(made.state) == (made.state is ReceiptState.CLOSED)


def test_a_host_that_waits_is_named() -> None:
    """A host that may lack the end keeps the receipt open."""
    late = replace(HOST, state=VerifierState.WAITING)
    made = replace(OF_HOSTS, state=ReceiptState.PARTIAL, hosts=(late, SERVER))
    assert verify(made.signed_by(SERVICE), KEYS).waiting == ("host-1",)


def test_public_keys_are_taken_in_each_form() -> None:
    """A JWK set as the service gives it, and key records; not a distrusted key's, nor another owner's."""
    signed = CLOSED.signed_by(SERVICE)
    jwk = public_jwk(SERVICE.public_key)
    record = KeyRecord(SERVICE.key_id, SERVICE.public_key, KeyStatus.RETIRED)

    assert verify(signed, json.dumps({"keys": [jwk]})) == CLOSED
    assert verify(signed, [record]) == CLOSED
    for keys in (
        json.dumps({"keys": [{**jwk, "owner": "issuer-7"}]}),
        [replace(record, owner="issuer-7")],
        [replace(record, status=KeyStatus.DISTRUSTED)],
    ):
        with pytest.raises(InvalidReceipt) as caught:
            verify(signed, keys)
        assert caught.value.fault == ReceiptFault.UNKNOWN_KEY


def test_another_key_proves_nothing() -> None:
    """Neither under its own name nor under the service's."""
    forged = CLOSED.signed_by(STRANGER)

    assert fault_of(forged) is ReceiptFault.UNKNOWN_KEY
    assert fault_of(replace(forged, issuer_key_id=SERVICE.key_id)) is ReceiptFault.BAD_SIGNATURE


def test_every_changed_byte_is_seen() -> None:
    """A changed byte of payload, signature or key id is found."""
    signed = PARTIAL.signed_by(SERVICE)
    for index in range(len(signed.payload)):
        payload = bytearray(signed.payload)
        payload[index] ^= 1
        assert fault_of(replace(signed, payload=bytes(payload))) is ReceiptFault.BAD_SIGNATURE
    for index in range(64):
        signature = bytearray(signed.signature)
        signature[index] ^= 1
        assert fault_of(replace(signed, signature=bytes(signature))) is ReceiptFault.BAD_SIGNATURE


def test_a_state_can_not_be_put_in_the_place_of_another() -> None:
    """A PARTIAL receipt's signature is not that of the same receipt as CLOSED."""
    signed = PARTIAL.signed_by(SERVICE)
    closed = replace(PARTIAL, state=ReceiptState.CLOSED, verifiers=(CONTROL,))

    assert fault_of(replace(signed, payload=closed.encode())) is ReceiptFault.BAD_SIGNATURE


def test_a_signature_for_anything_else_is_none() -> None:
    """The label of receipts is part of what is signed."""
    payload = CLOSED.encode()
    for label in (b"", b"sessauth/verifier-key/v1\x00"):
        other = SignedReceipt(payload, SERVICE.key_id, SERVICE.sign(label + payload))
        assert fault_of(other) is ReceiptFault.BAD_SIGNATURE


def test_it_is_of_what_is_expected() -> None:
    """Another cluster's, another session's, or one from before what is asked for: each has its word."""
    signed = CLOSED.signed_by(SERVICE)

    assert fault_of(signed, cluster_id=b"d" * 16) is ReceiptFault.OTHER_CLUSTER
    assert fault_of(signed, session_id=b"t" * 16) is ReceiptFault.OTHER_SESSION
    assert fault_of(signed, made_since_ms=CLOSED.made_at_ms + 1) is ReceiptFault.TOO_OLD
    with pytest.raises(UsageError, match="session_id is 16 bytes"):
        verify(signed, KEYS, session_id=b"short")


def as_signed(payload: bytes) -> SignedReceipt:
    """Return what a key of the service would have signed."""
    return SignedReceipt(payload, SERVICE.key_id, SERVICE.sign(LABEL + payload))


@pytest.mark.parametrize(
    "made",
    [
        replace(PARTIAL, state=ReceiptState.CLOSED),
        replace(CLOSED, state=ReceiptState.PARTIAL),
        replace(CLOSED, open_permits=1),
        replace(CLOSED, state=ReceiptState.UNSPECIFIED),
        replace(CLOSED, cause=EndCause.UNSPECIFIED),
        replace(CLOSED, revision=0),
        replace(CLOSED, epoch=0),
        replace(CLOSED, ended_at_ms=0),
        replace(CLOSED, made_at_ms=NOW - 1),
        replace(CLOSED, cluster_id=b"short"),
        replace(CLOSED, verifiers=(replace(CONTROL, revision=6),)),
        replace(PARTIAL, verifiers=(replace(WAITING, revision=7), CONTROL)),
        replace(CLOSED, verifiers=(replace(CONTROL, state=VerifierState.UNSPECIFIED),)),
        replace(CLOSED, verifiers=(CONTROL, CONTROL)),
        replace(PARTIAL, verifiers=(CONTROL, WAITING)),
        replace(CLOSED, verifiers=(replace(CONTROL, name=""),)),
        replace(CLOSED, hosts=OF_HOSTS.hosts, record=5),
        replace(CLOSED, record=5),
        replace(OF_HOSTS, record=0),
        replace(OF_HOSTS, hosts=(replace(HOST, state=VerifierState.LEFT), SERVER)),
        replace(OF_HOSTS, hosts=(replace(HOST, state=VerifierState.WAITING), SERVER)),
        replace(OF_HOSTS, hosts=(SERVER, HOST)),
        replace(OF_HOSTS, hosts=(HOST, HOST)),
        replace(OF_HOSTS, hosts=(replace(SERVER, record=4),)),
        replace(OF_HOSTS, hosts=(replace(HOST, record=5),)),
        replace(OF_HOSTS, hosts=(replace(HOST, name=""),)),
    ],
)
def test_what_contradicts_itself_is_none(made: Receipt) -> None:
    """Also under a right signature: CLOSED with somebody who is waited for is no receipt."""
    assert fault_of(as_signed(made.encode())) is ReceiptFault.INCONSISTENT


def test_bytes_that_are_not_canonical_are_none() -> None:
    """Under a right signature too; another version says so, and a state that nobody knows is no state."""
    payload = CLOSED.encode()

    assert fault_of(as_signed(payload + b"\x00")) is ReceiptFault.NOT_CANONICAL
    assert fault_of(as_signed(payload[:-1])) is ReceiptFault.NOT_CANONICAL
    assert fault_of(as_signed(replace(CLOSED, version=2).encode())) is ReceiptFault.UNSUPPORTED_VERSION
    at = payload.index(b"\x58\x01", payload.index(b"done")) + 1
    assert fault_of(as_signed(payload[:at] + b"\x09" + payload[at + 1 :])) is ReceiptFault.INCONSISTENT


@pytest.mark.parametrize(
    "text", ["", "sessauth_token_abc", "sessauth_receipt_", "sessauth_receipt_AAAA.AAAAAA"]
)
def test_texts_that_are_no_receipts(text: str) -> None:
    """No receipt, a truncated or a damaged one."""
    with pytest.raises(InvalidReceipt) as caught:
        SignedReceipt.from_text(text)
    assert caught.value.fault == ReceiptFault.NOT_CANONICAL
    with pytest.raises(InvalidReceipt):
        SignedReceipt.from_text(CLOSED.signed_by(SERVICE).text[:-3])


def test_the_rule_of_the_states() -> None:
    """CLOSED: nobody is waited for and nothing is open. Who left or outlived its bound is not waited for."""
    left = VerifierStatus("gw-2", VerifierState.LEFT, 3, NOW)
    outlived = VerifierStatus("gw-3", VerifierState.OUTLIVED, 3, NOW)

    assert closure_state([], 0) is closure_state([CONTROL, left, outlived], 0) is ReceiptState.CLOSED
    assert closure_state([CONTROL, WAITING], 0) is closure_state([CONTROL], 1) is ReceiptState.PARTIAL
    assert PARTIAL.waiting == ("gw-1",)
