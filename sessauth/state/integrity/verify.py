"""Verification of a whole state: all rows decode and are consistent, and the log leads to its head.

It runs in steps, so that a large state can be verified while it is served: first the pages table by table,
then rows of sessions by ranges of session ids.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import lmdb

from ..._fast import _check as kernel
from ...errors import StateUnusable
from ...model.approval import ApprovalStatus
from ...model.change import Change, ChangeOutcome, ChangeResult, SessionTrace, nanos
from .. import layout
from ..lmdb import rows as tallies
from ..lmdb import terms
from ..lmdb.cluster_rows import verify_evidence
from ..lmdb.environment import LmdbSource
from ..lmdb.rows import ALL, END, MAX_KEY_BYTES, Span, TxnRows, field_number
from ..rules import effects
from ..rules.apply import chain_digest
from ..rules.effects import verify_incarnations
from ..rules.sessions import revoked_value
from .pages import FREE, verify_pages

_PROGRESS_EVERY: Final = 256
# Few enough for a step of some milliseconds.
SESSIONS_A_STEP: Final = 128
TERMS_A_STEP: Final = 512
_REVOKED_COUNT: Final = field_number("SessionRecord", "revoked_count")
_SESSION = 16
_REVISION = 8
# The bytes of a key of each kind after the session id and the byte of the kind.
_KEY_BYTES = {
    effects.USES: 32 + 4,
    effects.LEDGER: 32,
    effects.USED_APPROVAL: 16,
    effects.COUNTS: 0,
    effects.REQUESTED: 32,
}


@dataclass(frozen=True, slots=True)
class Verified:
    """Numbers of the rows that were read."""

    sessions: int
    revoked: int
    keys: int
    changes: int
    outcomes: int
    counters: int
    permits: int
    approvals: int
    registrations: int
    receipts: int


def verify(rows: TxnRows, on_progress: Callable[[int, int], None] | None = None) -> Verified:
    """Read every row in one transaction; raises StateUnusable CORRUPT at the first wrong one.

    ``on_progress`` is called now and then with the number of sessions read, and the number of all.
    """
    with _corrupt():
        verify_incarnations(rows)
        sessions = _sessions(rows, ALL, on_progress)
        after = terms.verify_index(rows, b"", TERMS_A_STEP)
        while after:
            after = terms.verify_index(rows, after, TERMS_A_STEP)
        return Verified(
            sessions,
            _revoked(rows, ALL),
            len([rows.key(key) for key in rows.key_ids()]),
            _log(rows),
            _outcomes(rows),
            *_costs(rows, ALL),
            *verify_evidence(rows),
        )


class Verification:
    """Verifies a state in steps, each of one consistent read, while it may be written; for one thread."""

    def __init__(self, source: LmdbSource) -> None:
        """Begin before the first session."""
        self._source = source
        self._after = b""
        # Before any row, since LMDB ends the process at some damages.
        self._tables = [FREE, *layout.TABLES]
        self._rest: list[Callable[[TxnRows], object]] = [verify_incarnations, _keys_of_issuers, _outcomes]
        self._rest += [verify_evidence, _log]
        self._sessions_done = False
        self._index_after = b""
        self._index_done = False

    @property
    def done(self) -> bool:
        """True once every row was verified."""
        return not self._tables and self._index_done and not self._rest

    def work(self, seconds: float) -> bool:
        """Verify for this time, one step at least; return :attr:`done`.

        Raises StateUnusable CORRUPT at the first wrong page or row.
        """
        until = time.monotonic() + seconds
        while not self.done:
            if self._tables:
                verify_pages(self._source.env, self._source.reading, (self._tables.pop(),))
            else:
                with self._source.rows() as rows, _corrupt():
                    self._step(rows)
            if time.monotonic() >= until:
                break
        return self.done

    def _step(self, rows: TxnRows) -> None:
        if self._sessions_done and not self._index_done:
            self._index_after = terms.verify_index(rows, self._index_after, TERMS_A_STEP)
            self._index_done = not self._index_after
            return
        if self._sessions_done:
            self._rest[0](rows)
            del self._rest[0]
            return
        ids = rows.ids_after(self._after, SESSIONS_A_STEP)
        self._sessions_done = len(ids) < SESSIONS_A_STEP
        # Rows without their session sort between two ids, before the first or after the last.
        until = END if self._sessions_done else ids[-1] + b"\xff" * MAX_KEY_BYTES
        span = Span(self._after + b"\xff" * MAX_KEY_BYTES if self._after else b"", until)
        _sessions(rows, span, None)
        _revoked(rows, span)
        _costs(rows, span)
        self._after = ids[-1] if ids else self._after


@contextmanager
def _corrupt() -> Iterator[None]:
    """Raise StateUnusable CORRUPT for a row that is wrong or can't be read."""
    try:
        yield
    except (ValueError, lmdb.Error) as error:
        raise StateUnusable(f"{error}; restore the state from a backup", "CORRUPT") from error


def _keys_of_issuers(rows: TxnRows) -> None:
    for key in rows.key_ids():
        rows.key(key)


def _session_ids(rows: TxnRows, span: Span) -> Iterator[bytes]:
    return span.keys(rows.txn, rows.tables[layout.SESSIONS])


def _sessions(rows: TxnRows, span: Span, on_progress: Callable[[int, int], None] | None) -> int:
    count, total = 0, int(rows.txn.stat(rows.tables[layout.SESSIONS])["entries"])
    for session_id in _session_ids(rows, span):
        if on_progress is not None and not count % _PROGRESS_EVERY:
            on_progress(count, total)
        session = rows.leased_session(session_id)
        if session is None or session.id != session_id:
            raise ValueError(f"session {session_id.hex()} is stored under another id")
        if session.lease_ms and not session.lease_deadline_ms:
            raise ValueError(f"session {session_id.hex()} has lost its lease")
        count += 1
    terms.verify_sessions(rows, _session_ids(rows, span))
    return count


def _revoked(rows: TxnRows, span: Span) -> int:
    """Compare each session's count of revoked blocks with the rows, their check sums, and the tallies."""
    counts: Counter[bytes] = Counter()
    for key, value in span.items(rows.txn, rows.tables[layout.REVOKED]):
        counts[key[:_SESSION]] += 1
        revision = int.from_bytes(value[:_REVISION], "big")
        if value[_REVISION:] and value != revoked_value(revision, key[_SESSION:]):
            raise ValueError(f"a revocation of session {key[:_SESSION].hex()} has a damaged row")
    total = counts.total()
    for session_id in _session_ids(rows, span):
        row = rows.get(layout.SESSIONS, session_id) or b""
        if kernel.read_number(row, _REVOKED_COUNT) != counts.pop(session_id, 0):
            raise ValueError(f"session {session_id.hex()} has lost revocations")
    if counts:
        raise ValueError(f"revocations of session {min(counts).hex()} without the session")
    tallies.verify(rows.txn, rows.tables, span)
    return total


def _log(rows: TxnRows) -> int:
    """Fold the digest over the retained changes; it must end at the head's."""
    head = rows.head()
    seq, digest = rows.compacted()
    count = 0
    with rows.txn.cursor(db=rows.tables[layout.CHANGES]) as cursor:
        for key, value in cursor:
            seq += 1
            if int.from_bytes(key, "big") != seq:
                raise ValueError(f"change {seq} is missing")
            Change.decode(bytes(value))
            digest = chain_digest(digest, seq, bytes(value))
            count += 1
    _results(rows)
    if (seq, digest) != (head.seq, head.digest or bytes(32)):
        raise ValueError("the log does not lead to its head")
    return count


def _results(rows: TxnRows) -> None:
    """Decode the results of changes, and the traces of purged sessions."""
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
                raise ValueError("an outcome is stored under another change's id")
            count += 1
    return count


def _costs(rows: TxnRows, span: Span) -> tuple[int, int, int]:
    """Return the numbers of counters, permits and approvals.

    Raises ValueError or StateUnusable at the first wrong row.
    """
    permits, reserved = _permits(rows, span)
    approvals = _approvals(rows, span)
    return _counters(rows, reserved, span), permits, approvals


def _keys(rows: TxnRows, table: str, span: Span) -> Iterator[bytes]:
    """Yield the keys of a table; raises ValueError at a key without its session."""
    if table not in rows.tables:
        return
    session_id = b""
    for key in span.keys(rows.txn, rows.tables[table]):
        if key[:_SESSION] != session_id:
            session_id = key[:_SESSION]
            if rows.session(session_id) is None:
                raise ValueError(f"{table} of session {session_id.hex()} without the session")
        yield key


def _permits(rows: TxnRows, span: Span) -> tuple[int, Counter[bytes]]:
    """Compare each session's count of permits with the rows.

    Returns the number of permits, and the reserve that each ledger must have, by its key.
    """
    reserved: Counter[bytes] = Counter()
    open_permits: Counter[bytes] = Counter()
    for key in _keys(rows, layout.PERMITS, span):
        permit = rows.permit(key[:_SESSION], key[_SESSION:])
        if permit is None or permit.handle != key:
            raise ValueError(f"permit {key.hex()} is stored under another id")
        open_permits[permit.session_id] += 1
        for claim in permit.reserved:
            reserved[effects.ledger_key(permit.session_id, claim.ledger)] += nanos(claim.amount)
    for session_id in _session_ids(rows, span):
        if rows.counts(session_id).open_permits != open_permits[session_id]:
            raise ValueError(f"session {session_id.hex()} has lost permits")
    return open_permits.total(), reserved


def _approvals(rows: TxnRows, span: Span) -> int:
    """Compare each session's count of pending approvals with the rows; return the number of approvals."""
    count = 0
    waiting: Counter[bytes] = Counter()
    for key in _keys(rows, layout.APPROVALS, span):
        record = rows.approval(key[:_SESSION], key[_SESSION:])
        if record is None or record.session_id + record.id != key:
            raise ValueError(f"approval {key.hex()} is stored under another id")
        used = rows.approval_used(record.session_id, record.id)
        if used is not (record.status is ApprovalStatus.USED):
            raise ValueError(f"approval {key.hex()} is used up in one row and not in the other")
        counts = rows.counts(record.session_id)
        if record.status is ApprovalStatus.PENDING and record.epoch == counts.approvals_epoch:
            waiting[record.session_id] += 1
        count += 1
    for session_id in _session_ids(rows, span):
        if rows.counts(session_id).open_approvals != waiting[session_id]:
            raise ValueError(f"session {session_id.hex()} has lost approvals")
    return count


def _counters(rows: TxnRows, reserved: Counter[bytes], span: Span) -> int:
    """Read every counter, and return their number; each ledger's reserve must be that of the permits."""
    count = 0
    counted: Counter[bytes] = Counter()
    for key in _keys(rows, layout.COUNTERS, span):
        session_id, kind, rest = key[:_SESSION], key[_SESSION : _SESSION + 1], key[_SESSION + 1 :]
        if _KEY_BYTES.get(kind) != len(rest):
            raise ValueError(f"counter {key.hex()} has no known kind")
        if kind == effects.LEDGER:
            ledger = rows.ledger(session_id, rest)
            if nanos(ledger.spent) < 0 or nanos(ledger.reserved) != reserved.pop(key, 0):
                raise ValueError(f"ledger {key.hex()} does not add up")
        elif kind == effects.REQUESTED:
            record = rows.approval(session_id, rows.get(layout.COUNTERS, key) or b"")
            if record is None or effects.request_key_of(record) != key:
                raise ValueError(f"counter {key.hex()} names an approval of another call")
        elif kind != effects.COUNTS and len(rows.get(layout.COUNTERS, key) or b"") != 8:
            raise ValueError(f"counter {key.hex()} is no number of 8 bytes")
        counted[session_id] += kind in (effects.USES, effects.LEDGER, effects.USED_APPROVAL)
        count += 1
    if +reserved:
        raise ValueError(f"ledger {min(+reserved).hex()} is gone")
    for session_id in _session_ids(rows, span):
        if rows.counts(session_id).counters != counted[session_id]:
            raise ValueError(f"session {session_id.hex()} has lost counters")
    return count
