"""The vectors notice a verifier whose signatures are judged by another predicate than section 3.3."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.oracle import check as oracle
from tests.oracle.check import check
from tests.support.vector_files import load, read_decision, read_request, read_view


def _openssl(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_a_verifier_by_bare_openssl_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle with OpenSSL for its signatures allows a token that only the rule about R refuses."""
    content = load("ed25519.json")
    view = read_view(content["views"]["plain"])[0]
    monkeypatch.setattr(oracle, "verify", _openssl)

    wrong = {}
    for vector in content["vectors"]:
        token, request = bytes.fromhex(vector["token_hex"]), read_request(vector["request"])
        found = check(token, request, view, vector["now_ms"])
        if found != read_decision(vector["expected"]):
            wrong[vector["name"]] = found.reason.name

    assert wrong == {"R is the identity": "ALLOWED"}
