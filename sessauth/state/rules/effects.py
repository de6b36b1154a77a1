"""Effects of a change: puts and deletes by table, computed before anything is written."""

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
    """Result of the rule of one kind.

    ``keys_changed`` increments the head's keys generation. ``incarnation`` and ``clock_floor_ms`` replace
    those of the head, unless empty or negative. ``permit_id`` and ``permit_deadline_ms`` describe an issued
    permit. ``session`` is the session whose state changed, for followers, or None. ``reader_format`` is the
    least format that a reader must know from now on, or 0.
    """

    writes: Sequence[Put | Delete | DeletePrefix]
    epoch: int = 0
    keys_changed: bool = False
    incarnation: bytes = b""
    clock_floor_ms: int = -1
    permit_id: bytes = b""
    permit_deadline_ms: int = 0
    session: Session | None = None
    reader_format: int = 0
