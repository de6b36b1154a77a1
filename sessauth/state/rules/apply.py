"""``apply``: the one function that turns a Change into writes.

It is deterministic: no clock, no randomness, no I/O but reads of rows. Followers that apply the same changes
in the same order reach the same rows and the same head. ``apply`` does all validation of changes. The
outcome of an invalid change is its rejection.

The rules of issuer keys, of the incarnation and of a cluster's credentials are here, those of sessions in
``sessions.py``, those of costs and approvals in ``calls.py``, those of bans in ``validation.py``, and those
of cuts of logins in ``logins.py``. Each returns effects (``effects.py``), or raises RuleViolation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ... import limits
from ..._fast import _check as kernel
from ..._fast._check import replaced
from ...crypto.keys import KeyRecord, KeyStatus
from ...model.change import (
    FORMAT,
    Change,
    ChangeKind,
    ChangeOutcome,
    Head,
    IncarnationRecord,
    Rejection,
    Settlement,
)
from ...model.host import MAX_CREDENTIALS, CredentialRecord, fault
from ...model.session import Session
from .. import layout
from ..lmdb.cluster_rows import CREDENTIAL, CredentialsMark, credential_key, read_credential
from . import calls, effects, logins, sessions, validation
from .effects import Delete, DeletePrefix, Effect, Put, Rows
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
    moved = replaced(key, status=status, revision=revision, **stamp)
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
    writes = [Put(layout.META, effects.key_of(revision), began.encode())]
    return Effect(writes, incarnation=incarnation, clock_floor_ms=floor)


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
    key = credential_key(record.name)
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
    key = credential_key(name)
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


_CHAIN_LABEL = b"sessauth/log/v1\x00"

_RULES: dict[ChangeKind, Callable[[Rows, Change, int], Effect]] = {
    ChangeKind.OPEN_SESSION: sessions.open_session,
    ChangeKind.NARROW_SESSION: sessions.narrow_session,
    ChangeKind.UPDATE_FACTS: sessions.update_facts,
    ChangeKind.SUSPEND_SESSION: sessions.suspend_session,
    ChangeKind.RESUME_SESSION: sessions.resume_session,
    ChangeKind.END_SESSION: sessions.end_session,
    ChangeKind.REVOKE: sessions.revoke,
    ChangeKind.PURGE_SESSION: sessions.purge_session,
    ChangeKind.ADD_KEY: add_key,
    ChangeKind.SET_KEY_STATUS: set_key_status,
    ChangeKind.NEW_INCARNATION: new_incarnation,
    ChangeKind.CONSUME: calls.consume,
    ChangeKind.SETTLE_PERMIT: calls.settle_permit,
    ChangeKind.REQUEST_APPROVAL: calls.request_approval,
    ChangeKind.ANSWER_APPROVAL: calls.answer_approval,
    ChangeKind.ADD_CREDENTIAL: add_credential,
    ChangeKind.REMOVE_CREDENTIAL: remove_credential,
    ChangeKind.BAN_SESSIONS: validation.ban_sessions,
    ChangeKind.CUT_LOGINS: logins.cut_logins,
}
_WITHOUT_SESSION = frozenset(
    {
        ChangeKind.ADD_KEY,
        ChangeKind.SET_KEY_STATUS,
        ChangeKind.NEW_INCARNATION,
        ChangeKind.ADD_CREDENTIAL,
        ChangeKind.REMOVE_CREDENTIAL,
        ChangeKind.BAN_SESSIONS,
        ChangeKind.CUT_LOGINS,
    }
)


@dataclass(frozen=True, slots=True)
class Applied:
    """Result of one change: its outcome, the head after it, its bytes in the log, the rows to write.

    ``session`` is the session whose state it changed, or None.
    """

    outcome: ChangeOutcome
    head: Head
    encoded: bytes
    writes: tuple[Put | Delete | DeletePrefix, ...]
    session: Session | None = None


def encode_or_refuse(change: Change) -> tuple[bytes, str]:
    """Return a change's bytes, and the reason why it can't be logged (empty: it can).

    Nothing is stored of a change that has no valid id or actor, can't be encoded, or is too large.
    """
    try:
        if change.format != FORMAT:
            raise invalid(f"format: {change.format} is not {FORMAT}")
        require_text("id", change.id, required=True, max_bytes=limits.MAX_REQUEST_ID_BYTES)
        require_text("actor", change.actor)
        encoded = change.encode()
    except RuleViolation as refusal:
        return b"", refusal.detail
    except (kernel.WireError, KeyError, TypeError, UnicodeError) as error:
        return b"", f"a field that can't be encoded: {error}"
    if len(encoded) > layout.MAX_CHANGE_BYTES:
        return b"", f"the change has {len(encoded)} bytes, at most {layout.MAX_CHANGE_BYTES} are taken"
    return encoded, ""


def apply(rows: Rows, change: Change) -> Applied:
    """Validate a stamped change against ``rows``, and compute its writes.

    The change must have passed :func:`encode_or_refuse`. Its ``at_ms`` is the writer's clock.
    """
    head = rows.head()
    encoded = change.encode()
    seq = head.seq + 1
    digest = chain_digest(head.digest, seq, encoded)
    clock_floor_ms = max(head.clock_floor_ms, change.at_ms)
    try:
        if change.kind not in _WITHOUT_SESSION:
            require_size("session_id", change.session_id, 16)
        effect = _RULES[change.kind](rows, change, head.revision + 1)
    except RuleViolation as refusal:
        detail = refusal.detail.encode()[: limits.MAX_STRING_BYTES].decode(errors="ignore")
        outcome = ChangeOutcome(
            change.id,
            change.digest(),
            refusal.word.value,
            detail,
            revision=head.revision,
            seq=seq,
            session_id=change.session_id,
            at_ms=change.at_ms,
        )
        after = replaced(head, seq=seq, clock_floor_ms=clock_floor_ms, digest=digest)
        return Applied(outcome, after, encoded, ())
    revision = head.revision + 1
    after = Head(
        head.format,
        max(
            head.min_reader_format,
            layout.INCARNATION_FORMAT if effect.incarnation else 0,
            effect.reader_format,
        ),
        head.cluster_id,
        effect.incarnation or head.incarnation,
        revision,
        seq,
        clock_floor_ms if effect.clock_floor_ms < 0 else effect.clock_floor_ms,
        head.keys_generation + int(effect.keys_changed),
        digest,
        revision if effect.incarnation else head.incarnation_revision,
    )
    outcome = ChangeOutcome(
        change.id,
        change.digest(),
        revision=revision,
        seq=seq,
        session_id=change.session_id,
        epoch=effect.epoch,
        at_ms=change.at_ms,
        permit_id=effect.permit_id,
        permit_deadline_ms=effect.permit_deadline_ms,
    )
    return Applied(outcome, after, encoded, tuple(effect.writes), effect.session)


def chain_digest(previous: bytes, seq: int, encoded: bytes) -> bytes:
    """Return the head's digest after a change: BLAKE2b-256 over the previous one, the seq and the bytes."""
    return hashlib.blake2b(
        _CHAIN_LABEL + previous + seq.to_bytes(8, "big") + encoded, digest_size=32
    ).digest()


def only_removes_authority(change: Change) -> bool:
    """Return True if a change only removes authority or frees space: written even above the 85 % mark."""
    if change.kind is ChangeKind.SET_KEY_STATUS:
        return bool(change.body.get("status") == KeyStatus.DISTRUSTED)
    if change.kind is ChangeKind.SETTLE_PERMIT:
        return bool(change.body.get("settlement") == Settlement.RELEASE)
    if change.kind is ChangeKind.BAN_SESSIONS:
        return bool(change.body.get("for_ms"))
    return change.kind in (
        ChangeKind.END_SESSION,
        ChangeKind.SUSPEND_SESSION,
        ChangeKind.NARROW_SESSION,
        ChangeKind.REVOKE,
        ChangeKind.PURGE_SESSION,
        ChangeKind.REMOVE_CREDENTIAL,
        ChangeKind.CUT_LOGINS,
    )


def conflict_outcome(change: Change, head: Head) -> ChangeOutcome:
    """Return the outcome for a request id that is reused with other content."""
    return ChangeOutcome(
        change.id,
        change.digest(),
        Rejection.CONFLICT.value,
        "this request id was used with other content; use a new id",
        revision=head.revision,
    )
