"""The beginning of a cluster: a single host's folder becomes its first server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from ...crypto.issuer_key import KeyStatus, key_id
from ...crypto.signing_key import MessageKey
from ...errors import StateError
from ...model.change import Change, add_key
from ...model.group_record import FORMAT, SERVER_OWNER, CarriedPosition
from ...model.host import SERVER_PREFIX, HostRecord, server_instance
from ..lmdb import host_rows
from ..lmdb.rows import TxnRows
from ..writer.group import Group
from ..writer.state_writer import StateWriter
from .freshness import BOUND_MS
from .position import read_position, write_position


def found(
    state_dir: str | os.PathLike[str],
    server: str,
    key: MessageKey,
    *,
    staleness_ms: int = BOUND_MS,
    address: str = "",
    changes: Sequence[Change] = (),
) -> bytes:
    """Make a folder the first server of a cluster, and return the cluster's id (16 bytes).

    No session ends. ``changes`` are made in the same commit; a rejected one raises Rejected. The folder can
    then be opened only with the cluster's log. Raises StateError if it belongs to a cluster already,
    StateUnusable as an open does.
    """
    with StateWriter.open(state_dir) as writer:
        admit(writer, server, key.public_key, staleness_ms=staleness_ms, address=address)
        writer.run(partial(_begin, changes=changes))
        return writer.head().cluster_id


def admit(
    writer: StateWriter,
    server: str,
    public_key: bytes,
    *,
    staleness_ms: int = BOUND_MS,
    address: str = "",
) -> None:
    """Have records of a server accepted: add its public key (32 bytes) under its name.

    It may allow for ``staleness_ms`` after its last proof that it is fresh, and is reached at ``address``
    (HOST:PORT; empty: not known). Raises Rejected as the change does.
    """
    owner = SERVER_OWNER + server
    change = add_key(f"server-key/{public_key.hex()[:40]}", public_key, owner=owner, status=KeyStatus.ACTIVE)
    writer.submit(change).result().raise_if_rejected()
    host = HostRecord(
        SERVER_PREFIX + server, "", server_instance(key_id(public_key)), staleness_ms, address=address
    )
    writer.run(partial(host_rows.store_host, wanted=host))


def require_single(rows: TxnRows) -> None:
    """Raise StateError unless the rows are a single host's."""
    if read_position(rows) is not None:
        raise StateError("the folder belongs to a cluster already")


def _begin(group: Group, changes: Sequence[Change]) -> None:
    require_single(group.rows)
    for change in changes:
        group.log(change).raise_if_rejected()
    write_position(group.rows, CarriedPosition(format=FORMAT))
    group.dirty = True
