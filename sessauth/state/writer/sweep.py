"""The sweep: ends sessions that are over, expires permits and approvals, and purges long ended sessions."""

from __future__ import annotations

from dataclasses import dataclass

from ...model.change import expire_approval, purge_session
from ...model.costs import Settlement, settle_permit
from ...model.session import Session, SessionStatus
from .. import layout
from .group import DUE_APPROVAL, DUE_PERMIT, Group


@dataclass(frozen=True, slots=True)
class Swept:
    """Counts of one sweep: sessions ended and purged, permits and approvals expired.

    ``more`` is True if it stopped at its bound.
    """

    ended: int = 0
    purged: int = 0
    permits: int = 0
    approvals: int = 0
    more: bool = False


def due_keys(group: Group, limit: int) -> list[bytes]:
    """Return up to ``limit`` keys of DUE whose time has come, earliest first.

    A key is a time in ms (8 bytes), a session id, and for a permit or an approval its kind and id.
    """
    until = group.at_ms.to_bytes(8, "big")
    keys: list[bytes] = []
    with group.rows.txn.cursor(db=group.rows.tables[layout.DUE]) as cursor:
        for key in cursor.iternext(keys=True, values=False):
            if bytes(key[:8]) > until or len(keys) == limit:
                break
            keys.append(bytes(key))
    return keys


def sweep(group: Group, limit: int) -> Swept:
    """Visit up to ``limit`` due rows: end, purge, expire, or schedule again."""
    done = {"ended": 0, "purged": 0, "permits": 0, "approvals": 0}
    keys = due_keys(group, limit)
    for key in keys:
        group.delete_carried(layout.DUE, key)
        session_id, kind, item_id = key[8:24], key[24:25], key[25:]
        if kind == DUE_PERMIT:
            done["permits"] += _expire_permit(group, session_id, item_id)
        elif kind == DUE_APPROVAL:
            done["approvals"] += _expire_approval(group, session_id, item_id)
        else:
            ended, purged = _sweep_session(group, session_id)
            done["ended"] += ended
            done["purged"] += purged
    return Swept(**done, more=len(keys) == limit)


def _expire_permit(group: Group, session_id: bytes, permit_id: bytes) -> bool:
    """Release the reserve of a permit that is still open."""
    if group.rows.permit(session_id, permit_id) is None:
        return False
    change_id = f"{layout.SYSTEM_PREFIX}expire/{permit_id.hex()}"
    change = settle_permit(change_id, session_id, permit_id, Settlement.EXPIRE, actor=layout.SYSTEM_ACTOR)
    return group.log(change).applied


def _expire_approval(group: Group, session_id: bytes, approval_id: bytes) -> bool:
    """Remove an approval, if it is still there."""
    if group.rows.approval(session_id, approval_id) is None:
        return False
    change_id = f"{layout.SYSTEM_PREFIX}expire/{approval_id.hex()}"
    change = expire_approval(change_id, session_id, approval_id, actor=layout.SYSTEM_ACTOR)
    return group.log(change).applied


def _sweep_session(group: Group, session_id: bytes) -> tuple[bool, bool]:
    """End or purge a session if its time has come; return whether it ended and whether it purged it."""
    session = group.rows.leased_session(session_id)
    if session is None:
        return False, False
    cause = group.lapse(session)
    if cause is not None:
        group.end(session, cause)
        session = group.rows.leased_session(session_id) or session
    ended = cause is not None
    if session.status is not SessionStatus.ENDED:
        group.schedule_due(session_id, session.ends_at_ms())
    elif group.at_ms >= purge_at_ms(session, group.retention.ended_ms):
        change_id = f"{layout.SYSTEM_PREFIX}purge/{session_id.hex()}"
        group.log(purge_session(change_id, session_id, actor=layout.SYSTEM_ACTOR))
        return ended, True
    else:
        group.schedule_due(session_id, purge_at_ms(session, group.retention.ended_ms))
    return ended, False


def purge_at_ms(session: Session, retained_ms: int) -> int:
    """Return the time for the purge of an ended session: after its hard end, so that no repeat reopens it."""
    return max(session.ended_at_ms, session.expires_at_ms) + retained_ms
