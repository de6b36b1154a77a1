"""Reads everything: whether all rows decode, belong where they stand, and the log leads to its head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import lmdb

from ..._fast.codec import protobuf
from ...errors import StateUnusable
from ...model.change import Change, ChangeOutcome
from ...model.log_records import ChangeResult, SessionTrace
from .. import layout
from ..lmdb.evidence_rows import verify_evidence
from ..lmdb.incarnations import verify_incarnations
from ..lmdb.rows import TxnRows, field_number
from ..rules.apply import chained
from .verify_costs import verify_costs

_TOLD_EVERY: Final = 256
_REVOKED_COUNT: Final = field_number("SessionRecord", "revoked_count")


@dataclass(frozen=True, slots=True)
class Verified:
    """What was read."""

    sessions: int
    revoked: int
    keys: int
    changes: int
    outcomes: int
    counters: int
    permits: int
    approvals: int
    enrolments: int
    receipts: int


def verify(rows: TxnRows, on_progress: Callable[[int, int], None] | None = None) -> Verified:
    """Read every row in one transaction; raises StateUnusable CORRUPT at the first that is wrong.

    ``on_progress`` is told now and then how many sessions were read, and how many there are.
    """
    try:
        verify_incarnations(rows)
        return Verified(
            _sessions(rows, on_progress),
            _revoked(rows),
            len([rows.key(key) for key in rows.key_ids()]),
            _log(rows),
            _outcomes(rows),
            *verify_costs(rows),
            *verify_evidence(rows),
        )
    except (ValueError, lmdb.Error) as error:
        raise StateUnusable(f"{error}; restore the state from a backup", "CORRUPT") from error


def _sessions(rows: TxnRows, on_progress: Callable[[int, int], None] | None) -> int:
    count, total = 0, int(rows.txn.stat(rows.tables[layout.SESSIONS])["entries"])
    for session_id in rows.session_ids():
        if on_progress is not None and not count % _TOLD_EVERY:
            on_progress(count, total)
        session = rows.leased_session(session_id)
        if session is None or session.id != session_id:
            raise ValueError(f"session {session_id.hex()} stands under another id")
        if session.lease_ms and not session.lease_deadline_ms:
            raise ValueError(f"session {session_id.hex()} has lost its lease")
        count += 1
    return count


def _revoked(rows: TxnRows) -> int:
    """Hold each session's count of revoked blocks against the rows."""
    counts: dict[bytes, int] = {}
    with rows.txn.cursor(db=rows.tables[layout.REVOKED]) as cursor:
        for key in cursor.iternext(keys=True, values=False):
            session_id = bytes(key[:16])
            counts[session_id] = counts.get(session_id, 0) + 1
    for session_id in rows.session_ids():
        row = rows.get(layout.SESSIONS, session_id) or b""
        if protobuf.number(row, _REVOKED_COUNT) != counts.pop(session_id, 0):
            raise ValueError(f"session {session_id.hex()} has lost revocations")
    if counts:
        raise ValueError(f"revocations of session {min(counts).hex()} without the session")
    return int(rows.txn.stat(rows.tables[layout.REVOKED])["entries"])


def _log(rows: TxnRows) -> int:
    """Fold the digest over the kept changes; it must end at the head's."""
    head = rows.head()
    anchor = rows.get(layout.META, layout.COMPACTED_KEY) or bytes(40)
    seq, digest = int.from_bytes(anchor[:8], "big"), anchor[8:]
    count = 0
    with rows.txn.cursor(db=rows.tables[layout.CHANGES]) as cursor:
        for key, value in cursor:
            seq += 1
            if int.from_bytes(key, "big") != seq:
                raise ValueError(f"change {seq} is missing")
            Change.decode(bytes(value))
            digest = chained(digest, seq, bytes(value))
            count += 1
    _hold_results(rows)
    if (seq, digest) != (head.seq, head.digest or bytes(32)):
        raise ValueError("the log does not lead to its head")
    return count


def _hold_results(rows: TxnRows) -> None:
    """Hold that what became of changes, and whose purged sessions were, can be read."""
    if layout.RESULTS not in rows.tables:
        return
    with rows.txn.cursor(db=rows.tables[layout.RESULTS]) as cursor:
        for key, value in cursor:
            if bytes(key[:1]) == layout.TRACE_PREFIX:
                SessionTrace.decode(bytes(value))
            else:
                ChangeResult.decode(bytes(value))


def _outcomes(rows: TxnRows) -> int:
    count = 0
    with rows.txn.cursor(db=rows.tables[layout.OUTCOMES]) as cursor:
        for key, value in cursor:
            if ChangeOutcome.decode(bytes(value)).change_id.encode() != bytes(key):
                raise ValueError("an outcome stands under another change's id")
            count += 1
    return count
