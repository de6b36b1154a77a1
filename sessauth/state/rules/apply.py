"""``apply``: the one function that turns a Change into writes.

It is deterministic: no clock, no randomness, no I/O but reads of rows. Followers that apply the same changes
in the same order reach the same rows and the same head. ``apply`` does all validation of changes. The
outcome of an invalid change is its rejection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from ... import limits
from ..._fast import _check as kernel
from ...crypto.issuer_key import KeyStatus
from ...model.change import FORMAT, Change, ChangeKind, ChangeOutcome, Rejection
from ...model.costs import Settlement
from ...model.log_records import Head
from ...model.session import Session
from .. import layout
from . import approvals, bans, costs, credentials, keys, sessions
from .effects import Delete, DeletePrefix, Effect, Put
from .ports import Rows
from .validation import RuleViolation, invalid, require_size, require_text

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
    ChangeKind.ADD_KEY: keys.add_key,
    ChangeKind.SET_KEY_STATUS: keys.set_key_status,
    ChangeKind.NEW_INCARNATION: keys.new_incarnation,
    ChangeKind.CONSUME: costs.consume,
    ChangeKind.SETTLE_PERMIT: costs.settle_permit,
    ChangeKind.REQUEST_APPROVAL: approvals.request_approval,
    ChangeKind.ANSWER_APPROVAL: approvals.answer_approval,
    ChangeKind.ADD_CREDENTIAL: credentials.add_credential,
    ChangeKind.REMOVE_CREDENTIAL: credentials.remove_credential,
    ChangeKind.BAN_SESSIONS: bans.ban_sessions,
}
_WITHOUT_SESSION = frozenset(
    {
        ChangeKind.ADD_KEY,
        ChangeKind.SET_KEY_STATUS,
        ChangeKind.NEW_INCARNATION,
        ChangeKind.ADD_CREDENTIAL,
        ChangeKind.REMOVE_CREDENTIAL,
        ChangeKind.BAN_SESSIONS,
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
    after = replace(
        head,
        seq=seq,
        clock_floor_ms=max(head.clock_floor_ms, change.at_ms),
        digest=chain_digest(head.digest, seq, encoded),
    )
    outcome = ChangeOutcome(
        change.id, change.digest(), seq=seq, session_id=change.session_id, at_ms=change.at_ms
    )
    try:
        if change.kind not in _WITHOUT_SESSION:
            require_size("session_id", change.session_id, 16)
        effect = _RULES[change.kind](rows, change, head.revision + 1)
    except RuleViolation as refusal:
        detail = refusal.detail.encode()[: limits.MAX_STRING_BYTES].decode(errors="ignore")
        outcome = replace(outcome, rejection=refusal.word.value, detail=detail, revision=head.revision)
        return Applied(outcome, after, encoded, ())
    after = replace(
        after,
        revision=head.revision + 1,
        keys_generation=head.keys_generation + int(effect.keys_changed),
        incarnation=effect.incarnation or head.incarnation,
        incarnation_revision=head.revision + 1 if effect.incarnation else head.incarnation_revision,
        min_reader_format=max(
            head.min_reader_format,
            layout.INCARNATION_FORMAT if effect.incarnation else 0,
            effect.reader_format,
        ),
        clock_floor_ms=after.clock_floor_ms if effect.clock_floor_ms < 0 else effect.clock_floor_ms,
    )
    outcome = replace(
        outcome,
        revision=after.revision,
        epoch=effect.epoch,
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
