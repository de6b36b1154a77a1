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

``to_dict()`` (plain values; a *span* is ``[calls, first_ms, last_ms]``)::

    {"format": 1,
     "allowed": span,
     "denied": {"rows": [[reason, span...]...], "truncated": bool},
     "calls": {"rows": [[action, resource, span...]...], "truncated": bool},
     "denied_calls": {"rows": [[reason, action, resource, span...]...], "truncated": bool},
     "uses": {"rows": [[layer id, scope index, span...]...], "truncated": bool},
     "tokens": {"rows": [[root block id, span...]...], "truncated": bool},
     "minted": {layer id: {"kind": "minted", "scopes": [base64...]}}, "minted_cut": bool,
     "profiles": {"ceiling": profile, "minted": profile},        # usage.profile: argument values live here
     "lost": notes that were lost}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Final

from ..errors import UsageError
from ..limits import MAX_ACTION_CHARS, MAX_RESOURCE_BYTES
from ..reasons import Reason
from . import field_readers, limits
from .argument_reader import read
from .counters import TimeSpan, TopKTable
from .grants import CEILING, MINTED, GrantLayer
from .profile import BY_ACTION, NOTHING, Position, Profile, read_position

FORMAT: Final = 1

# The denials whose action and resource are well-formed and worth a row: what was wanted and not granted.
_WANTED: Final = frozenset((Reason.OUT_OF_SCOPE, Reason.CONDITION_FAILED, Reason.UNKNOWN_TOOL))
_WORDS: Final = {int(reason): reason.name for reason in Reason}
_ACTION: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MEMBERS: Final = (
    *("format", "allowed", "denied", "calls", "denied_calls", "uses", "tokens"),
    *("minted", "minted_cut", "profiles", "lost"),
)


class SessionUsage:
    """What calls a session made, by which scopes, with which arguments; and what it was denied.

    It holds values of arguments, which no log does: it is for memory, and for whoever may read the report. It
    is bounded (:mod:`sessauth.usage.limits`) whatever is observed; :attr:`truncated` says what was dropped.
    """

    __slots__ = (
        *("allowed", "calls", "denied", "denied_calls", "lost"),
        *("minted", "minted_cut", "profiles", "tokens", "uses"),
    )

    def __init__(self) -> None:
        self.allowed = TimeSpan()
        self.denied: TopKTable[tuple[str]] = TopKTable(limits.MAX_DENIED_REASONS)
        self.calls: TopKTable[tuple[str, str]] = TopKTable(limits.MAX_ROWS)
        self.denied_calls: TopKTable[tuple[str, str, str]] = TopKTable(limits.MAX_DENIED_ROWS)
        self.uses: TopKTable[Position] = TopKTable(limits.MAX_POSITIONS)
        self.tokens: TopKTable[tuple[str]] = TopKTable(limits.MAX_TOKENS)
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
    ) -> None:
        """Count one decision.

        Args:
            action: of the call, as ``resource`` and ``arguments`` are.
            resource: see above.
            arguments: the JSON that was judged; looked at only where the call was allowed.
            at_ms: when it was judged, in ms since 1970.
            block_ids: of the chain; the first names the token.
            matched: the scopes that may have admitted it (``GrantLayer.matching_positions``).
            minted: what the token was minted with.
            reason: why it was denied, a number of :class:`~sessauth.reasons.Reason`.
        """
        if reason != Reason.ALLOWED:
            self._deny(action, resource, at_ms, reason)
            return
        self.allowed.add(at_ms)
        self.calls.add((action, resource), at_ms)
        if block_ids:
            self.tokens.add((block_ids[0].hex(),), at_ms)
        if minted is not None:
            self._keep(minted)
        positions = sorted(set(matched))
        for position in positions:
            self.uses.add(position, at_ms)
        call = read(arguments)
        for kind, profile in self.profiles.items():
            of_kind = tuple(position for position in positions if position[0].startswith(kind))
            if of_kind:
                profile.see(of_kind, action, resource, call)

    def _deny(self, action: str, resource: str, at_ms: int, reason: int) -> None:
        word = _WORDS.get(reason, f"REASON_{reason}")
        self.denied.add((word,), at_ms)
        # A denied call may be anything at all: what could not be a row of an allowed one has no row here.
        if reason in _WANTED and _ACTION.fullmatch(action) and _fits(resource):
            self.denied_calls.add((word, action, resource), at_ms)

    def _keep(self, layer: GrantLayer) -> None:
        if layer.id in self.minted:
            return
        self.minted[layer.id] = layer
        if len(self.minted) > limits.MAX_MINTED_LAYERS:
            del self.minted[max(self.minted)]
            self.minted_cut = True

    def merge(self, other: SessionUsage) -> None:
        """Take over what another has counted: of another verifier, or of another session."""
        self.allowed.merge(other.allowed)
        self.denied.merge(other.denied)
        self.calls.merge(other.calls)
        self.denied_calls.merge(other.denied_calls)
        self.uses.merge(other.uses)
        self.tokens.merge(other.tokens)
        for layer in other.minted.values():
            self._keep(layer)
        self.minted_cut |= other.minted_cut
        for kind, profile in self.profiles.items():
            profile.merge(other.profiles[kind])
        self.lost += other.lost

    def coarsen(self) -> None:
        """Give up what takes most room, one step further each time; counts stay."""
        for profile in self.profiles.values():
            profile.coarsen(min(profile.level + 1, NOTHING))

    @property
    def truncated(self) -> tuple[str, ...]:
        """What is not complete, as words for a report; empty if all is."""
        by_action = [kind for kind, profile in self.profiles.items() if profile.level == BY_ACTION]
        nothing = [kind for kind, profile in self.profiles.items() if profile.level == NOTHING]
        told = {
            f"{self.lost} decisions were lost": self.lost > 0,
            "resources": self.calls.truncated,
            "scopes": self.uses.truncated,
            "tokens": self.tokens.truncated,
            "denied calls": self.denied_calls.truncated,
            "scopes that tokens were minted with": self.minted_cut,
            f"resources apart ({', '.join(by_action)})": bool(by_action),
            f"what calls looked like ({', '.join(nothing)})": bool(nothing),
        }
        return tuple(word for word, holds in told.items() if holds)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "format": FORMAT,
            "allowed": self.allowed.to_list(),
            "denied": self.denied.to_dict(),
            "calls": self.calls.to_dict(),
            "denied_calls": self.denied_calls.to_dict(),
            "uses": self.uses.to_dict(),
            "tokens": self.tokens.to_dict(),
            "minted": {name: self.minted[name].to_dict() for name in sorted(self.minted)},
            "minted_cut": self.minted_cut,
            "profiles": {kind: profile.to_dict() for kind, profile in self.profiles.items()},
            "lost": self.lost,
        }

    @classmethod
    def from_dict(cls, data: object) -> SessionUsage:
        """Read what :meth:`to_dict` gave.

        Raises:
            UsageError: for anything else, also for what is beyond a bound.
        """
        given = field_readers.fields(data, *_MEMBERS)
        if given["format"] != FORMAT:
            raise UsageError(f"a usage record of format {given['format']!a}: this version reads {FORMAT}")
        usage = cls()
        usage.allowed = TimeSpan.from_list(given["allowed"])
        usage.denied = TopKTable.from_dict(limits.MAX_DENIED_REASONS, given["denied"], _reason)
        usage.calls = TopKTable.from_dict(limits.MAX_ROWS, given["calls"], _call)
        usage.denied_calls = TopKTable.from_dict(limits.MAX_DENIED_ROWS, given["denied_calls"], _denied_call)
        usage.uses = TopKTable.from_dict(limits.MAX_POSITIONS, given["uses"], read_position)
        usage.tokens = TopKTable.from_dict(limits.MAX_TOKENS, given["tokens"], _reason)
        minted = given["minted"]
        if not isinstance(minted, dict) or len(minted) > limits.MAX_MINTED_LAYERS:
            raise UsageError("a usage record: too many lists of minted scopes")
        for layer in minted.values():
            usage._keep(GrantLayer.from_dict(layer))
        usage.minted_cut = field_readers.truth(given["minted_cut"])
        profiles = field_readers.fields(given["profiles"], *usage.profiles)
        usage.profiles = {kind: Profile.from_dict(profiles[kind]) for kind in usage.profiles}
        usage.lost = field_readers.count(given["lost"])
        return usage

    def to_json(self) -> bytes:
        """Return it as JSON, the same bytes for equal contents."""
        return json.dumps(self.to_dict(), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> SessionUsage:
        """Read what :meth:`to_json` gave; raises UsageError for anything else."""
        try:
            return cls.from_dict(json.loads(data))
        except (ValueError, RecursionError):
            raise UsageError("a usage record: not JSON") from None

    def __eq__(self, other: object) -> bool:
        """Whether all that is kept is equal."""
        return isinstance(other, SessionUsage) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]


def _fits(resource: str) -> bool:
    try:
        return len(resource.encode()) <= MAX_RESOURCE_BYTES
    except UnicodeEncodeError:
        return False


def _reason(parts: list[object]) -> tuple[str]:
    (word,) = field_readers.items(parts, 1, exactly=True)
    return (field_readers.text(word, 64),)


def _call(parts: list[object]) -> tuple[str, str]:
    action, resource = field_readers.items(parts, 2, exactly=True)
    return field_readers.text(action, MAX_ACTION_CHARS), field_readers.text(resource, MAX_RESOURCE_BYTES)


def _denied_call(parts: list[object]) -> tuple[str, str, str]:
    word, *call = field_readers.items(parts, 3, exactly=True)
    return (field_readers.text(word, 64), *_call(call))
