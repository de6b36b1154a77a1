"""What verifiers saw of sessions, added up: blocks of tokens, what was allowed, uses after the end.

The same values are collected where calls are judged, told to the control process, added up there, and
reported. Times are ms since 1970. Adding up is bounded in bytes: what finds no room is counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ..reasons import Reason
from .session_usage import SessionUsage

# About what an entry takes in memory, beside its texts.
SESSION_BYTES: Final = 600
BLOCK_BYTES: Final = 400
LATE_BYTES: Final = 300
# What a usage record takes in memory, for each byte of its JSON.
USAGE_FACTOR: Final = 5
# A usage record is weighed again when about so much was added to it.
WEIGH_BYTES: Final = 262_144

# Denials that say: the session is over.
AFTER_END: Final = frozenset({Reason.SESSION_ENDED, Reason.LEASE_LAPSED, Reason.SESSION_EXPIRED})


@dataclass(slots=True)
class BlockObservation:
    """A block of a token whose signatures stand. ``parent_id`` is empty for a root block, ``index`` 0.

    ``payload`` is what the block says, without its signature; empty while it was not told.
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
        """How many calls it stands for."""
        return self.calls

    def size(self) -> int:
        """About how many bytes it takes."""
        return BLOCK_BYTES + len(self.payload)

    def add(self, other: BlockObservation) -> None:
        """Add what another verifier, or the same one later, saw of the block."""
        self.first_ms = min(self.first_ms, other.first_ms)
        self.last_ms = max(self.last_ms, other.last_ms)
        self.calls += other.calls
        self.allowed += other.allowed


@dataclass(slots=True)
class UseAfterEnd:
    """Uses of a session's tokens after its end, which were denied.

    ``claimed``: the token names the session, and nobody looked at its signatures; anybody may have
    written it. Then ``block_ids`` is empty. Else it is the chain, root block first.
    """

    block_ids: tuple[bytes, ...]
    claimed: bool
    count: int
    first_ms: int
    last_ms: int

    @property
    def key(self) -> bytes:
        """What it is told apart by: the chain's last block; nothing where it is only claimed."""
        return self.block_ids[-1] if self.block_ids else b""

    @property
    def number(self) -> int:
        """How many calls it stands for."""
        return self.count

    def size(self) -> int:
        """About how many bytes it takes."""
        return LATE_BYTES + 64 * len(self.block_ids)

    def add(self, other: UseAfterEnd) -> None:
        """Add later uses."""
        self.count += other.count
        self.first_ms = min(self.first_ms, other.first_ms)
        self.last_ms = max(self.last_ms, other.last_ms)


_E = TypeVar("_E", BlockObservation, UseAfterEnd)


@dataclass(slots=True)
class SessionObservation:
    """What was seen of one session. ``usage`` is what the allowed calls looked like, where that is wanted.

    ``allowed`` and ``denied`` count calls whose token's signatures stand; ``last_allow_ms`` is 0 if none
    was allowed. ``lost`` says how often something was seen for which there was no room.
    """

    session_id: bytes
    allowed: int = 0
    denied: int = 0
    last_allow_ms: int = 0
    lost: int = 0
    blocks: dict[bytes, BlockObservation] = field(default_factory=dict)
    late: dict[bytes, UseAfterEnd] = field(default_factory=dict)
    usage: SessionUsage | None = field(default=None, repr=False)
    # About what it takes in memory; it was weighed when it had ``usage_weighed``.
    usage_bytes: int = 0
    usage_weighed: int = 0

    def size(self) -> int:
        """About how many bytes it takes."""
        entries: Iterable[BlockObservation | UseAfterEnd] = (*self.blocks.values(), *self.late.values())
        return SESSION_BYTES + self.usage_bytes + sum(entry.size() for entry in entries)

    def add(self, other: SessionObservation, room: int) -> int:
        """Add what ``other`` saw, in at most ``room`` more bytes; returns how many it took.

        They may be negative, where it is weighed anew. The entries of ``other`` become this one's. What
        finds no room is counted in ``lost``.
        """
        self.allowed += other.allowed
        self.denied += other.denied
        self.last_allow_ms = max(self.last_allow_ms, other.last_allow_ms)
        self.lost += other.lost
        left = room
        for block in other.blocks.values():
            left -= self._put(self.blocks, block.block_id, block, left)
            left -= self._learn(block, left)
        for late in other.late.values():
            left -= self._put(self.late, late.key, late, left)
        return room - left + self._use(other, left)

    def _put(self, entries: dict[bytes, _E], key: bytes, entry: _E, room: int) -> int:
        known = entries.get(key)
        if known is not None:
            known.add(entry)
            return 0
        takes = entry.size()
        if takes > room:
            self.lost += entry.number
            return 0
        entries[key] = entry
        return takes

    def _use(self, other: SessionObservation, room: int) -> int:
        """Add a usage record. Much of it is mostly there already, so that it is weighed now and then."""
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

    def _learn(self, told: BlockObservation, room: int) -> int:
        """Take what a block says from a later telling."""
        known = self.blocks.get(told.block_id)
        if known is None or known.payload or not told.payload:
            return 0
        if len(told.payload) > room:
            self.lost += 1
            return 0
        known.payload = told.payload
        return len(told.payload)


@dataclass(frozen=True, slots=True)
class ObservationBatch:
    """What a verifier tells at once. ``number`` is dense, from 1, in what ``sender_id`` (16 bytes) tells.

    ``lost`` counts decisions that were lost before it was known of which session.
    """

    sender_id: bytes
    number: int
    verifier: str = ""
    lost: int = 0
    sessions: tuple[SessionObservation, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservationAck:
    """The control process's answer.

    At another ``control_id`` (16 bytes) nothing of what was told before is known. ``wants_usage``: tell it
    what the calls looked like too, with values of their arguments.
    """

    control_id: bytes
    wants_usage: bool
