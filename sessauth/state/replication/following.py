"""The follower's side of the carried log: a record is checked, and applied as its leader applied it.

The engine is not trusted. A record counts if an active server key of this host's own state signed it and if
it follows the record, the change and the incarnation that the folder ends with; and it must lead to the state
that its leader signed. Otherwise nothing of it is applied, and the host runs out of proofs that it is fresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import lmdb

from ...crypto.issuer_key import KeyStatus
from ...errors import InvalidReceipt, RecordRefused, StateError
from ...model.group_record import (
    FORMAT,
    OLDEST_FORMAT,
    SERVER_OWNER,
    CarriedPosition,
    CarriedRow,
    GroupRecord,
    SignedGroup,
    record_digest,
)
from ...model.receipt import Receipt, ReceiptFault
from .. import layout
from ..lmdb import evidence_rows
from ..lmdb.brake_row import is_brake_row
from ..lmdb.host_rows import is_host_row
from ..lmdb.rows import TxnRows
from ..writer.group import DUE_APPROVAL, DUE_PERMIT, Group
from ..writer.log_formats import row_format
from .carrier import MAX_RECORD_BYTES
from .position import read_position, write_position

_KEY_ID_BYTES: Final = 32
_ID_BYTES: Final = 16
_TIME_BYTES: Final = 8


def apply_records(group: Group, records: Sequence[bytes]) -> int:
    """Apply encoded records in order; return the number of the last one that the folder then holds.

    A record that the folder has already is skipped. Raises RecordRefused; the group must not be committed
    then.
    """
    position = read_position(group.rows)
    if position is None:
        raise RecordRefused("the folder belongs to no cluster; run join", "NOT_IN_CLUSTER")
    for encoded in records:
        position = _apply(group, encoded, position)
    return position.number


def _apply(group: Group, encoded: bytes, position: CarriedPosition) -> CarriedPosition:
    signed, record = decode_record(encoded)
    digest = record_digest(encoded)
    if record.number <= position.number:
        if record.number == position.number and digest != position.digest:
            raise RecordRefused(
                f"record {record.number} is another one than this host applied: the log was written twice",
                "OTHER_PAST",
            )
        return position
    require_signature(group.rows, signed, record)
    _require_successor(group.rows, record, position)
    _replay(group, record)
    written = max(position.format, record.format if record.format > OLDEST_FORMAT else 0)
    adopted = record.number if record.begins_engine else position.adopted
    reached = CarriedPosition(record.number, digest, record.term, record.engine_id, written, adopted)
    write_position(group.rows, reached)
    group.dirty = True
    return reached


def decode_record(encoded: bytes) -> tuple[SignedGroup, GroupRecord]:
    """Return a record, of any signer. Raises RecordRefused UNREADABLE or NEWER_FORMAT."""
    if len(encoded) > MAX_RECORD_BYTES:
        raise RecordRefused(f"a record of {len(encoded)} bytes, which no leader makes", "UNREADABLE")
    try:
        signed = SignedGroup.decode(encoded)
        record = signed.record()
    except ValueError as error:
        raise RecordRefused(f"a record that can't be read: {error}", "UNREADABLE") from error
    if record.format > FORMAT:
        raise RecordRefused(
            f"record {record.number} has format {record.format}, this program reads {FORMAT}: upgrade "
            "sessauth on this host, then start it again",
            "NEWER_FORMAT",
        )
    if record.format < OLDEST_FORMAT:
        raise RecordRefused(f"record {record.number} has no format", "UNREADABLE")
    return signed, record


def require_signature(rows: TxnRows, signed: SignedGroup, record: GroupRecord) -> None:
    """Require an active key of the server that the record names, by this host's own state."""
    key = rows.key(signed.key_id) if len(signed.key_id) == _KEY_ID_BYTES else None
    if key is None or key.owner != SERVER_OWNER + record.server:
        raise RecordRefused(
            f"record {record.number} is signed by no key of server {record.server!r}", "UNKNOWN_KEY"
        )
    if key.status is not KeyStatus.ACTIVE:
        raise RecordRefused(
            f"record {record.number} is signed by a key of {record.server!r} that is {key.status.name}",
            "INACTIVE_KEY",
        )
    if not signed.is_signed_by(key.public_key):
        raise RecordRefused(f"the signature of record {record.number} is wrong: it was altered", "ALTERED")


def _require_successor(rows: TxnRows, record: GroupRecord, position: CarriedPosition) -> None:
    """Require that the record follows this folder's rows."""
    head = rows.current
    if record.cluster_id != head.cluster_id:
        raise RecordRefused(f"record {record.number} belongs to another cluster", "FOREIGN")
    if record.number != position.number + 1:
        raise RecordRefused(f"record {record.number} comes after {position.number}: some are missing", "GAP")
    if record.previous != position.digest:
        raise RecordRefused(
            f"record {record.number} follows another record {position.number} than this host applied",
            "OTHER_PAST",
        )
    if (record.incarnation, record.after_seq) != (head.incarnation, head.seq):
        raise RecordRefused(
            f"record {record.number} follows change {record.after_seq} of another incarnation or log; this "
            f"host is at {head.seq}",
            "OTHER_PAST",
        )
    if position.engine_id not in ("", record.engine_id) and not record.begins_engine:
        raise RecordRefused(
            f"record {record.number} was carried by engine {record.engine_id!r}, and this host's by "
            f"{position.engine_id!r}",
            "OTHER_PAST",
        )
    if record.format < position.writes:
        raise RecordRefused(
            f"record {record.number} has format {record.format}, and the cluster writes {position.writes}",
            "DIVERGED",
        )
    if record.term < position.term and not record.begins_engine:
        raise RecordRefused(
            f"record {record.number} is of term {record.term}, older than {position.term}", "OLD_TERM"
        )


def _replay(group: Group, record: GroupRecord) -> None:
    group.is_replay = True
    try:
        for row in record.rows:
            _require_carried(record, row)
        for change in record.changes:
            group.replay(change)
        for row in record.rows:
            _require_session(group.rows, record, row)
            group.replay_row(row)
    except lmdb.BadValsizeError as error:
        raise RecordRefused(f"record {record.number} has a key no leader writes", "FOREIGN_ROW") from error
    except (StateError, lmdb.Error):
        # Refused above, or a fault of this host, which engages its brake.
        raise
    except Exception as error:
        # Half of the record is written by now: the group must not be committed after any error.
        raise RecordRefused(
            f"record {record.number} has a change that this program can't apply "
            f"({type(error).__name__}: {error}); upgrade it",
            "NEWER_FORMAT",
        ) from error
    group.wall_ms = record.at_ms
    head = group.rows.current
    if (head.digest, head.revision) != (record.head_digest, record.revision):
        raise RecordRefused(
            f"record {record.number} leads to revision {head.revision} here and to {record.revision} at "
            "its leader",
            "DIVERGED",
        )
    group.drop_old_rows()


def _require_carried(record: GroupRecord, row: CarriedRow) -> None:
    """Require a row of a table, a shape and the record's format, that a leader writes beside its changes."""
    if not _is_carried(row) or row_format(row.table, row.key, row.value) > record.format:
        raise RecordRefused(f"record {record.number} writes a row that no record may", "FOREIGN_ROW")


def _is_carried(row: CarriedRow) -> bool:
    key, value, removed = row.key, row.value, row.removed
    if row.table == layout.LEASES:
        return len(key) == _ID_BYTES and len(value) == (0 if removed else _TIME_BYTES)
    if row.table == layout.DUE:
        item = key[_TIME_BYTES + _ID_BYTES :]
        is_item = len(item) == 1 + _ID_BYTES and item[:1] in (DUE_PERMIT, DUE_APPROVAL)
        return len(key) >= _TIME_BYTES + _ID_BYTES and not value and (not item or is_item)
    if row.table == layout.EVIDENCE:
        session_id = key[1:]
        is_receipt = key[:1] == evidence_rows.RECEIPT and len(session_id) == _ID_BYTES
        if is_receipt:
            return not value if removed else _is_receipt_of(session_id, value)
        return bool(value) != removed and (is_host_row(key, value) or is_brake_row(key, value))
    return False


def _is_receipt_of(session_id: bytes, data: bytes) -> bool:
    try:
        return Receipt.decode(data).session_id == session_id
    except InvalidReceipt as error:
        if error.fault == ReceiptFault.UNSUPPORTED_VERSION:
            raise
        return False


def _require_session(rows: TxnRows, record: GroupRecord, row: CarriedRow) -> None:
    """Require the session of a receipt, by the rows that the record's changes left."""
    is_receipt = row.table == layout.EVIDENCE and row.key[:1] == evidence_rows.RECEIPT
    if is_receipt and not row.removed and rows.session(row.key[1:]) is None:
        raise RecordRefused(f"record {record.number} has a receipt of no session", "FOREIGN_ROW")
