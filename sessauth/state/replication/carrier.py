"""The port to an engine that carries the log: an ordered, durable sequence of records, and a leader's key.

An engine orders bytes and knows nothing of sessions. Every record is signed, so it can withhold records,
never make one. etcd and PostgreSQL can do all of this; nothing here trusts an engine's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

# etcd takes requests of 1.5 MiB; a record, its keys and the comparisons must fit into one.
MAX_RECORD_BYTES: Final = 1 << 20
DIGEST_BYTES: Final = 32


class CarrierError(Exception):
    """The engine gave no answer in time, or one that can't be right. Nothing is known; ask again."""


class BeatReplaced(CarrierError):
    """Another process wrote a beat with this server's name: this one proves nothing until it is restarted."""

    def __init__(self, name: str) -> None:
        """Name the server, whose list of hosts is a beat too."""
        name = name.partition("/")[0]
        super().__init__(
            f"another process runs as server {name!r} (a copy of it, or its successor); this one can't prove "
            "freshness and can't lead: stop one of them"
        )


class CompactedRecords(Exception):
    """Records after the requested number are gone: take a snapshot. ``first`` is the lowest that is left."""

    def __init__(self, first: int) -> None:
        """Keep the lowest number."""
        super().__init__(f"records below {first} are gone")
        self.first = first


class AppendStatus(Enum):
    """The answer to an append."""

    APPENDED = "appended"
    """The record is durable under its number, by this call or by an earlier one with the same bytes."""
    FENCED = "fenced"
    """The record can never be appended: another server leads, or the log goes on differently."""
    REFUSED = "refused"
    """The record was not appended: the engine takes no such request (too large, no permission)."""
    FULL = "full"
    """The record was not appended: the engine has no space left, and takes no write at all."""
    UNKNOWN = "unknown"
    """No member answered for as long as the caller waits: it may become durable at any moment."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of an append. ``detail`` says why, for an operator; empty if appended."""

    status: AppendStatus
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Leader:
    """The server that leads. ``term`` rises with each take-over, never 0. ``address`` is where it serves."""

    name: str
    address: str
    term: int


@dataclass(frozen=True, slots=True)
class LogHead:
    """The end of the log: the number of the last record and its digest (32 bytes); 0 and empty: no record."""

    number: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Barrier:
    """Proof of a moment: the head at some time between the call of ``barrier`` and its return.

    ``engine_id`` and ``engine_revision`` (which never falls) identify the engine's own past.
    """

    head: LogHead
    engine_id: str
    engine_revision: int


@dataclass(frozen=True, slots=True)
class EngineRoom:
    """The size of the engine's storage in bytes, its quota (0: unknown), and True if it takes no write."""

    size: int
    quota: int
    full: bool


class LogSource(Protocol):
    """The carried log as a host reads it: from the engine, or from a server that forwards it."""

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to ``limit`` records after ``after``; raises CompactedRecords or CarrierError."""
        ...

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return soon after a record after ``after`` exists, or after the time-out."""
        ...

    def barrier(self) -> Barrier:
        """Return a barrier that began after this call. Raises CarrierError."""
        ...


class Carrier(Protocol):
    """One server's connection to the engine. Any thread may call; a call blocks for at most its time-out."""

    def lead(self, name: str, address: str, ttl_ms: int) -> Leader | None:
        """Try to become the leader; None if another server is.

        The key expires ``ttl_ms`` after the last :meth:`hold`, or is removed when this server resigns. Raises
        CarrierError.
        """
        ...

    def hold(self, leader: Leader) -> bool:
        """Keep a leader's key for another ``ttl_ms``; False if it is gone. Raises CarrierError."""
        ...

    def resign(self, leader: Leader) -> None:
        """Give the key back, so that another server need not wait. Never raises: the key expires anyway."""
        ...

    def leader(self) -> Leader | None:
        """Return the current leader, None if there is none. Raises CarrierError."""
        ...

    def append(self, term: int, head: LogHead, record: bytes, digest: bytes, give_up_ms: int) -> Appended:
        """Append ``record`` (its digest: 32 bytes) after ``head``, if ``term`` leads and ``head`` is last.

        All three in one step of the engine. Idempotent: the same bytes again under the same number are
        APPENDED. A member that does not answer within a second is left for the next one, with the same bytes,
        until ``give_up_ms`` have passed; only then UNKNOWN. A term of 0 never appends.
        """
        ...

    def barrier(self, name: str, beat: bytes) -> Barrier:
        """Write this server's ``beat`` by a quorum, and read the head in the same step. Raises CarrierError.

        A member that is silent for 300 ms is not waited for alone: the next one is asked as well. The first
        beat of a carrier replaces that of a process before it, which from then on gets BeatReplaced here and
        from :meth:`lead`, :meth:`hold` and :meth:`beats`.
        """
        ...

    def beats(self) -> dict[str, bytes]:
        """Return the last beat of each server, as a quorum knows them. Raises CarrierError."""
        ...

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to ``limit`` records after ``after``, by ascending number, as one member has them.

        The answer may have fewer records than exist, or none: a gap or an end proves nothing. Raises
        CompactedRecords if the record after ``after`` was trimmed, and CarrierError.
        """
        ...

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return soon after a record after ``after`` exists, or after the time-out. A hint: read to know."""
        ...

    def trim(self, up_to: int) -> None:
        """Remove records up to this number, inclusive. Raises CarrierError."""
        ...

    def compact(self) -> None:
        """Free the space of removed or overwritten entries, where an engine keeps it. Raises CarrierError."""
        ...

    def room(self) -> EngineRoom:
        """Return the free space of the member that has the least. Raises CarrierError if none answers."""
        ...

    def seed(self, current: LogHead, head: LogHead) -> bool:
        """Replace the head of an engine that lost its past: records follow ``head`` from now on.

        Return False if the engine's value is not ``current``. Raises CarrierError. For operators only.
        """
        ...

    def close(self) -> None:
        """Close the connections. Waiting calls end with CarrierError."""
        ...
