"""Public keys from files: a JWK, a JWK set, PEM, or 64 hex digits; and the issuer's own key file."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from ..crypto.issuer_key import IssuerKey, key_id
from ..errors import UsageError
from .io import read_text

# The whole ASN.1 of an Ed25519 public key before its 32 bytes (RFC 8410, 4).
_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
_PUBLIC = "-----BEGIN PUBLIC KEY-----"
_PRIVATE = "-----BEGIN PRIVATE KEY-----"


def public_keys(source: str, option: str) -> dict[bytes, bytes]:
    """Return the public keys in a file (or stdin for ``-``) by key id; ``option`` is what named it.

    A private key file gives its public half; it must be readable by its owner alone. Raises
    UsageError for contents of another kind, KeyFolderError for a private key that others may read.
    """
    text = read_text(source, option)
    if text.startswith(_PRIVATE):
        if source == "-":
            raise UsageError(
                f"{option}: a private key is read from a file that only its owner may read, not from -"
            )
        found = [IssuerKey.load(source).public_key]
    elif text.startswith("{"):
        found = _of_jwk(text, f"{option}: {source}")
    elif text.startswith(_PUBLIC):
        found = [_of_pem(text, f"{option}: {source}")]
    else:
        found = [_of_hex(text, f"{option}: {source}")]
    return {key_id(key): key for key in found}


def one_public_key(source: str, option: str) -> bytes:
    """Return the public key in a file that holds exactly one. Raises UsageError otherwise."""
    found = list(public_keys(source, option).values())
    if len(found) != 1:
        raise UsageError(f"{option}: {source} holds {len(found)} keys; give one")
    return found[0]


def _of_jwk(text: str, source: str) -> list[bytes]:
    try:
        document: Any = json.loads(text)
        keys = document.get("keys", [document])
        return [_base64url(key["x"]) for key in keys if key["kty"] == "OKP" and key["crv"] == "Ed25519"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{source} is neither a JWK nor a JWK set") from None


def _base64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _of_pem(text: str, source: str) -> bytes:
    body = "".join(text.splitlines()[1:-1])
    try:
        der = base64.b64decode(body, validate=True)
    except binascii.Error:
        der = b""
    if not der.startswith(_SPKI_PREFIX):
        raise UsageError(f"{source} is no Ed25519 public key in PEM")
    return der.removeprefix(_SPKI_PREFIX)


def _of_hex(text: str, source: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"{source} is no JWK, no PEM and no hex") from None
