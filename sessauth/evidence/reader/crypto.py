"""Signatures and digests of a pack, and the files of keys that a reader trusts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

MANIFEST_LABEL: Final = b"sessauth/evidence-manifest/v1\x00"
CHAIN_LABEL: Final = b"sessauth/audit-chain/v1\x00"
CHECKPOINT_LABEL: Final = b"sessauth/audit-checkpoint/v1\x00"
RECEIPT_LABEL: Final = b"sessauth/receipt/v1\x00"
_HEX_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class NoKeys(ValueError):
    """A file holds no public keys."""


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """Public keys from elsewhere, by their ids.

    ``audit`` sign logs and packs, ``issuer`` receipts, ``signers`` packs alone.
    """

    audit: Mapping[bytes, bytes] = field(default_factory=dict)
    issuer: Mapping[bytes, bytes] = field(default_factory=dict)
    signers: Mapping[bytes, bytes] = field(default_factory=dict)


def digest(data: bytes) -> bytes:
    """Return the BLAKE2b-256 of bytes: the id of a key."""
    return hashlib.blake2b(data, digest_size=32).digest()


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return True if ``signature`` is the Ed25519 signature of ``message``."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except (CryptoError, ValueError):
        return False
    return True


def read_keys(texts: Mapping[str, str]) -> TrustedKeys:
    """Return the keys of files, by name: lines of 64 hex digits, or JSON of ``audit key`` or ``keys jwks``.

    Raises NoKeys naming the file that holds anything else.
    """
    audit: dict[bytes, bytes] = {}
    issuer: dict[bytes, bytes] = {}
    for name, text in texts.items():
        if text.lstrip().startswith("{"):
            _read_json(name, text, audit, issuer)
            continue
        words = text.split()
        if not words or not all(map(_HEX_KEY.fullmatch, words)):
            raise NoKeys(f"{name} holds no public keys: 64 hex digits a line, or what keys jwks prints")
        audit |= by_id(map(bytes.fromhex, words))
    return TrustedKeys(audit, issuer)


def by_id(keys: Any) -> dict[bytes, bytes]:
    """Return public keys by their ids."""
    return {digest(key): key for key in keys}


def of_jwks(document: Any) -> dict[bytes, bytes]:
    """Return the service's own keys in a JWK set: those without an owner. Raises ValueError."""
    try:
        return by_id(
            base64url(key["x"])
            for key in document["keys"]
            if key["kty"] == "OKP" and key["crv"] == "Ed25519" and not key.get("owner")
        )
    except (KeyError, TypeError, AttributeError):
        raise ValueError("no JWK set") from None


def base64url(text: str) -> bytes:
    """Return the bytes of base64url without padding. Raises ValueError if it is not canonical."""
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError, AttributeError):
        raise ValueError("no base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode("ascii"):
        raise ValueError("base64url that is not canonical")
    return data


def _read_json(name: str, text: str, audit: dict[bytes, bytes], issuer: dict[bytes, bytes]) -> None:
    try:
        document = json.loads(text)
        if all("public_key" in key for key in document["keys"]):
            into, found = audit, by_id(bytes.fromhex(key["public_key"]) for key in document["keys"])
        else:
            into, found = issuer, of_jwks(document)
        if not found:
            raise ValueError("no key")
        into |= found
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NoKeys(f"{name} holds no public keys: neither of audit key --json nor of keys jwks") from None
