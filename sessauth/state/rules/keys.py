"""Rules of changes to issuer keys and to the incarnation."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, cast

from ... import limits
from ..._fast import _check as kernel
from ...crypto.issuer_key import KeyRecord, KeyStatus
from ...model.change import Change, Rejection
from ...model.log_records import IncarnationRecord
from .. import layout
from ..lmdb import incarnations
from .effects import Effect, Put
from .ports import Rows
from .validation import RuleViolation, invalid, require_size, require_text

_STAMPS = {
    KeyStatus.ACTIVE: "activated_at_ms",
    KeyStatus.RETIRED: "retired_at_ms",
    KeyStatus.DISTRUSTED: "distrusted_at_ms",
}


def add_key(rows: Rows, change: Change, revision: int) -> Effect:
    """Add an issuer key, prepared or active."""
    body = cast("dict[str, Any]", change.body)
    public_key = require_size("public_key", body.get("public_key", b""), 32)
    if not kernel.acceptable_key(public_key):
        raise invalid("public_key: not a canonical Ed25519 key of large order")
    status = body.get("status", 0)
    if status not in (KeyStatus.PREPARED, KeyStatus.ACTIVE):
        raise invalid("status: a key is added PREPARED or ACTIVE")
    key_id = hashlib.blake2b(public_key, digest_size=32).digest()
    if rows.key(key_id) is not None:
        raise RuleViolation(Rejection.ALREADY_EXISTS, "public_key: the key is there already")
    if rows.key_count() >= layout.MAX_KEYS:
        raise RuleViolation(Rejection.LIMIT, f"public_key: {layout.MAX_KEYS} issuer keys are the most")
    key = KeyRecord(
        key_id,
        public_key,
        KeyStatus(status),
        owner=require_text("owner", body.get("owner", "")),
        added_at_ms=change.at_ms,
        activated_at_ms=change.at_ms if status == KeyStatus.ACTIVE else 0,
        revision=revision,
    )
    return Effect([Put(layout.KEYS, key.id, key.encode())], keys_changed=True)


def set_key_status(rows: Rows, change: Change, revision: int) -> Effect:
    """Advance a key's status; steps may be skipped, and no step is undone."""
    body = cast("dict[str, Any]", change.body)
    key = rows.key(require_size("key_id", body.get("key_id", b""), 32))
    if key is None:
        raise RuleViolation(Rejection.NOT_FOUND, "key_id: no such issuer key")
    number = body.get("status", 0)
    if number not in _STAMPS:
        raise invalid("status: must be ACTIVE, RETIRED or DISTRUSTED")
    status = KeyStatus(number)
    if status <= key.status:
        raise RuleViolation(
            Rejection.WRONG_STATUS, f"status: the key is {key.status.name} and only moves forward"
        )
    stamp: dict[str, Any] = {_STAMPS[status]: change.at_ms}
    moved = replace(key, status=status, revision=revision, **stamp)
    return Effect([Put(layout.KEYS, moved.id, moved.encode())], keys_changed=True)


def new_incarnation(rows: Rows, change: Change, revision: int) -> Effect:
    """Start a new incarnation: its one row ends every session that has not ended."""
    body = cast("dict[str, Any]", change.body)
    incarnation = require_size("incarnation", body.get("incarnation", b""), 16)
    if incarnation == rows.head().incarnation:
        raise invalid("incarnation: must be new")
    floor = int(body.get("clock_floor_ms", 0))
    if floor > limits.MAX_TIME_MS:
        raise invalid("clock_floor_ms: must be at most 2^53 - 1")
    reason = require_text("reason", body.get("reason", ""))
    began = IncarnationRecord(change.at_ms, reason, rows.head().incarnation_revision)
    writes = [Put(layout.META, incarnations.key_of(revision), began.encode())]
    return Effect(writes, incarnation=incarnation, clock_floor_ms=floor)
