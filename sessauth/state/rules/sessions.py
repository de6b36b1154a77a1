"""Rules of changes to sessions. Each returns an Effect, or raises RuleViolation."""

from __future__ import annotations

from struct import Struct
from typing import Any, Final, cast

from ... import limits
from ..._fast._check import replaced
from ...model.change import Change, Rejection
from ...model.session import EndCause, Fact, ScopeRecord, Session, SessionStatus
from .. import layout
from .effects import Delete, DeletePrefix, Effect, Put, Rows
from .validation import (
    RuleViolation,
    ancestors,
    ended_reason,
    invalid,
    is_contained,
    require_alive,
    require_count,
    require_epoch,
    require_session,
    require_size,
    require_text,
    validate_ceiling,
    validate_facts,
    validate_labels,
)

_REVOKED: Final = Struct(">QQ")
_BLOCK_ID: Final = Struct(">4Q")


def open_session(rows: Rows, change: Change, revision: int) -> Effect:
    """Open a session, under an active parent or none."""
    body = cast("dict[str, Any]", change.body)
    if rows.session(change.session_id) is not None:
        raise RuleViolation(Rejection.ALREADY_EXISTS, "session_id: a session has this id")
    scopes = validate_ceiling(body.get("ceiling"))
    by_name = validate_facts("facts", require_count("facts", body.get("facts", ()), limits.MAX_FACTS))
    key_ids = require_count("issuer_key_ids", body.get("issuer_key_ids", ()), limits.MAX_SESSION_ISSUER_KEYS)
    for key_id in key_ids:
        require_size("issuer_key_ids", key_id, 32)
    if len(set(key_ids)) != len(key_ids):
        raise invalid("issuer_key_ids: one is there twice")
    lease_ms = int(body.get("lease_ms", 0))
    if lease_ms and not layout.MIN_LEASE_MS <= lease_ms <= limits.MAX_TIME_MS - change.at_ms:
        raise invalid(
            f"lease_ms: {lease_ms} is not 0 and not between {layout.MIN_LEASE_MS} and the end of time"
        )
    parent_id = body.get("parent_id", b"")
    session = Session(
        id=change.session_id,
        subject=require_text("subject", body.get("subject", ""), required=True),
        purpose=require_text("purpose", body.get("purpose", "")),
        owner=require_text("owner", body.get("owner", "")),
        parent_id=parent_id,
        status=SessionStatus.ACTIVE,
        epoch=1,
        ceilings=(tuple(scopes),),
        facts=tuple(Fact.from_record(by_name[name]) for name in sorted(by_name)),
        labels=validate_labels(body.get("labels", ())),
        opened_at_ms=change.at_ms,
        expires_at_ms=_hard_end(rows, change, body, scopes),
        lease_ms=lease_ms,
        issuer_key_ids=tuple(key_ids),
        revoked_count=0,
        ended_at_ms=0,
        end_cause=EndCause.UNSPECIFIED,
        reason="",
        revision=revision,
        observe=bool(body.get("observe", False)),
    )
    writes = [_row(session, most=layout.MAX_FILLED_BYTES)]
    if lease_ms:
        writes.append(Put(layout.LEASES, session.id, (change.at_ms + lease_ms).to_bytes(8, "big")))
    reader_format = layout.OBSERVE_FORMAT if session.observe else 0
    return Effect(writes, session.epoch, session=session, reader_format=reader_format)


def _hard_end(rows: Rows, change: Change, body: dict[str, Any], scopes: list[ScopeRecord]) -> int:
    """Return the hard end in ms, at most the parent's; raises PARENT_NOT_LIVE unless the parent is active."""
    expires_at_ms, ttl_ms = int(body.get("expires_at_ms", 0)), int(body.get("ttl_ms", 0))
    if bool(expires_at_ms) == bool(ttl_ms):
        raise invalid("expires_at_ms, ttl_ms: state exactly one")
    end = expires_at_ms or change.at_ms + ttl_ms
    if not change.at_ms < end <= limits.MAX_TIME_MS:
        raise invalid(f"expires_at_ms: {end} is not after now ({change.at_ms}) and at most 2^53 - 1")
    parent_id = body.get("parent_id", b"")
    if not parent_id:
        return end
    parent = rows.session(require_size("parent_id", parent_id, 16))
    line = ancestors(rows, parent) if parent is not None else None
    if parent is None or line is None:
        raise RuleViolation(
            Rejection.PARENT_NOT_LIVE, "parent_id: no such session, or an ancestor of it is gone"
        )
    reason = ended_reason(rows, parent, change.at_ms)
    if reason:
        raise RuleViolation(Rejection.PARENT_NOT_LIVE, f"parent_id: {reason}")
    if any(member.status is not SessionStatus.ACTIVE for member in (parent, *line)):
        raise RuleViolation(Rejection.PARENT_NOT_LIVE, "parent_id: it, or an ancestor of it, is suspended")
    if len(line) + 1 > limits.MAX_ANCESTORS:
        raise RuleViolation(
            Rejection.LIMIT, f"parent_id: sessions nest at most {limits.MAX_ANCESTORS + 1} deep"
        )
    for ceiling in parent.ceilings:
        is_contained(ceiling, scopes, same_session=False)
    if ttl_ms:
        return min(end, parent.expires_at_ms)
    if end > parent.expires_at_ms:
        raise invalid(f"expires_at_ms: beyond the parent's hard end, {parent.expires_at_ms}")
    return end


def narrow_session(rows: Rows, change: Change, revision: int) -> Effect:
    """Replace the ceiling's last layer if the new one is proven to lie inside it; else add a layer.

    Scopes may be missing where only observe mode is to end.
    """
    session = require_alive(rows, change)
    body = cast("dict[str, Any]", change.body)
    enforce, ceiling = bool(body.get("enforce", False)), body.get("ceiling")
    scopes = () if enforce and not (ceiling or {}).get("scopes") else tuple(validate_ceiling(ceiling))
    if not scopes:
        if not session.observe:
            raise RuleViolation(Rejection.WRONG_STATUS, "enforce: the session is not in observe mode")
        ceilings = session.ceilings
    elif is_contained(session.ceilings[-1], scopes):
        ceilings = (*session.ceilings[:-1], scopes)
    else:
        ceilings = (*session.ceilings, scopes)
    if len(ceilings) > limits.MAX_CEILING_LAYERS:
        detail = (
            f"ceiling: {limits.MAX_CEILING_LAYERS} layers are the most, and it is not proven that this one "
            "is inside the last; narrow with scopes that are plainly inside it"
        )
        raise RuleViolation(Rejection.LIMIT, detail)
    narrowed = replaced(session, ceilings=ceilings, epoch=session.epoch + 1, revision=revision)
    if enforce and session.observe:
        narrowed = replaced(narrowed, observe=False, enforced_at_ms=change.at_ms)
    return _filled(session, narrowed)


def update_facts(rows: Rows, change: Change, revision: int) -> Effect:
    """Set and remove facts. The epoch stays, since every check reads the facts itself."""
    session = require_alive(rows, change)
    updates = validate_facts("set", cast("list[dict[str, Any]]", change.body.get("set", ())))
    removed = set(cast("list[str]", change.body.get("remove", ())))
    if not updates and not removed:
        raise invalid("set, remove: nothing to do")
    if removed & updates.keys():
        raise invalid(f"remove: {min(removed & updates.keys())} is also set")
    by_name = {fact.name: fact for fact in session.facts if fact.name not in removed}
    by_name.update({name: Fact.from_record(record) for name, record in updates.items()})
    require_count("set", list(by_name), limits.MAX_FACTS)
    result = tuple(by_name[name] for name in sorted(by_name))
    return _filled(session, replaced(session, facts=result, revision=revision))


def suspend_session(rows: Rows, change: Change, revision: int) -> Effect:
    """Suspend an active session."""
    session = require_alive(rows, change)
    if session.status is not SessionStatus.ACTIVE:
        raise RuleViolation(Rejection.WRONG_STATUS, "the session is suspended already")
    return _moved(_with_status(session, SessionStatus.SUSPENDED, change, revision))


def resume_session(rows: Rows, change: Change, revision: int) -> Effect:
    """Resume a suspended session."""
    session = require_alive(rows, change)
    if session.status is not SessionStatus.SUSPENDED:
        raise RuleViolation(Rejection.WRONG_STATUS, "the session is not suspended")
    return _moved(_with_status(session, SessionStatus.ACTIVE, change, revision))


def end_session(rows: Rows, change: Change, revision: int) -> Effect:
    """End a session by writing one row, independent of the number of its descendants and tokens."""
    session = require_session(rows, change)
    if session.status is SessionStatus.ENDED:
        detail = f"it ended at {session.ended_at_ms} ({session.end_cause.name})"
        raise RuleViolation(Rejection.ALREADY_ENDED, detail)
    require_epoch(session, change)
    cause = change.body.get("cause", 0)
    if cause not in (EndCause.ASKED, EndCause.LEASE_LAPSED, EndCause.EXPIRED, EndCause.PARENT_ENDED):
        raise invalid(f"cause: {cause} is none that an end can state")
    end_cause = EndCause(cast(int, cause))
    return _moved(
        _with_status(
            session, SessionStatus.ENDED, change, revision, ended_at_ms=change.at_ms, end_cause=end_cause
        )
    )


def revoke(rows: Rows, change: Change, revision: int) -> Effect:
    """Revoke blocks, in a session of any status. Blocks that are revoked already are ignored."""
    session = require_session(rows, change)
    block_ids = cast("list[bytes]", change.body.get("block_ids", ()))
    require_count("block_ids", block_ids, limits.MAX_REVOKE_BLOCK_IDS, least=1)
    require_text("reason", cast(str, change.body.get("reason", "")))
    for block_id in block_ids:
        require_size("block_ids", block_id, 32)
    fresh = [block for block in dict.fromkeys(block_ids) if not rows.is_revoked(session.id, block)]
    if not fresh:
        return Effect((), session.epoch)
    counted = replaced(session, revoked_count=session.revoked_count + len(fresh), revision=revision)
    puts = [
        Put(layout.REVOKED, session.id + block_id, revoked_value(revision, block_id)) for block_id in fresh
    ]
    return Effect([_row(counted), *puts], session.epoch, session=counted)


def revoked_value(revision: int, block_id: bytes) -> bytes:
    """Return the value of a revoked block's row: the revision, and a check sum of the block's id.

    The sum is that of the id's four numbers of 8 bytes, modulo 2^64. LMDB has no check sums, so a damaged id
    would be taken for another block's. Earlier builds wrote the revision alone.
    """
    return _REVOKED.pack(revision, sum(_BLOCK_ID.unpack(block_id)) % (1 << 64))


def purge_session(rows: Rows, change: Change, revision: int) -> Effect:
    """Remove an ended session with all its rows. Its tokens are then denied with UNKNOWN_SESSION."""
    session = require_session(rows, change)
    if session.status is not SessionStatus.ENDED:
        raise RuleViolation(Rejection.WRONG_STATUS, "only an ended session can be purged; end it first")
    return Effect(
        [
            Delete(layout.SESSIONS, session.id),
            Delete(layout.LEASES, session.id),
            DeletePrefix(layout.REVOKED, session.id),
            DeletePrefix(layout.COUNTERS, session.id),
            DeletePrefix(layout.PERMITS, session.id),
            DeletePrefix(layout.APPROVALS, session.id),
        ],
        session.epoch,
        session=session,
    )


def _with_status(
    session: Session, status: SessionStatus, change: Change, revision: int, **end: Any
) -> Session:
    reason = require_text("reason", cast(str, change.body.get("reason", "")))
    return replaced(session, status=status, epoch=session.epoch + 1, reason=reason, revision=revision, **end)


def _row(session: Session, *, most: int = layout.MAX_SESSION_BYTES) -> Put:
    encoded = session.encode()
    if len(encoded) > most:
        detail = f"the session would have {len(encoded)} bytes, at most {most} are kept; state less in it"
        raise RuleViolation(Rejection.LIMIT, detail)
    return Put(layout.SESSIONS, session.id, encoded)


def _filled(before: Session, after: Session) -> Effect:
    """Return the write of a session with new content, with space left for its end.

    A session that does not grow always fits.
    """
    most = max(layout.MAX_FILLED_BYTES, len(before.encode()))
    return Effect([_row(after, most=most)], after.epoch, session=after)


def _moved(session: Session) -> Effect:
    return Effect([_row(session)], session.epoch, session=session)
