"""The sweep: ends what is over, and purges what ended long ago."""

from __future__ import annotations

from dataclasses import dataclass

from ..change import purge_session
from ..session import Session, SessionStatus
from . import layout
from .group import SYSTEM_ACTOR, Group


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did. ``more``: it stopped at its bound."""

    ended: int = 0
    purged: int = 0
    more: bool = False


def due(group: Group, limit: int) -> list[tuple[bytes, bytes]]:
    """Return the rows of sessions that need a look by now: (row key, session id), earliest first."""
    until = group.at_ms.to_bytes(8, "big")
    found: list[tuple[bytes, bytes]] = []
    with group.rows.txn.cursor(db=group.rows.tables[layout.DUE]) as cursor:
        for key in cursor.iternext(keys=True, values=False):
            if bytes(key[:8]) > until or len(found) == limit:
                break
            found.append((bytes(key), bytes(key[8:])))
    return found


def sweep(group: Group, limit: int) -> Swept:
    """Look at up to ``limit`` sessions that are due: end them, purge them, or come back later."""
    ended = purged = 0
    rows = due(group, limit)
    for key, session_id in rows:
        group.rows.delete(layout.DUE, key)
        group.dirty = True
        session = group.rows.leased_session(session_id)
        if session is None:
            continue
        cause = group.lapse(session)
        if cause is not None:
            group.end(session, cause)
            ended += 1
            session = group.rows.leased_session(session_id) or session
        if session.status is not SessionStatus.ENDED:
            group.schedule(session_id, session.ends_at_ms())
        elif group.at_ms >= purge_at_ms(session, group.keep.ended_ms):
            change_id = f"{layout.SYSTEM_PREFIX}purge/{session_id.hex()}"
            group.log(purge_session(change_id, session_id, actor=SYSTEM_ACTOR))
            purged += 1
        else:
            group.schedule(session_id, purge_at_ms(session, group.keep.ended_ms))
    return Swept(ended, purged, len(rows) == limit)


def purge_at_ms(session: Session, keep_ended_ms: int) -> int:
    """Return when an ended session's row may go: past its hard end, so that no open can outlive it."""
    return max(session.ended_at_ms, session.expires_at_ms) + keep_ended_ms
