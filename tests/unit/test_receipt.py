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
from tests.support.receipts import (
    CLOSED,
    CLUSTER,
    CONTROL,
    NOW,
    PARTIAL,
    SERVICE,
    SESSION,
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


def test_an_expectation_that_can_not_be_is_the_callers_mistake() -> None:
    """Any other length of a session's id."""
    with pytest.raises(UsageError, match="session_id is 16 bytes"):
        verify(CLOSED.signed_by(SERVICE), KEYS, session_id=b"short")


def as_signed(payload: bytes) -> SignedReceipt:
    """Return what a key of the service would have signed."""
    return SignedReceipt(payload, SERVICE.key_id, SERVICE.sign(LABEL + payload))


def test_what_contradicts_itself_is_none() -> None:
    """Also under a right signature; the vectors have each contradiction but this one."""
    assert fault_of(as_signed(replace(CLOSED, cluster_id=b"short").encode())) is ReceiptFault.INCONSISTENT


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
