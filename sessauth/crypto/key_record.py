"""Issuer keys as the state records them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Self

from .._fast.codec import protobuf


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
        """Read an encoded KeyRecord; raises ``protobuf.WireError`` if it is not canonical."""
        record: dict[str, Any] = protobuf.decode("KeyRecord", data)
        record["status"] = KeyStatus(record["status"])
        return cls(**record)

    def to_record(self) -> dict[str, object]:
        """Return the dict of message KeyRecord."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def encode(self) -> bytes:
        """Return the canonical bytes of message KeyRecord."""
        return protobuf.encode("KeyRecord", self.to_record())
