"""The file of a snapshot: a copy of a server's data, and the proof that it is a state of the cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import lmdb

from ...errors import RecordRefused, StateError
from ...model.group_record import SignedGroup, record_digest
from .. import layout
from ..host import preflight
from ..lmdb.environment import LmdbSource, open_environment, open_tables
from ..lmdb.rows import TxnRows
from .following import decode_record, require_signature
from .position import read_position


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
