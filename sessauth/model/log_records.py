"""Values that the state folder holds beside sessions: the log's head, results of changes, incarnations.

Each class mirrors one message of ``record.proto``; ``from_record`` and ``to_record`` turn it from
and into the plain dict that the kernel's codec takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from .._fast.codec import protobuf

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Head:
    """Position in the log. ``revision`` moves with each applied change, ``seq`` with each logged one.

    A session whose row is of before ``incarnation_revision`` has ended then.
    """

    format: int
    min_reader_format: int
    cluster_id: bytes
    incarnation: bytes
    revision: int = 0
    seq: int = 0
    clock_floor_ms: int = 0
    keys_generation: int = 0
    digest: bytes = b""
    incarnation_revision: int = 0

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded Head; raises ``protobuf.WireError`` if it is not canonical."""
        record: dict[str, Any] = protobuf.decode("Head", data)
        return cls(**record)

    def encode(self) -> bytes:
        """Return the canonical bytes of message Head."""
        return protobuf.encode("Head", plain(self))


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """What became of a logged change. An empty ``rejection`` means applied.

    ``revision`` is the one at which it is visible, or for a rejection at which it was judged. ``epoch`` is
    the session's behind a change of its life, 0 of other changes. ``purged_id`` is the session of a purge.
    """

    revision: int
    rejection: str = ""
    epoch: int = 0
    incarnation: bytes = b""
    purged_id: bytes = b""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded ChangeResult; raises ``protobuf.WireError`` if it is not canonical."""
        record: dict[str, Any] = protobuf.decode("ChangeResult", data)
        return cls(**record)

    def encode(self) -> bytes:
        """Return the canonical bytes of message ChangeResult."""
        return protobuf.encode("ChangeResult", plain(self))


@dataclass(frozen=True, slots=True)
class SessionTrace:
    """What is kept of a session that was purged: its owner, and its ancestors, nearest first."""

    owner: str = ""
    ancestor_ids: tuple[bytes, ...] = ()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded SessionTrace; raises ``protobuf.WireError`` if it is not canonical."""
        record: dict[str, Any] = protobuf.decode("SessionTrace", data)
        return cls(record["owner"], tuple(record["ancestor_ids"]))

    def encode(self) -> bytes:
        """Return the canonical bytes of message SessionTrace."""
        return protobuf.encode("SessionTrace", plain(self))


@dataclass(frozen=True, slots=True)
class IncarnationRecord:
    """A new incarnation: when, and why, it ended each session that had not ended.

    ``previous_revision`` is the revision at which the one before it began, 0 if there was none.
    """

    at_ms: int
    reason: str = ""
    previous_revision: int = 0

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded IncarnationRecord; raises ``protobuf.WireError`` if it is not canonical."""
        record: dict[str, Any] = protobuf.decode("IncarnationRecord", data)
        return cls(**record)

    def encode(self) -> bytes:
        """Return the canonical bytes of message IncarnationRecord."""
        return protobuf.encode("IncarnationRecord", plain(self))


def plain(value: Head | ChangeResult | SessionTrace | IncarnationRecord) -> dict[str, object]:
    """Return the fields of a record class as a dict, one level deep."""
    return {field.name: getattr(value, field.name) for field in fields(value)}
