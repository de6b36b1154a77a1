"""What a change writes: puts and deletes by table, computed before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...model.session import Session


@dataclass(frozen=True, slots=True)
class Put:
    """Write a row."""

    table: str
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a row, if it is there."""

    table: str
    key: bytes


@dataclass(frozen=True, slots=True)
class DeletePrefix:
    """Remove all rows whose key begins with ``prefix``."""

    table: str
    prefix: bytes


@dataclass(frozen=True, slots=True)
class Effect:
    """What the rule of one kind asks for.

    ``keys_moved``: the head's keys generation moves. ``incarnation`` and ``clock_floor_ms`` replace those
    of the head, unless empty or negative. ``permit_id`` and ``permit_deadline_ms`` are of a permit that was
    given. ``session`` is the one whose life changed, for followers to be told of; None if none did.
    """

    writes: Sequence[Put | Delete | DeletePrefix]
    epoch: int = 0
    keys_moved: bool = False
    incarnation: bytes = b""
    clock_floor_ms: int = -1
    permit_id: bytes = b""
    permit_deadline_ms: int = 0
    session: Session | None = None
