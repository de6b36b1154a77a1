"""Formats of the carried log: the one that each change and row came with.

A host that reads only an earlier format raises its alarm at anything that a later one added. So the leader
writes none of it until each host of the cluster said that it reads it; `raise_format` then has the log itself
say so.

A kind or a row that is not listed here is of the latest format. To add one, raise ``FORMAT`` if the last
release had that already, and list that release's kinds and rows.
"""

from __future__ import annotations

from typing import Final

from ...model.change import Change, ChangeKind
from ...model.group_record import FORMAT, OLDEST_FORMAT
from .. import layout
from ..lmdb import evidence_rows
from ..lmdb.host_rows import HOST, host_format

_OLDEST_KINDS: Final = frozenset(
    {
        ChangeKind.OPEN_SESSION,
        ChangeKind.NARROW_SESSION,
        ChangeKind.UPDATE_FACTS,
        ChangeKind.SUSPEND_SESSION,
        ChangeKind.RESUME_SESSION,
        ChangeKind.END_SESSION,
        ChangeKind.REVOKE,
        ChangeKind.ADD_KEY,
        ChangeKind.SET_KEY_STATUS,
        ChangeKind.PURGE_SESSION,
        ChangeKind.NEW_INCARNATION,
        ChangeKind.CONSUME,
        ChangeKind.SETTLE_PERMIT,
        ChangeKind.REQUEST_APPROVAL,
        ChangeKind.ANSWER_APPROVAL,
    }
)
_OLDEST_TABLES: Final = (layout.LEASES, layout.DUE)
_OLDEST_EVIDENCE: Final = (evidence_rows.RECEIPT, HOST)


def kind_format(kind: ChangeKind) -> int:
    """Return the format that a kind of change came with."""
    return OLDEST_FORMAT if kind in _OLDEST_KINDS else FORMAT


def change_format(change: Change) -> int:
    """Return the format that a change came with: of its kind, or of a later addition to it."""
    if change.body.get("observe") or change.body.get("enforce"):
        return FORMAT
    approval = change.body.get("approval")
    if isinstance(approval, dict) and (approval.get("scope_text") or approval.get("charges")):
        return FORMAT
    return kind_format(change.kind)


def row_format(table: str, key: bytes, value: bytes) -> int:
    """Return the format that a carried row came with; of a host's row, that of its fields."""
    if table == layout.EVIDENCE and key.startswith(HOST) and value:
        return host_format(value)
    is_oldest = table in _OLDEST_TABLES or (table == layout.EVIDENCE and key.startswith(_OLDEST_EVIDENCE))
    return OLDEST_FORMAT if is_oldest else FORMAT
