"""The brake of a whole cluster: one row, which the log carries to all hosts.

Each host copies the row into its own brake page after the commit that has it (``writer/committer.py``), and
when its folder is opened.
"""

from __future__ import annotations

from typing import Final

from ...model.group_record import ClusterBrake
from .. import layout
from .host_rows import HostGroup
from .rows import TxnRows

# The whole key.
BRAKE: Final = b"b"
MAX_REASON_BYTES: Final = 256
# About the size of the row in a commit.
ROW_BYTES: Final = 512


def cluster_brake(rows: TxnRows) -> ClusterBrake | None:
    """Return the brake of the cluster; None if it is not set. Raises StateUnusable CORRUPT."""
    return rows.decoded(layout.EVIDENCE, BRAKE, ClusterBrake.decode, "the cluster's brake")


def set_brake(group: HostGroup, reason: str, principal: str) -> None:
    """Have every host of the cluster deny every check; does nothing if it is set for this reason."""
    before = cluster_brake(group.rows)
    if before is None or before.reason != reason:
        group.put_carried(layout.EVIDENCE, BRAKE, ClusterBrake(reason, principal, group.at_ms).encode())


def release_brake(group: HostGroup) -> None:
    """Let checks allow again, where no other brake is set."""
    if cluster_brake(group.rows) is not None:
        group.delete_carried(layout.EVIDENCE, BRAKE)


def is_brake_row(key: bytes, value: bytes) -> bool:
    """Return True if a leader writes such a row; an empty value removes it."""
    if key != BRAKE:
        return False
    if not value:
        return True
    try:
        record = ClusterBrake.decode(value)
    except ValueError:
        return False
    return len(record.reason.encode()) <= MAX_REASON_BYTES


def page_reason(rows: TxnRows) -> str | None:
    """Return the text for the brake page; None: the brake of the cluster is not set."""
    brake = cluster_brake(rows)
    if brake is None:
        return None
    return f"cluster frozen by {brake.principal}" + (f": {brake.reason}" if brake.reason else "")
