"""The beginning and the end of a folder's membership in a cluster.

A single host's folder becomes the first server of a cluster. At the end of its membership it is a single
host's again, with its state.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ...clock import Clock, SystemClock
from ...crypto.keys import KeyStatus, MessageKey, key_id
from ...errors import NotLeader, StateError
from ...model.change import Change, Head, add_key, new_incarnation, remove_credential
from ...model.host import FORMAT, SERVER_OWNER, SERVER_PREFIX, CarriedPosition, HostRecord, server_instance
from .. import layout
from ..lmdb import cluster_rows
from ..lmdb.cluster_rows import read_position, write_position
from ..lmdb.rows import TxnRows
from ..writer.group import Group
from ..writer.state_writer import StateWriter
from .follower import BOUND_MS


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
    writer.run(partial(cluster_rows.store_host, wanted=host))


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


class _NoLog:
    """Carries nothing: no other host learns of this folder's writes."""

    def refusal(self) -> NotLeader | None:
        """Permit everything."""
        return None

    def append(self, group: Group) -> None:
        """Do nothing."""

    def commit_failed(self, reason: str) -> None:
        """Do nothing."""


def leave(state_dir: str | os.PathLike[str], clock: Clock | None = None) -> Head:
    """Make a cluster's folder a single host's, and return its head.

    A new incarnation ends every session: the cluster goes on without this folder, which would never learn of
    the sessions ended there. Its credentials are removed: take them before. Raises StateError if the folder
    belongs to no cluster, StateUnusable as an open does.
    """
    used = clock or SystemClock()
    with StateWriter.open(Path(state_dir), carried=_NoLog(), clock=used) as writer:
        brake = writer.cluster_brake
        if brake and not writer.braked_by_hand.engaged:
            # No longer the cluster's to release, and no operator decided that this host may allow.
            writer.brake_by_hand(f"this host left its cluster while its brake was {brake}")
        writer.run(_leave)
        writer.clear_alarm()
        writer.remove_freshness_bound()
        return writer.head()


def end_all(reason: str, clock_floor_ms: int | None = None) -> Callable[[Group], None]:
    """Return a job that begins a new incarnation, which ends every session for ``reason``.

    ``clock_floor_ms`` replaces the earliest time that any host uses; None: it stays.
    """

    def begin(group: Group) -> None:
        change = new_incarnation(
            f"{layout.SYSTEM_PREFIX}incarnation/{group.rows.current.seq + 1}",
            os.urandom(16),
            group.at_ms if clock_floor_ms is None else clock_floor_ms,
            reason,
            actor=layout.SYSTEM_ACTOR,
        )
        group.log(change)

    return begin


def drop_hosts_and_brake(group: Group) -> None:
    """Remove the rows of a cluster's hosts and of its brake, which no one could remove on a single host."""
    for host in cluster_rows.hosts(group.rows):
        cluster_rows.drop_host(group, host)
    cluster_rows.release_brake(group)


def _leave(group: Group) -> None:
    """End all sessions and the membership, in one commit: never one without the other."""
    if read_position(group.rows) is None:
        raise StateError("the folder belongs to no cluster")
    end_all("it left its cluster")(group)
    drop_hosts_and_brake(group)
    for record in cluster_rows.credentials(group.rows):
        change_id = f"{layout.SYSTEM_PREFIX}leave/{group.rows.current.seq + 1}"
        group.log(remove_credential(change_id, record.name, actor=layout.SYSTEM_ACTOR))
    group.rows.delete(layout.META, layout.CARRIED_KEY)
