"""Incarnations: a new one ends all sessions that have not ended, by one row.

A session's row states the revision of the last change to it. The head states the revision at which the
incarnation began. A row of an earlier revision whose session has not ended is read as ended by the new
incarnation. The next write of the session stores that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol

from ..._fast._check import WireError
from ...model.log_records import Head, IncarnationRecord
from ...model.session import EndCause, Session, SessionStatus
from .. import layout
from ..rules.cost_rows import corrupt

# Followed by the revision at which it began, 8 bytes.
PREFIX: Final = b"incarnation/"


class IncarnationRows(Protocol):
    """Source of the rows."""

    def head(self) -> Head:
        """Return the head of the log."""
        ...

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value."""
        ...


def key_of(revision: int) -> bytes:
    """Return the key of the incarnation that began at a revision."""
    return PREFIX + revision.to_bytes(8, "big")


def record(rows: IncarnationRows, revision: int) -> IncarnationRecord:
    """Return an incarnation's row; raises StateUnusable CORRUPT if it is missing or wrong."""
    data = rows.get(layout.META, key_of(revision))
    try:
        if data is None:
            raise ValueError("its row is missing")
        incarnation = IncarnationRecord.decode(data)
        if incarnation.previous_revision >= revision:
            raise ValueError("it follows a later one")
        return incarnation
    except (WireError, ValueError) as error:
        raise corrupt(f"the incarnation that began at revision {revision}", error) from error


def current_session(rows: IncarnationRows, session: Session) -> Session:
    """Return a decoded session in its current state: ended, if an incarnation began after its row."""
    began = rows.head().incarnation_revision
    if session.revision >= began or session.status is SessionStatus.ENDED:
        return session
    incarnation = record(rows, began)
    while incarnation.previous_revision > session.revision:
        began = incarnation.previous_revision
        incarnation = record(rows, began)
    return replace(
        session,
        status=SessionStatus.ENDED,
        epoch=session.epoch + 1,
        ended_at_ms=incarnation.at_ms,
        end_cause=EndCause.RESTORED,
        reason=incarnation.reason,
        revision=began,
    )


def verify_incarnations(rows: IncarnationRows) -> None:
    """Read the rows of all incarnations; raises StateUnusable or ValueError at a wrong one."""
    began = rows.head().incarnation_revision
    if began > rows.head().revision:
        raise ValueError("the incarnation begins after the head")
    while began:
        began = record(rows, began).previous_revision
