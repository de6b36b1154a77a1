"""The end of a folder's membership: it becomes a single host's again, with its state."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...clock import Clock, SystemClock
from ...errors import NotLeader, StateError
from ...model.change import new_incarnation, remove_credential
from ...model.log_records import Head
from .. import layout
from ..lmdb import brake_row, credential_rows, host_rows
from ..writer.group import Group
from ..writer.state_writer import StateWriter
from .position import read_position


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
    for host in host_rows.hosts(group.rows):
        host_rows.drop_host(group, host)
    brake_row.release_brake(group)


def _leave(group: Group) -> None:
    """End all sessions and the membership, in one commit: never one without the other."""
    if read_position(group.rows) is None:
        raise StateError("the folder belongs to no cluster")
    end_all("it left its cluster")(group)
    drop_hosts_and_brake(group)
    for record in credential_rows.credentials(group.rows):
        change_id = f"{layout.SYSTEM_PREFIX}leave/{group.rows.current.seq + 1}"
        group.log(remove_credential(change_id, record.name, actor=layout.SYSTEM_ACTOR))
    group.rows.delete(layout.META, layout.CARRIED_KEY)
