"""The usage of a session: aggregated, bounded in bytes, and mergeable in any order.

:class:`SessionUsage` counts calls and denials with their first and last time, in tables that never grow
beyond a limit. A verifier makes it from decision records::

    layers = ceilings(scopes of the session's ceiling)           # usage.profile; cache per session and epoch
    root = GrantLayer.of_block(payload of the chain's first block)             # cache per root block id
    call = (action, resource, arguments)
    matched = [position for layer in layers for position in layer.matching_positions(*call)]
    matched += root.matching_positions(*call, decided)  # decided: matched_scope if matched_index is 0

    usage.observe(*call, block_ids=..., matched=matched, minted=root, at_ms=...)
    usage.observe(action, resource, at_ms=..., reason=Reason.OUT_OF_SCOPE)  # a denial
    usage.merge(other)
    SessionUsage.from_dict(usage.to_dict()) == usage             # and to_json / from_json, as bytes

``to_dict()`` returns plain values; a *span* is ``[calls, first_ms, last_ms]``::

    {"format": 1,
     "allowed": span,
     "denied": {"rows": [[reason, span...]...], "truncated": bool},
     "calls": {"rows": [[action, resource, span...]...], "truncated": bool},
     "denied_calls": {"rows": [[reason, action, resource, span...]...], "truncated": bool},
     "uses": {"rows": [[layer id, scope index, span...]...], "truncated": bool},
     "tokens": {"rows": [[root block id, span...]...], "truncated": bool},
     "minted": {layer id: {"kind": "minted", "scopes": [base64...]}}, "minted_cut": bool,
     "profiles": {"ceiling": profile, "minted": profile},        # usage.profile: these hold argument values
     "observed": {"rows": [[layer, action, resource, argument, span...]...], "truncated": bool},  # if any
     "lost": decisions that were lost}

:class:`SessionObservation` is the part of a verifier's report about one session: its usage, the blocks of its
tokens, and uses after its end. The control process adds these up. Observations that find no space are counted
as lost. Times are ms since 1970.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Generic, TypeVar

from ..errors import UsageError
from ..limits import MAX_ACTION_CHARS, MAX_RESOURCE_BYTES, MAX_STRING_BYTES
from ..reasons import Reason
from . import records
from .argument_reader import read
from .profile import BY_ACTION, CEILING, MINTED, NOTHING, GrantLayer, Position, Profile, read_position

K = TypeVar("K", bound="tuple[Any, ...]")


@dataclass(slots=True)
class TimeSpan:
    """A number of calls, and the times of the first and the last, in ms since 1970; 0 if there was none."""

    calls: int = 0
    first_ms: int = 0
    last_ms: int = 0

    def add(self, at_ms: int) -> None:
        """Count one call."""
        if not self.calls or at_ms < self.first_ms:
            self.first_ms = at_ms
        if not self.calls or at_ms > self.last_ms:
            self.last_ms = at_ms
        self.calls += 1

    def merge(self, other: TimeSpan) -> None:
        """Add the calls of another."""
        if not other.calls:
            return
        self.first_ms = min(self.first_ms, other.first_ms) if self.calls else other.first_ms
        self.last_ms = max(self.last_ms, other.last_ms) if self.calls else other.last_ms
        self.calls += other.calls

    def to_list(self) -> list[int]:
        """Return ``[calls, first_ms, last_ms]``."""
        return [self.calls, self.first_ms, self.last_ms]

    @classmethod
    def from_list(cls, data: object) -> TimeSpan:
        """Read the values of :meth:`to_list`; raises UsageError for anything else."""
        return cls(*map(records.count, records.items(data, 3, exactly=True)))

    def to_dict(self) -> dict[str, object]:
        """Return it with names, for a report."""
        return asdict(self)


class TopKTable(Generic[K]):
    """Spans by key; of more than ``limit`` keys it holds those that sort first, with their full counts.

    A key among the first of the whole is among the first of every part. So no part dropped it, and parts
    merge in any order.
    """

    __slots__ = ("_rows", "_truncated", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rows: dict[K, TimeSpan] = {}
        self._truncated = False

    def add(self, key: K, at_ms: int) -> None:
        """Count one call."""
        self._at(key).add(at_ms)

    def merge(self, other: TopKTable[K]) -> None:
        """Take over another's rows."""
        for key, span in other._rows.items():
            self._at(key).merge(span)
        self._truncated |= other._truncated

    def _at(self, key: K) -> TimeSpan:
        span = self._rows.get(key)
        if span is None:
            # Sorted rarely, so that a flood of keys costs little for each.
            if len(self._rows) >= 2 * self.limit:
                self._cut()
            span = self._rows[key] = TimeSpan()
        return span

    def _cut(self) -> None:
        if len(self._rows) > self.limit:
            self._rows = {key: self._rows[key] for key in sorted(self._rows)[: self.limit]}
            self._truncated = True

    @property
    def rows(self) -> Mapping[K, TimeSpan]:
        """The rows, at most ``limit``."""
        self._cut()
        return self._rows

    @property
    def truncated(self) -> bool:
        """True if a key was dropped."""
        self._cut()
        return self._truncated

    def __getitem__(self, key: K) -> TimeSpan:
        """Return the span of a key; an empty one if there is none."""
        return self.rows.get(key, TimeSpan())

    def __iter__(self) -> Iterator[tuple[K, TimeSpan]]:
        """Yield the rows in order of their keys."""
        return iter(sorted(self.rows.items()))

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {"rows": [[*key, *span.to_list()] for key, span in self], "truncated": self.truncated}

    @classmethod
    def from_dict(cls, limit: int, data: object, read_key: Callable[[list[object]], K]) -> TopKTable[K]:
        """Read the values of :meth:`to_dict`; raises UsageError for anything else."""
        plain = records.fields(data, "rows", "truncated")
        table: TopKTable[K] = cls(limit)
        for row in records.items(plain["rows"], limit):
            parts = records.items(row, 8)
            table._at(read_key(parts[:-3])).merge(TimeSpan.from_list(parts[-3:]))
        table._truncated = records.truth(plain["truncated"])
        return table


FORMAT: Final = 1

# Denials with a row for action and resource, which are well-formed: authority that was missing.
_WANTED: Final = frozenset((Reason.OUT_OF_SCOPE, Reason.CONDITION_FAILED, Reason.UNKNOWN_TOOL))
_WORDS: Final = {int(reason): reason.name for reason in Reason}
_ACTION: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _fits(resource: str) -> bool:
    try:
        return len(resource.encode()) <= MAX_RESOURCE_BYTES
    except UnicodeEncodeError:
        return False


def _texts(*most_bytes: int) -> Callable[[list[object]], tuple[Any, ...]]:
    """Return a reader of a key of as many texts."""

    def read_key(parts: list[object]) -> tuple[Any, ...]:
        values = records.items(parts, len(most_bytes), exactly=True)
        return tuple(map(records.text, values, most_bytes))

    return read_key


_CALL: Final = (MAX_ACTION_CHARS, MAX_RESOURCE_BYTES)
_CALL_AND_ARGUMENT: Final = (*_CALL, MAX_STRING_BYTES)


def _read_observed(parts: list[object]) -> tuple[int, str, str, str]:
    layer, *texts = records.items(parts, 4, exactly=True)
    action, resource, argument = map(records.text, texts, _CALL_AND_ARGUMENT)
    return records.count(layer), action, resource, argument


# The limit of each table, and the reader of its keys.
_TABLES: Final[Mapping[str, tuple[int, Callable[[list[object]], tuple[Any, ...]]]]] = {
    "denied": (records.MAX_DENIED_REASONS, _texts(64)),
    "calls": (records.MAX_ROWS, _texts(*_CALL)),
    "denied_calls": (records.MAX_DENIED_ROWS, _texts(64, *_CALL)),
    "uses": (records.MAX_POSITIONS, read_position),
    "tokens": (records.MAX_TOKENS, _texts(64)),
    "observed": (records.MAX_OBSERVED_ROWS, _read_observed),
}
# A record without observed calls lacks their table: so earlier versions read it.
_OBSERVED: Final = "observed"
_MEMBERS: Final = (
    "format",
    "allowed",
    *(name for name in _TABLES if name != _OBSERVED),
    "minted",
    "minted_cut",
    "profiles",
    "lost",
)


class SessionUsage:
    """The calls of a session, the scopes that admitted them, their arguments; and the denials.

    It holds values of arguments, which no log does: it stays in memory, and only readers of the report may
    see them. It is bounded (:mod:`sessauth.usage.records`); :attr:`truncated` names the parts that were cut.
    """

    __slots__ = ("allowed", *_TABLES, "lost", "minted", "minted_cut", "profiles")

    denied: TopKTable[tuple[str]]
    calls: TopKTable[tuple[str, str]]
    denied_calls: TopKTable[tuple[str, str, str]]
    uses: TopKTable[Position]
    tokens: TopKTable[tuple[str]]
    observed: TopKTable[tuple[int, str, str, str]]

    def __init__(self) -> None:
        self.allowed = TimeSpan()
        for name, (limit, _) in _TABLES.items():
            setattr(self, name, TopKTable(limit))
        self.minted: dict[str, GrantLayer] = {}
        self.minted_cut = False
        self.profiles = {CEILING: Profile(), MINTED: Profile()}
        self.lost = 0

    def observe(
        self,
        action: str,
        resource: str,
        arguments: bytes = b"",
        *,
        at_ms: int,
        block_ids: Sequence[bytes] = (),
        matched: Iterable[Position] = (),
        minted: GrantLayer | None = None,
        reason: int = Reason.ALLOWED,
        refused: tuple[int, str] | None = None,
    ) -> None:
        """Count one decision; ``reason`` is a number of :class:`~sessauth.reasons.Reason`.

        ``arguments`` are JSON, read only if the call was allowed. The first of ``block_ids`` names the token.
        ``matched`` are the scopes that may have admitted it (``GrantLayer.matching_positions``), ``minted``
        those that the token was minted with. ``refused`` is the layer of a ceiling in observe mode that would
        have refused it, and the argument at fault.
        """
        if reason != Reason.ALLOWED:
            self._deny(action, resource, at_ms, reason)
            return
        self.allowed.add(at_ms)
        self.calls.add((action, resource), at_ms)
        if refused is not None:
            layer, argument = refused
            self.observed.add((layer, action, resource, argument[: records.MAX_OBSERVED_CHARS]), at_ms)
        if block_ids:
            self.tokens.add((block_ids[0].hex(),), at_ms)
        if minted is not None:
            self._add_minted(minted)
        positions = sorted(set(matched))
        for position in positions:
            self.uses.add(position, at_ms)
        call = read(arguments)
        for kind, profile in self.profiles.items():
            of_kind = tuple(position for position in positions if position[0].startswith(kind))
            if of_kind:
                profile.add(of_kind, action, resource, call)

    def _deny(self, action: str, resource: str, at_ms: int, reason: int) -> None:
        word = _WORDS.get(reason, f"REASON_{reason}")
        self.denied.add((word,), at_ms)
        # A denied call may be anything; only well-formed ones have a row.
        if reason in _WANTED and _ACTION.fullmatch(action) and _fits(resource):
            self.denied_calls.add((word, action, resource), at_ms)

    def _add_minted(self, layer: GrantLayer) -> None:
        if layer.id in self.minted:
            return
        self.minted[layer.id] = layer
        if len(self.minted) > records.MAX_MINTED_LAYERS:
            del self.minted[max(self.minted)]
            self.minted_cut = True

    def merge(self, other: SessionUsage) -> None:
        """Add another record: of another verifier, or of another session."""
        self.allowed.merge(other.allowed)
        for name in _TABLES:
            getattr(self, name).merge(getattr(other, name))
        for layer in other.minted.values():
            self._add_minted(layer)
        self.minted_cut |= other.minted_cut
        for kind, profile in self.profiles.items():
            profile.merge(other.profiles[kind])
        self.lost += other.lost

    def coarsen(self) -> None:
        """Drop the largest details, one step further each time; counts stay."""
        for profile in self.profiles.values():
            profile.coarsen(min(profile.level + 1, NOTHING))

    @property
    def truncated(self) -> tuple[str, ...]:
        """The incomplete parts, as words for a report; empty if all are complete."""
        by_action = [kind for kind, profile in self.profiles.items() if profile.level == BY_ACTION]
        nothing = [kind for kind, profile in self.profiles.items() if profile.level == NOTHING]
        cut = {
            f"{self.lost} decisions were lost": self.lost > 0,
            "resources": self.calls.truncated,
            "scopes": self.uses.truncated,
            "tokens": self.tokens.truncated,
            "denied calls": self.denied_calls.truncated,
            "calls in observe mode": self.observed.truncated,
            "scopes that tokens were minted with": self.minted_cut,
            f"resources apart ({', '.join(by_action)})": bool(by_action),
            f"what calls looked like ({', '.join(nothing)})": bool(nothing),
        }
        return tuple(word for word, holds in cut.items() if holds)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "format": FORMAT,
            "allowed": self.allowed.to_list(),
            **{name: getattr(self, name).to_dict() for name in self._stated_tables()},
            "minted": {name: self.minted[name].to_dict() for name in sorted(self.minted)},
            "minted_cut": self.minted_cut,
            "profiles": {kind: profile.to_dict() for kind, profile in self.profiles.items()},
            "lost": self.lost,
        }

    def _stated_tables(self) -> tuple[str, ...]:
        stated = bool(self.observed.rows) or self.observed.truncated
        return tuple(name for name in _TABLES if stated or name != _OBSERVED)

    @classmethod
    def from_dict(cls, data: object) -> SessionUsage:
        """Read the values of :meth:`to_dict`; raises UsageError for anything else, or beyond a limit."""
        stated = (_OBSERVED,) if isinstance(data, dict) and _OBSERVED in data else ()
        plain = records.fields(data, *_MEMBERS, *stated)
        if plain["format"] != FORMAT:
            raise UsageError(f"a usage record of format {plain['format']!a}: this version reads {FORMAT}")
        usage = cls()
        usage.allowed = TimeSpan.from_list(plain["allowed"])
        for name, (limit, read_key) in _TABLES.items():
            if name not in plain:
                continue
            setattr(usage, name, TopKTable.from_dict(limit, plain[name], read_key))
        minted = plain["minted"]
        if not isinstance(minted, dict) or len(minted) > records.MAX_MINTED_LAYERS:
            raise UsageError("a usage record: too many lists of minted scopes")
        for layer in minted.values():
            usage._add_minted(GrantLayer.from_dict(layer))
        usage.minted_cut = records.truth(plain["minted_cut"])
        profiles = records.fields(plain["profiles"], *usage.profiles)
        usage.profiles = {kind: Profile.from_dict(profiles[kind]) for kind in usage.profiles}
        usage.lost = records.count(plain["lost"])
        return usage

    def to_json(self) -> bytes:
        """Return it as JSON, the same bytes for equal contents."""
        return json.dumps(self.to_dict(), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> SessionUsage:
        """Read the bytes of :meth:`to_json`; raises UsageError for anything else."""
        try:
            return cls.from_dict(json.loads(data))
        except (ValueError, RecursionError):
            raise UsageError("a usage record: not JSON") from None

    def __eq__(self, other: object) -> bool:
        """Compare the contents."""
        return isinstance(other, SessionUsage) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]


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
    observations that found no space.
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
        those that find no space.
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
