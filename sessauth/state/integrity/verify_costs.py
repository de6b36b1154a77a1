"""Reads all rows of what calls cost: whether they decode, belong to a session, and add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ...model.approval import ApprovalStatus
from ...scopes.value import NANOS, Number
from .. import layout
from ..lmdb.rows import TxnRows
from ..rules import counter_keys

_SESSION = 16
# How long a key of each kind is behind its session id and the byte that says the kind.
_KEY_BYTES = {
    counter_keys.USES: 32 + 4,
    counter_keys.LEDGER: 32,
    counter_keys.USED_APPROVAL: 16,
    counter_keys.COUNTS: 0,
    counter_keys.ASKED: 32,
}


def verify_costs(rows: TxnRows) -> tuple[int, int, int]:
    """Return how many counters, permits and approvals there are.

    Raises ValueError or StateUnusable at the first that is wrong.
    """
    permits, reserved = _permits(rows)
    approvals = _approvals(rows)
    return _counters(rows, reserved), permits, approvals


def _keys(rows: TxnRows, table: str) -> Iterator[bytes]:
    """Yield the keys of a table; each must be of a session that is there."""
    if table not in rows.tables:
        return
    session_id = b""
    with rows.txn.cursor(db=rows.tables[table]) as cursor:
        for key in map(bytes, cursor.iternext(keys=True, values=False)):
            if key[:_SESSION] != session_id:
                session_id = key[:_SESSION]
                if rows.session(session_id) is None:
                    raise ValueError(f"{table} of session {session_id.hex()} without the session")
            yield key


def _nanos(number: Number) -> int:
    return number.units * NANOS + number.nanos


def _permits(rows: TxnRows) -> tuple[int, Counter[bytes]]:
    """Hold each session's count of permits against the rows.

    Returns how many there are, and by a ledger's key how much it must hold in reserve.
    """
    reserved: Counter[bytes] = Counter()
    open_permits: Counter[bytes] = Counter()
    for key in _keys(rows, layout.PERMITS):
        permit = rows.permit(key[:_SESSION], key[_SESSION:])
        if permit is None or permit.handle != key:
            raise ValueError(f"permit {key.hex()} stands under another id")
        open_permits[permit.session_id] += 1
        for claim in permit.reserved:
            reserved[counter_keys.ledger_key(permit.session_id, claim.ledger)] += _nanos(claim.amount)
    for session_id in rows.session_ids():
        if rows.counts(session_id).open_permits != open_permits[session_id]:
            raise ValueError(f"session {session_id.hex()} has lost permits")
    return open_permits.total(), reserved


def _approvals(rows: TxnRows) -> int:
    """Hold each session's count of approvals that wait against the rows."""
    count = 0
    waiting: Counter[bytes] = Counter()
    for key in _keys(rows, layout.APPROVALS):
        record = rows.approval(key[:_SESSION], key[_SESSION:])
        if record is None or record.session_id + record.id != key:
            raise ValueError(f"approval {key.hex()} stands under another id")
        used = rows.approval_used(record.session_id, record.id)
        if used is not (record.status is ApprovalStatus.USED):
            raise ValueError(f"approval {key.hex()} is used up in one row and not in the other")
        counts = rows.counts(record.session_id)
        if record.status is ApprovalStatus.PENDING and record.epoch == counts.approvals_epoch:
            waiting[record.session_id] += 1
        count += 1
    for session_id in rows.session_ids():
        if rows.counts(session_id).open_approvals != waiting[session_id]:
            raise ValueError(f"session {session_id.hex()} has lost approvals")
    return count


def _counters(rows: TxnRows, reserved: Counter[bytes]) -> int:
    """Read every counter; each ledger must hold in reserve what the permits say."""
    count = 0
    counted: Counter[bytes] = Counter()
    for key in _keys(rows, layout.COUNTERS):
        session_id, kind, rest = key[:_SESSION], key[_SESSION : _SESSION + 1], key[_SESSION + 1 :]
        if _KEY_BYTES.get(kind) != len(rest):
            raise ValueError(f"counter {key.hex()} is of no known kind")
        if kind == counter_keys.LEDGER:
            ledger = rows.ledger(session_id, rest)
            if _nanos(ledger.spent) < 0 or _nanos(ledger.reserved) != reserved.pop(key, 0):
                raise ValueError(f"ledger {key.hex()} does not add up")
        elif kind == counter_keys.ASKED:
            record = rows.approval(session_id, rows.get(layout.COUNTERS, key) or b"")
            if record is None or counter_keys.asked_key_of(record) != key:
                raise ValueError(f"counter {key.hex()} names an approval of another call")
        elif kind != counter_keys.COUNTS and len(rows.get(layout.COUNTERS, key) or b"") != 8:
            raise ValueError(f"counter {key.hex()} is no number of 8 bytes")
        counted[session_id] += kind in (counter_keys.USES, counter_keys.LEDGER, counter_keys.USED_APPROVAL)
        count += 1
    if +reserved:
        raise ValueError(f"ledger {min(+reserved).hex()} is gone")
    for session_id in rows.session_ids():
        if rows.counts(session_id).counters != counted[session_id]:
            raise ValueError(f"session {session_id.hex()} has lost counters")
    return count
