"""Incarnations: a new one ends every session that lives, by one row, whatever their number.

A session's row says the revision of the last change to it, and the head the one at which the incarnation
began. A row of before that, which does not say that its session has ended, is read as if the new incarnation
had ended it then. Whoever writes it next writes that down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol

from ..._fast.codec.protobuf import WireError
from ...model.log_records import Head, IncarnationRecord
from ...model.session import EndCause, Session, SessionStatus
from .. import layout
from ..rules.cost_rows import corrupt

# Behind it the revision at which it began, 8 bytes.
PREFIX: Final = b"incarnation/"


class IncarnationRows(Protocol):
    """Source of the rows."""

    def head(self) -> Head:
        """Return where the log stands."""
        ...

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value."""
        ...


def key_of(revision: int) -> bytes:
    """Return the key of the incarnation that began at a revision."""
    return PREFIX + revision.to_bytes(8, "big")


def record(rows: IncarnationRows, revision: int) -> IncarnationRecord:
    """Return what a new incarnation did; raises StateUnusable CORRUPT if its row is missing or wrong."""
    data = rows.get(layout.META, key_of(revision))
    try:
        if data is None:
            raise ValueError("its row is missing")
        found = IncarnationRecord.decode(data)
        if found.previous_revision >= revision:
            raise ValueError("it follows a later one")
        return found
    except (WireError, ValueError) as error:
        raise corrupt(f"the incarnation that began at revision {revision}", error) from error


def as_it_stands(rows: IncarnationRows, session: Session) -> Session:
    """Return a session that was read as what it is by now: ended, if an incarnation began behind its row."""
    began = rows.head().incarnation_revision
    if session.revision >= began or session.status is SessionStatus.ENDED:
        return session
    found = record(rows, began)
    while found.previous_revision > session.revision:
        began = found.previous_revision
        found = record(rows, began)
    return replace(
        session,
        status=SessionStatus.ENDED,
        epoch=session.epoch + 1,
        ended_at_ms=found.at_ms,
        end_cause=EndCause.RESTORED,
        reason=found.reason,
        revision=began,
    )


def verify_incarnations(rows: IncarnationRows) -> None:
    """Read the rows of all incarnations; raises StateUnusable or ValueError at one that is wrong."""
    began = rows.head().incarnation_revision
    if began > rows.head().revision:
        raise ValueError("the incarnation begins behind the head")
    while began:
        began = record(rows, began).previous_revision
