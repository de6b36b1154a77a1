"""Issuer keys: the secret in its file, the record in the state, the public keys that a holder trusts.

A secret lives in Python ``bytes``, which can be neither locked nor wiped for certain. So the process
that holds it does nothing else (see ``docs/threat-model.md``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .._fast import _check as kernel
from .._fast.codec import base64url
from .._fast.codec.record import Record
from ..errors import UsageError
from .signing_key import MessageKey


class IssuerKey(MessageKey):
    """An Ed25519 key that signs root blocks."""

    __slots__ = ()

    made_by = "sessauth keys add"

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JSON Web Key."""
        return public_jwk(self.public_key)


def key_id(public_key: bytes) -> bytes:
    """Return the id that tokens name an issuer key by: BLAKE2b-256 of its 32 bytes.

    Raises:
        UsageError: if it is no acceptable public key: canonical and not of small order.
    """
    if not kernel.acceptable_key(public_key):
        raise UsageError("not an Ed25519 public key: 32 bytes, canonical, not of small order")
    return kernel.digest(public_key)


def public_jwk(public_key: bytes) -> dict[str, str]:
    """Return an Ed25519 public key as a JSON Web Key (RFC 8037, RFC 9864).

    ``kid`` is its RFC 7638 thumbprint, ``issuer_key_id`` the id in hex that tokens and receipts name it by.
    """
    required = {"crv": "Ed25519", "kty": "OKP", "x": base64url.encode(public_key)}
    canonical = json.dumps(required, separators=(",", ":"), sort_keys=True).encode()
    thumbprint = base64url.encode(hashlib.sha256(canonical).digest())
    named = {"kid": thumbprint, "issuer_key_id": key_id(public_key).hex()}
    return {**required, **named, "alg": "Ed25519", "use": "sig"}


class KeyStatus(IntEnum):
    """The life of an issuer key; it only ever moves down this list."""

    UNSPECIFIED = 0
    PREPARED = 1
    ACTIVE = 2
    RETIRED = 3
    DISTRUSTED = 4


@dataclass(frozen=True, slots=True)
class KeyRecord(Record):
    """An issuer key in the state: public half, status, and the owner whose sessions alone it may root."""

    id: bytes
    public_key: bytes
    status: KeyStatus
    owner: str = ""
    added_at_ms: int = 0
    activated_at_ms: int = 0
    retired_at_ms: int = 0
    distrusted_at_ms: int = 0
    revision: int = 0


IssuerKeys = bytes | str | Iterable[bytes | KeyRecord]
"""A JWK set in JSON, or public keys (32 bytes each) and KeyRecords."""


def load_trusted_keys(issuer_keys: IssuerKeys, *, any_owner: bool = False) -> dict[bytes, bytes]:
    """Return the public keys that vouch for a cluster's hosts and sign for it, by key id.

    A KeyRecord counts if it has no owner and is active or retired, a JWK if it names no owner. With
    ``any_owner`` the keys of owners count too: they root tokens and sign nothing for the service.

    Raises:
        UsageError: if it is no JWK set, or a key is none.
    """
    if isinstance(issuer_keys, bytes | str):
        keys = _of_jwks(issuer_keys, any_owner)
    else:
        keys = [
            key.public_key if isinstance(key, KeyRecord) else key
            for key in issuer_keys
            if not isinstance(key, KeyRecord)
            or ((any_owner or not key.owner) and key.status in (KeyStatus.ACTIVE, KeyStatus.RETIRED))
        ]
    return {key_id(key): key for key in keys}


def _of_jwks(document: bytes | str, any_owner: bool) -> list[bytes]:
    try:
        keys: Any = json.loads(document)["keys"]
        return [
            base64url.decode(key["x"])
            for key in keys
            if key["kty"] == "OKP" and key["crv"] == "Ed25519" and (any_owner or not key.get("owner"))
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            "issuer_keys: not a JWK set with Ed25519 keys, as 'sessauth keys jwks' prints"
        ) from None
