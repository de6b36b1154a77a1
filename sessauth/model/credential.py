"""Credentials: the permitted callers, each with an API key of which only a hash is stored.

In a cluster each is a change of the log, so that every host has it. The secret is 32 random bytes, so that
anyone may read its hash: no guess at it succeeds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from .._fast.codec.record import Record

ROLES: Final = ("operator", "issuer", "gateway", "auditor", "approver", "follower")
OPERATOR: Final = "operator"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}", re.ASCII)
AUDIENCE: Final = re.compile(r"[^\x00-\x1f\x7f\"\\]{1,256}")
HASH_BYTES: Final = 32
# Every host reads all of them again when one changes.
MAX_CREDENTIALS: Final = 4_096
MAX_AUDIENCES: Final = 64
MAX_AUDIENCE_BYTES: Final = 4_096
_DIGEST_LABEL: Final = b"sessauth/credential/v1\x00"


@dataclass(frozen=True, slots=True)
class CredentialRecord(Record):
    """A credential of a cluster. ``secret_hash``: BLAKE2b-256 of the secret.

    ``added_by`` is the caller that added it; empty: the host that began the cluster had it.
    """

    name: str
    role: str
    audiences: tuple[str, ...] = ()
    secret_hash: bytes = b""
    added_at_ms: int = 0
    added_by: str = ""

    @property
    def is_operator(self) -> bool:
        """True if its caller administers the cluster."""
        return self.role == OPERATOR


def credential_digest(record: CredentialRecord) -> bytes:
    """Return BLAKE2b-256 over name, role, audiences and secret, independent of who added it and when."""
    plain = CredentialRecord(record.name, record.role, record.audiences, record.secret_hash)
    return blake2b(_DIGEST_LABEL + plain.encode(), digest_size=32).digest()


def fault(record: CredentialRecord) -> tuple[str, str]:
    """Return the field of a credential that is wrong, and the rule that it breaks; empty: none is."""
    if not NAME.fullmatch(record.name):
        return "name", "must be 1 to 64 letters, digits, '.' or '-', beginning with a letter or digit"
    if record.role not in ROLES:
        return "role", f"must be one of {', '.join(ROLES)}"
    if not all(AUDIENCE.fullmatch(audience) for audience in record.audiences):
        return "audiences", "must be 1 to 256 characters without quotes, '\\' and control characters"
    bytes_in_all = sum(len(audience.encode()) for audience in record.audiences)
    if len(record.audiences) > MAX_AUDIENCES or bytes_in_all > MAX_AUDIENCE_BYTES:
        return "audiences", f"must be {MAX_AUDIENCES} of {MAX_AUDIENCE_BYTES} bytes together at most"
    if len(record.secret_hash) != HASH_BYTES:
        return "secret_hash", f"must be {HASH_BYTES} bytes"
    return "", ""
