"""Rules of changes to the credentials of a cluster."""

from __future__ import annotations

from typing import Any, cast

from ...model.change import Change, Rejection
from ...model.credential import MAX_CREDENTIALS, CredentialRecord, fault
from .. import layout
from ..lmdb.credential_rows import CREDENTIAL, CredentialsMark, key_of, read_credential
from .effects import Delete, Effect, Put
from .ports import Rows
from .validation import RuleViolation, invalid, require_text


def add_credential(rows: Rows, change: Change, revision: int) -> Effect:
    """Add a caller: its name, its role and the hash of its secret."""
    body = cast("dict[str, Any]", change.body)
    record = CredentialRecord(
        body.get("name", ""),
        body.get("role", ""),
        tuple(body.get("audiences", ())),
        body.get("secret_hash", b""),
        added_at_ms=change.at_ms,
        added_by=change.actor,
    )
    field, rule = fault(record)
    if field:
        raise invalid(f"{field}: {rule}")
    key = key_of(record.name)
    if rows.get(layout.EVIDENCE, key) is not None:
        raise RuleViolation(Rejection.ALREADY_EXISTS, f"name: {record.name} exists; remove it first")
    mark = _mark(rows)
    if mark.count >= MAX_CREDENTIALS:
        raise RuleViolation(Rejection.LIMIT, f"name: there are {MAX_CREDENTIALS} credentials; remove some")
    moved = mark.moved(change.encode(), by=1, operator=record.is_operator)
    return Effect([Put(layout.EVIDENCE, key, record.encode()), _put(moved)])


def remove_credential(rows: Rows, change: Change, revision: int) -> Effect:
    """Remove a caller; the last operator only where the folder itself leaves: no one could add one then."""
    body = cast("dict[str, Any]", change.body)
    name = require_text("name", body.get("name", ""), required=True, max_bytes=layout.MAX_NAME_BYTES)
    key = key_of(name)
    value = rows.get(layout.EVIDENCE, key)
    if value is None:
        raise RuleViolation(Rejection.NOT_FOUND, "name: no such credential")
    is_operator = read_credential(key, value).is_operator
    mark = _mark(rows)
    leaves = change.id.startswith(layout.SYSTEM_PREFIX) and change.actor == layout.SYSTEM_ACTOR
    if is_operator and mark.operators <= 1 and not leaves:
        raise RuleViolation(
            Rejection.LAST_OPERATOR, f"name: {name} is the last operator; add another one first"
        )
    moved = mark.moved(change.encode(), by=-1, operator=is_operator)
    return Effect([Delete(layout.EVIDENCE, key), _put(moved)])


def _mark(rows: Rows) -> CredentialsMark:
    return CredentialsMark.decode(rows.get(layout.EVIDENCE, CREDENTIAL))


def _put(mark: CredentialsMark) -> Put:
    return Put(layout.EVIDENCE, CREDENTIAL, mark.encode())
