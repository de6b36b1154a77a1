"""The keys that whoever has no state knows a cluster by: they vouch for its hosts and sign for it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any

from ..errors import UsageError
from .issuer_key import key_id
from .key_record import KeyRecord, KeyStatus

IssuerKeys = bytes | str | Iterable[bytes | KeyRecord]
"""A JWK set in JSON, or public keys (32 bytes each) and KeyRecords."""


def pinned(issuer_keys: IssuerKeys, *, any_owner: bool = False) -> dict[bytes, bytes]:
    """Return issuer public keys by key id: of the service's own, those that may sign for it.

    A KeyRecord counts if it has no owner and is active or retired, a JWK if it names no owner. With
    ``any_owner`` those of owners too, which root tokens and sign nothing for the service.

    Raises:
        UsageError: if it is no JWK set, or a key is none.
    """
    if isinstance(issuer_keys, bytes | str):
        found: list[bytes] = _of_jwks(issuer_keys, any_owner)
    else:
        found = []
        for key in issuer_keys:
            if isinstance(key, KeyRecord):
                if (any_owner or not key.owner) and key.status in (KeyStatus.ACTIVE, KeyStatus.RETIRED):
                    found.append(key.public_key)
            else:
                found.append(key)
    return {key_id(key): key for key in found}


def _of_jwks(document: bytes | str, any_owner: bool) -> list[bytes]:
    try:
        keys: Any = json.loads(document)["keys"]
        return [
            base64.b64decode(key["x"] + "=" * (-len(key["x"]) % 4), altchars=b"-_", validate=True)
            for key in keys
            if key["kty"] == "OKP" and key["crv"] == "Ed25519" and (any_owner or not key.get("owner"))
        ]
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise UsageError(
            "issuer_keys: not a JWK set with Ed25519 keys, as 'sessauth keys jwks' prints"
        ) from None
