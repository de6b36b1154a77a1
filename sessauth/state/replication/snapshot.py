"""A snapshot: all rows that a cluster's hosts have in common, written over a host's own in one transaction.

A host needs one to join, and when the records that it missed are gone. Verifiers that have the folder open
stay open: they see one commit. The file of a snapshot has a copy of a server's data, and the proof that it is
a state of the cluster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import lmdb

from ...errors import RecordRefused, StateError
from ...model.host import FORMAT, CarriedPosition, SignedGroup, record_digest
from .. import layout
from ..host import folder as preflight
from ..lmdb import cluster_rows, terms
from ..lmdb import rows as tallies
from ..lmdb.cluster_rows import read_position
from ..lmdb.environment import LmdbSource, open_environment, open_tables
from ..lmdb.rows import TxnRows
from ..rules.logins import CUTS
from ..rules.validation import BANS
from ..writer.group import Group
from .carried_log import decode_record, require_signature

# Tables whose every row is common.
_WHOLE: Final = tuple(name for name in layout.TABLES if name not in (layout.META, layout.EVIDENCE))
_CARRIED_EVIDENCE: Final = (
    cluster_rows.RECEIPT,
    cluster_rows.HOST,
    cluster_rows.BRAKE,
    cluster_rows.CREDENTIAL,
    BANS,
    CUTS,
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
    if not terms.is_made(rows):
        terms.build(rows.txn, rows.tables)
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


def copy(source: LmdbSource, folder: Path) -> int:
    """Copy an open folder's data into an empty folder; return the number of the last record in it.

    Raises StateError if the copy can't be made, RecordRefused FOREIGN if the folder is a single host's.
    """
    try:
        source.env.copy(str(folder), compact=True)
    except lmdb.Error as error:
        raise StateError(f"{folder}: the copy failed ({error}); free some space") from error
    with reading(folder) as rows:
        position = read_position(rows)
    if position is None:
        raise RecordRefused("the folder belongs to a single host, not to a cluster", "FOREIGN")
    return position.number


def digest(file: IO[bytes]) -> bytes:
    """Return the BLAKE2b-256 of a file that is open at its beginning; leaves it at its end."""
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).digest()  # type: ignore[arg-type]


@contextmanager
def reading(folder: Path) -> Iterator[TxnRows]:
    """Give the rows of a copy. Raises StateUnusable if they can't be read."""
    data = folder / layout.DATA_FILE
    preflight.check_data_pages(data)
    size = max(data.stat().st_size, 1 << 20)
    env = open_environment(folder, readonly=True, map_size=size, lock=False)
    try:
        tables = open_tables(env, create=False)
        with env.begin() as txn:
            yield TxnRows(txn, tables)
    finally:
        env.close()


def require_genuine(snapshot: TxnRows, record: bytes, own: TxnRows | None) -> None:
    """Require that a copy is at the head that ``record`` (a SignedGroup; empty: none) states.

    With a host's own rows an active server key of these must have signed it. Without them, on the first
    join, the server that gave both is believed. Raises RecordRefused.
    """
    position = read_position(snapshot)
    if position is None:
        raise RecordRefused("the snapshot was made by a single host, not by a cluster", "FOREIGN")
    if not position.number and not record:
        if own is not None:
            raise RecordRefused("the snapshot's cluster has no record yet; nothing proves it", "OLD")
        return
    signed, group = decode_record(record)
    if (group.number, record_digest(record)) != (position.number, position.digest):
        raise RecordRefused(
            f"the snapshot ends with another record than {group.number}, which came with it", "ALTERED"
        )
    _require_head(snapshot, signed)
    if own is not None:
        require_signature(own, signed, group)


def _require_head(snapshot: TxnRows, signed: SignedGroup) -> None:
    group, head = signed.record(), snapshot.head()
    if (group.cluster_id, group.head_digest, group.revision) != (head.cluster_id, head.digest, head.revision):
        raise RecordRefused(
            f"the snapshot is at revision {head.revision}, its record {group.number} leads to another state",
            "DIVERGED",
        )
