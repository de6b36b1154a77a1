"""Rows of a cluster's credentials.

A mark is stored with them: their number, and a digest that differs after each change to any of them. One
small read tells a host that nothing changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from ...model.credential import MAX_CREDENTIALS, CredentialRecord, fault
from .. import layout
from ..rules.cost_rows import corrupt
from .rows import TxnRows

# The first byte of the key; the name follows. Alone it is the key of the mark.
CREDENTIAL: Final = b"c"
_DIGEST_LABEL: Final = b"sessauth/credentials/v1\x00"
_DIGEST_BYTES: Final = 24


class HasRows(Protocol):
    """The member used here of a group."""

    @property
    def rows(self) -> TxnRows:
        """The rows of the group's transaction."""
        ...


@dataclass(frozen=True, slots=True)
class CredentialsMark:
    """The number of credentials, and of those of operators; a digest over all changes of them so far."""

    count: int = 0
    operators: int = 0
    digest: bytes = b""

    @classmethod
    def decode(cls, value: bytes | None) -> CredentialsMark:
        """Read the row; None is the mark of no credentials. Raises StateUnusable CORRUPT."""
        if value is None:
            return cls()
        if len(value) != 8 + _DIGEST_BYTES:
            raise corrupt("the mark of the credentials", f"it has {len(value)} bytes")
        return cls(int.from_bytes(value[:4], "big"), int.from_bytes(value[4:8], "big"), value[8:])

    def encode(self) -> bytes:
        """Return the value of the row, 32 bytes."""
        return self.count.to_bytes(4, "big") + self.operators.to_bytes(4, "big") + self.digest

    def moved(self, change: bytes, *, by: int, operator: bool) -> CredentialsMark:
        """Return the mark after an encoded change that adds a credential (``by`` 1) or removes it (-1)."""
        digest = hashlib.blake2b(_DIGEST_LABEL + self.digest + change, digest_size=_DIGEST_BYTES).digest()
        return CredentialsMark(self.count + by, self.operators + by * operator, digest)


def key_of(name: str) -> bytes:
    """Return the key of a credential's row."""
    return CREDENTIAL + name.encode()


def credential_values(rows: TxnRows) -> dict[bytes, bytes]:
    """Return the encoded credentials by key."""
    keys = rows.keys_after(layout.EVIDENCE, CREDENTIAL, MAX_CREDENTIALS, CREDENTIAL)
    return {key: rows.get(layout.EVIDENCE, key) or b"" for key in keys}


def credential(rows: TxnRows, name: str) -> CredentialRecord | None:
    """Return a credential of the cluster, None without one. Raises StateUnusable."""
    value = rows.get(layout.EVIDENCE, key_of(name)) if name else None
    return None if value is None else read_credential(key_of(name), value)


def read_credential(key: bytes, value: bytes) -> CredentialRecord:
    """Return the credential of a row. Raises StateUnusable for one that no change writes."""
    try:
        record = CredentialRecord.decode(value)
    except ValueError as error:
        raise corrupt(f"credential {key[1:]!r}", error) from error
    wrong, rule = fault(record)
    if wrong or key != key_of(record.name):
        raise corrupt(f"credential {key[1:]!r}", f"{wrong} {rule}" if wrong else "it is another's")
    return record


def credentials(rows: TxnRows) -> list[CredentialRecord]:
    """Return all credentials, by name. Raises StateUnusable for a row that no change writes."""
    return [read_credential(key, value) for key, value in credential_values(rows).items()]


def decode_changed(
    values: Mapping[bytes, bytes], before: Mapping[bytes, bytes], known: Mapping[bytes, CredentialRecord]
) -> dict[bytes, CredentialRecord]:
    """Return the credentials of rows by key; those whose value is as ``before`` are the ``known`` ones."""
    return {
        key: known[key] if before.get(key) == value else read_credential(key, value)
        for key, value in values.items()
    }


def replace_credentials(group: HasRows, values: Mapping[bytes, bytes], mark: bytes | None) -> None:
    """Have this folder hold these rows, by key, and this mark in the place of those that it has."""
    rows = group.rows
    for key in (CREDENTIAL, *credential_values(rows)):
        rows.delete(layout.EVIDENCE, key)
    for key, value in values.items():
        rows.put(layout.EVIDENCE, key, value)
    if mark is not None:
        rows.put(layout.EVIDENCE, CREDENTIAL, mark)


def verify_credentials(rows: TxnRows) -> int:
    """Return the number of credentials; raises StateUnusable or ValueError at a wrong row."""
    found = credentials(rows)
    mark = CredentialsMark.decode(rows.get(layout.EVIDENCE, CREDENTIAL))
    operators = sum(record.is_operator for record in found)
    if (mark.count, mark.operators) != (len(found), operators):
        raise ValueError(
            f"{len(found)} credentials, {operators} of operators, where their mark says {mark.count} and "
            f"{mark.operators}"
        )
    return len(found)
