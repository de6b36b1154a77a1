"""Values that the state folder holds beside sessions: the head of the log, and issuer keys.

Each class mirrors one message of ``record.proto``; ``from_record`` and ``to_record`` turn it from
and into the plain dict that the kernel's codec takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Self

from ._fast import wire

Record = Mapping[str, object]


class KeyStatus(IntEnum):
    """The life of an issuer key; it only ever moves down this list."""

    UNSPECIFIED = 0
    PREPARED = 1
    ACTIVE = 2
    RETIRED = 3
    DISTRUSTED = 4


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An issuer key as the state knows it: public half, status, and whose sessions it may root."""

    id: bytes
    public_key: bytes
    status: KeyStatus
    owner: str = ""
    added_at_ms: int = 0
    activated_at_ms: int = 0
    retired_at_ms: int = 0
    distrusted_at_ms: int = 0
    revision: int = 0

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded KeyRecord; raises ``wire.WireError`` if it is not canonical."""
        record: dict[str, Any] = wire.decode("KeyRecord", data)
        record["status"] = KeyStatus(record["status"])
        return cls(**record)

    def to_record(self) -> dict[str, object]:
        """Return the dict of message KeyRecord."""
        return plain(self)

    def encode(self) -> bytes:
        """Return the canonical bytes of message KeyRecord."""
        return wire.encode("KeyRecord", plain(self))


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log stands. ``revision`` moves with each applied change, ``seq`` with each logged one."""

    format: int
    min_reader_format: int
    cluster_id: bytes
    incarnation: bytes
    revision: int = 0
    seq: int = 0
    clock_floor_ms: int = 0
    keys_generation: int = 0
    digest: bytes = b""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded Head; raises ``wire.WireError`` if it is not canonical."""
        record: dict[str, Any] = wire.decode("Head", data)
        return cls(**record)

    def encode(self) -> bytes:
        """Return the canonical bytes of message Head."""
        return wire.encode("Head", plain(self))


def plain(value: KeyRecord | Head) -> dict[str, object]:
    """Return the fields of a record class as a dict, one level deep."""
    return {field.name: getattr(value, field.name) for field in fields(value)}
