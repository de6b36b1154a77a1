"""Refusals of an operator: new authority while everything is frozen, and sessions that a ban fits."""

from __future__ import annotations

from typing import Final

from ...errors import Rejected
from ...model.change import Change, ChangeKind, Rejection
from ..lmdb.rows import TxnRows
from ..rules.bans import require_admitted

# Kinds by which somebody may do more than before; so may by a statement for an approval.
GIVING: Final = (ChangeKind.OPEN_SESSION, ChangeKind.UPDATE_FACTS, ChangeKind.RESUME_SESSION)


def frozen_error(reason: str) -> Rejected:
    """Return the error of a change that would give authority while everything is frozen for a reason."""
    return Rejected(Rejection.FROZEN, f"no authority is given until it is thawed: {reason}")


def _grants(change: Change) -> bool:
    return change.kind is ChangeKind.ANSWER_APPROVAL and bool(change.body.get("statement"))


def require_permitted(rows: TxnRows, change: Change, at_ms: int, frozen: str) -> None:
    """Raise Rejected FROZEN or BANNED for a change that gives authority which an operator refuses.

    Nothing of it is logged or stored, so its request id is free to ask again. ``frozen`` is why everything
    is; empty: it is not.
    """
    if frozen and (change.kind in GIVING or _grants(change)):
        raise frozen_error(frozen)
    if change.kind is ChangeKind.OPEN_SESSION:
        require_admitted(rows, change.body, at_ms)
