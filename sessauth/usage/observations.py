"""Observations of sessions by verifiers: blocks of tokens, allowed calls, uses after the end.

Verifiers collect and report these values, the control process adds them up and reports them. Times are ms
since 1970. Adding up is bounded in bytes; observations that find no room are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ..reasons import Reason
from .session_usage import SessionUsage

# Approximate size of an entry in memory, without its texts.
SESSION_BYTES: Final = 600
BLOCK_BYTES: Final = 400
LATE_BYTES: Final = 300
# Size of a usage record in memory for each byte of its JSON.
USAGE_FACTOR: Final = 5
# A usage record is weighed again after growing by so much.
WEIGH_BYTES: Final = 262_144

# Reasons of denials after the end of a session.
AFTER_END: Final = frozenset({Reason.SESSION_ENDED, Reason.LEASE_LAPSED, Reason.SESSION_EXPIRED})


@dataclass(slots=True)
class BlockObservation:
    """A block of a token with valid signatures. For a root block ``parent_id`` is empty and ``index`` 0.

    ``payload`` is the signed content, empty while no batch had it.
    """

    block_id: bytes
    parent_id: bytes
    index: int
    first_ms: int
    last_ms: int
    calls: int
    allowed: int
    payload: bytes = field(default=b"", repr=False)

    @property
    def number(self) -> int:
        """The number of calls it counts."""
        return self.calls

    def size(self) -> int:
        """Return its approximate size in memory, in bytes."""
        return BLOCK_BYTES + len(self.payload)

    def add(self, other: BlockObservation) -> None:
        """Add another observation of the block."""
        self.first_ms = min(self.first_ms, other.first_ms)
        self.last_ms = max(self.last_ms, other.last_ms)
        self.calls += other.calls
        self.allowed += other.allowed


@dataclass(slots=True)
class UseAfterEnd:
    """Denied uses of a session's tokens after its end.

    ``claimed``: the token names the session, but its signatures were not verified; anybody may have written
    it. Then ``block_ids`` is empty. Else it is the chain, root block first.
    """

    block_ids: tuple[bytes, ...]
    claimed: bool
    count: int
    first_ms: int
    last_ms: int

    @property
    def key(self) -> bytes:
        """The id of the chain's last block; empty if it is only claimed."""
        return self.block_ids[-1] if self.block_ids else b""

    @property
    def number(self) -> int:
        """The number of calls it counts."""
        return self.count

    def size(self) -> int:
        """Return its approximate size in memory, in bytes."""
        return LATE_BYTES + 64 * len(self.block_ids)

    def add(self, other: UseAfterEnd) -> None:
        """Add later uses."""
        self.count += other.count
        self.first_ms = min(self.first_ms, other.first_ms)
        self.last_ms = max(self.last_ms, other.last_ms)


_E = TypeVar("_E", BlockObservation, UseAfterEnd)


@dataclass(slots=True)
class SessionObservation:
    """Observations of one session. ``usage`` is the record of its allowed calls, if usage is wanted.

    ``allowed`` and ``denied`` count calls whose token has valid signatures; ``last_allow_ms`` is 0 if none
    was allowed. ``observed`` are the allowed ones that only observe mode allowed. ``lost`` counts
    observations that found no room.
    """

    session_id: bytes
    allowed: int = 0
    denied: int = 0
    last_allow_ms: int = 0
    lost: int = 0
    blocks: dict[bytes, BlockObservation] = field(default_factory=dict)
    late: dict[bytes, UseAfterEnd] = field(default_factory=dict)
    usage: SessionUsage | None = field(default=None, repr=False)
    # Approximate size of ``usage`` in memory, and that size when it was weighed last.
    usage_bytes: int = 0
    usage_weighed: int = 0
    observed: int = 0

    def size(self) -> int:
        """Return its approximate size in memory, in bytes."""
        entries: Iterable[BlockObservation | UseAfterEnd] = (*self.blocks.values(), *self.late.values())
        return SESSION_BYTES + self.usage_bytes + sum(entry.size() for entry in entries)

    def add(self, other: SessionObservation, room: int) -> int:
        """Add another's observations in at most ``room`` more bytes; return the growth, in bytes.

        It may be negative, after a new weighing. The entries of ``other`` become this one's. ``lost`` counts
        those that find no room.
        """
        self.allowed += other.allowed
        self.denied += other.denied
        self.observed += other.observed
        self.last_allow_ms = max(self.last_allow_ms, other.last_allow_ms)
        self.lost += other.lost
        left = room
        for block in other.blocks.values():
            left -= self._put(self.blocks, block.block_id, block, left)
            left -= self._add_payload(block, left)
        for late in other.late.values():
            left -= self._put(self.late, late.key, late, left)
        return room - left + self._use(other, left)

    def _put(self, entries: dict[bytes, _E], key: bytes, entry: _E, room: int) -> int:
        known = entries.get(key)
        if known is not None:
            known.add(entry)
            return 0
        size = entry.size()
        if size > room:
            self.lost += entry.number
            return 0
        entries[key] = entry
        return size

    def _use(self, other: SessionObservation, room: int) -> int:
        """Add a usage record. Most of it is known already, so it is weighed only now and then."""
        if other.usage is None:
            return 0
        before = self.usage_bytes
        if other.usage_bytes > room or before > 2 * self.usage_weighed + WEIGH_BYTES:
            self.usage_bytes = 0 if self.usage is None else USAGE_FACTOR * len(self.usage.to_json())
            self.usage_weighed = self.usage_bytes
        if other.usage_bytes > room + before - self.usage_bytes:
            self.lost += other.usage.allowed.calls
        else:
            self.usage = self.usage or SessionUsage()
            self.usage.merge(other.usage)
            self.usage_bytes += other.usage_bytes
        return self.usage_bytes - before

    def _add_payload(self, later: BlockObservation, room: int) -> int:
        """Add the payload of a block from a later batch."""
        known = self.blocks.get(later.block_id)
        if known is None or known.payload or not later.payload:
            return 0
        if len(later.payload) > room:
            self.lost += 1
            return 0
        known.payload = later.payload
        return len(later.payload)


@dataclass(frozen=True, slots=True)
class ObservationBatch:
    """One report of a verifier. A sender (16 bytes) numbers its batches from 1, without gaps.

    ``lost`` counts lost decisions of unknown sessions.
    """

    sender_id: bytes
    number: int
    verifier: str = ""
    lost: int = 0
    sessions: tuple[SessionObservation, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservationAck:
    """The control process's answer.

    A process with another ``control_id`` (16 bytes) knows none of the earlier batches. ``wants_usage``:
    report usage records too, with values of arguments.
    """

    control_id: bytes
    wants_usage: bool
