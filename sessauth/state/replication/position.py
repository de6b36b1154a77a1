"""The folder's place in the carried log: one row, written in the same transaction as the group itself."""

from __future__ import annotations

from ...model.group_record import CarriedPosition
from .. import layout
from ..lmdb.rows import TxnRows
from ..rules.cost_rows import corrupt


def read_position(rows: TxnRows) -> CarriedPosition | None:
    """Return the place; None if the folder belongs to no cluster. Raises StateUnusable CORRUPT."""
    data = rows.get(layout.META, layout.CARRIED_KEY)
    if data is None:
        return None
    try:
        return CarriedPosition.decode(data)
    except ValueError as error:
        raise corrupt("the place in the carried log", error) from error


def write_position(rows: TxnRows, position: CarriedPosition) -> None:
    """Write the place."""
    rows.put(layout.META, layout.CARRIED_KEY, position.encode())
