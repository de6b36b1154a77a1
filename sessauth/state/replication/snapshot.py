"""A snapshot: all rows that a cluster's hosts have in common, written over a host's own in one transaction.

A host needs one to join, and when the records that it missed are gone. Verifiers that have the folder open
stay open: they see one commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...errors import RecordRefused
from ...model.group_record import FORMAT, CarriedPosition
from .. import layout
from ..lmdb import brake_row, credential_rows, evidence_rows, host_rows, tallies
from ..lmdb.rows import TxnRows
from ..rules.bans import BANS
from ..writer.group import Group
from .position import read_position

# Tables whose every row is common.
_WHOLE: Final = tuple(name for name in layout.TABLES if name not in (layout.META, layout.EVIDENCE))
_CARRIED_EVIDENCE: Final = (
    evidence_rows.RECEIPT,
    host_rows.HOST,
    brake_row.BRAKE,
    credential_rows.CREDENTIAL,
    BANS,
)
# Rows of this host alone.
_LOCAL_META: Final = frozenset({layout.PROBE_KEY})
_IsCommon = Callable[[bytes], bool]


def install(group: Group, snapshot: TxnRows, decided_behind: int | None = None) -> CarriedPosition:
    """Replace the common rows by a snapshot's, raw and in key order; return the place in the log.

    Unless ``decided_behind`` is None, an operator must have had the log go on after that record.

    Raises RecordRefused FOREIGN if the folder holds another cluster's state, OLD if it is ahead of the
    snapshot, OTHER_PAST if its last record is another one; nothing may be committed then.
    """
    reached = read_position(snapshot)
    if reached is None:
        raise RecordRefused("the snapshot was made by a single host, not by a cluster", "FOREIGN")
    if reached.writes > FORMAT:
        raise RecordRefused(
            f"the cluster writes format {reached.writes} of its log, this program reads {FORMAT}: "
            "upgrade sessauth on this host, then start it again",
            "NEWER_FORMAT",
        )
    if decided_behind is not None and reached.adopted <= decided_behind:
        raise RecordRefused(
            f"no operator had the log go on after record {decided_behind} in the snapshot", "OLD"
        )
    rows, head = group.rows, snapshot.head()
    own = read_position(rows)
    if own is not None and (own.number or rows.head().seq):
        if rows.head().cluster_id != head.cluster_id:
            raise RecordRefused("the snapshot belongs to another cluster", "FOREIGN")
        if own.number > reached.number:
            raise RecordRefused(
                f"the snapshot ends at record {reached.number}, this host holds {own.number}", "OLD"
            )
        if own.number == reached.number and own.digest != reached.digest:
            raise RecordRefused(
                f"the snapshot's record {own.number} is another one than this host applied", "OTHER_PAST"
            )
    for name in _WHOLE:
        rows.txn.drop(rows.tables[name], delete=False)
        if name in snapshot.tables:
            with snapshot.txn.cursor(db=snapshot.tables[name]) as source:
                rows.fill(name, source.iternext())
    if layout.TALLIES not in snapshot.tables:
        tallies.build(rows.txn, rows.tables)
    _replace(rows, snapshot, layout.META, lambda key: key not in _LOCAL_META)
    _replace(rows, snapshot, layout.EVIDENCE, lambda key: key.startswith(_CARRIED_EVIDENCE))
    rows.current = head
    group.dirty = group.moves_brake = True
    return reached


def _replace(rows: TxnRows, snapshot: TxnRows, table: str, is_common: _IsCommon) -> None:
    """Replace the rows of a table that has some of this host alone."""
    for source, write in ((rows, False), (snapshot, True)):
        if table not in source.tables:
            continue
        with source.txn.cursor(db=source.tables[table]) as cursor:
            found = [(bytes(key), bytes(value)) for key, value in cursor if is_common(bytes(key))]
        for key, value in found:
            if write:
                rows.put(table, key, value)
            else:
                rows.delete(table, key)
