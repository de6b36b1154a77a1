"""The usage of a session: aggregated, bounded, and mergeable in any order.

From decision records::

    layers = ceilings(scopes of the session's ceiling)           # usage.grants; cache per session and epoch
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
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from ..errors import UsageError
from ..limits import MAX_ACTION_CHARS, MAX_RESOURCE_BYTES, MAX_STRING_BYTES
from ..reasons import Reason
from . import field_readers, limits
from .argument_reader import read
from .counters import TimeSpan, TopKTable
from .grants import CEILING, MINTED, GrantLayer
from .profile import BY_ACTION, NOTHING, Position, Profile, read_position

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
        values = field_readers.items(parts, len(most_bytes), exactly=True)
        return tuple(map(field_readers.text, values, most_bytes))

    return read_key


_CALL: Final = (MAX_ACTION_CHARS, MAX_RESOURCE_BYTES)
_CALL_AND_ARGUMENT: Final = (*_CALL, MAX_STRING_BYTES)


def _read_observed(parts: list[object]) -> tuple[int, str, str, str]:
    layer, *texts = field_readers.items(parts, 4, exactly=True)
    action, resource, argument = map(field_readers.text, texts, _CALL_AND_ARGUMENT)
    return field_readers.count(layer), action, resource, argument


# The limit of each table, and the reader of its keys.
_TABLES: Final[Mapping[str, tuple[int, Callable[[list[object]], tuple[Any, ...]]]]] = {
    "denied": (limits.MAX_DENIED_REASONS, _texts(64)),
    "calls": (limits.MAX_ROWS, _texts(*_CALL)),
    "denied_calls": (limits.MAX_DENIED_ROWS, _texts(64, *_CALL)),
    "uses": (limits.MAX_POSITIONS, read_position),
    "tokens": (limits.MAX_TOKENS, _texts(64)),
    "observed": (limits.MAX_OBSERVED_ROWS, _read_observed),
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
    see them. It is bounded (:mod:`sessauth.usage.limits`); :attr:`truncated` names the parts that were cut.
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
        """Count one decision.

        Args:
            action: of the call.
            resource: of the call.
            arguments: of the call, as JSON; read only if it was allowed.
            at_ms: the time of the decision, in ms since 1970.
            block_ids: of the chain; the first names the token.
            matched: the scopes that may have admitted it (``GrantLayer.matching_positions``).
            minted: the scopes that the token was minted with.
            reason: of the decision, a number of :class:`~sessauth.reasons.Reason`.
            refused: the layer of a ceiling in observe mode that would have refused it, and the argument at
                fault.
        """
        if reason != Reason.ALLOWED:
            self._deny(action, resource, at_ms, reason)
            return
        self.allowed.add(at_ms)
        self.calls.add((action, resource), at_ms)
        if refused is not None:
            layer, argument = refused
            self.observed.add((layer, action, resource, argument[: limits.MAX_OBSERVED_CHARS]), at_ms)
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
        if len(self.minted) > limits.MAX_MINTED_LAYERS:
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
        plain = field_readers.fields(data, *_MEMBERS, *stated)
        if plain["format"] != FORMAT:
            raise UsageError(f"a usage record of format {plain['format']!a}: this version reads {FORMAT}")
        usage = cls()
        usage.allowed = TimeSpan.from_list(plain["allowed"])
        for name, (limit, read_key) in _TABLES.items():
            if name not in plain:
                continue
            setattr(usage, name, TopKTable.from_dict(limit, plain[name], read_key))
        minted = plain["minted"]
        if not isinstance(minted, dict) or len(minted) > limits.MAX_MINTED_LAYERS:
            raise UsageError("a usage record: too many lists of minted scopes")
        for layer in minted.values():
            usage._add_minted(GrantLayer.from_dict(layer))
        usage.minted_cut = field_readers.truth(plain["minted_cut"])
        profiles = field_readers.fields(plain["profiles"], *usage.profiles)
        usage.profiles = {kind: Profile.from_dict(profiles[kind]) for kind in usage.profiles}
        usage.lost = field_readers.count(plain["lost"])
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
