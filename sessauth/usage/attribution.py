"""Adds decisions to usage records, with the granted scopes that may have allowed each call.

A decision record names the token's scope that decided, and no ceiling of the session. So ceilings are read
from the state, once an epoch, and the scopes that tokens were minted with from the records' blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .._fast import _check as kernel
from .._fast._check import masked
from ..errors import SessauthError
from ..model.session import Session
from ..reasons import Level
from ..scopes.scope import Scope
from .session_usage import SessionUsage
from .grants import CEILING, GrantLayer
from .profile import Position

if TYPE_CHECKING:
    from .._fast._check import DecisionRecord

# Cached sessions and root blocks; each entry holds its scopes, some KB at most.
MAX_CACHED: Final = 1_024

LineageOf = Callable[[bytes], Sequence[Session]]
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Ceiling:
    """The layers of a session and its ancestors, each with its observe mode, as of the session's epoch."""

    epoch: int
    layers: tuple[tuple[GrantLayer, bool], ...]

    def positions(self, record: DecisionRecord) -> list[Position]:
        """Return the scopes that may have admitted an allowed call."""
        found: list[Position] = []
        # Layers of another epoch may be others, in other places: then nothing says which of them refused.
        refused = record.index if record.level == Level.CEILING and record.epoch == self.epoch else -1
        for index, (layer, observed) in enumerate(self.layers):
            positions = layer.matching_positions(record.action, record.resource, record.arguments)
            # The record names the first layer that observe mode overruled. Others behind it may have refused
            # too; one before it admitted the call.
            overruled = refused >= 0 and observed
            if overruled and (index == refused or (index > refused and positions[0][1] < 0)):
                continue
            found += positions
        return found


class UsageAttributor:
    """Attributes calls to granted scopes. For one thread."""

    def __init__(self, lineage_of: LineageOf) -> None:
        """Read a session and its ancestors, with their ceilings, by ``lineage_of``.

        If that raises SessauthError or OSError, calls are counted without ceilings.
        """
        self._lineage_of = lineage_of
        self._ceilings: OrderedDict[tuple[bytes, int], _Ceiling] = OrderedDict()
        self._roots: OrderedDict[bytes, GrantLayer] = OrderedDict()

    def learn(self, block_ids: Sequence[bytes], payloads: Sequence[bytes]) -> None:
        """Cache the scopes that a token was minted with."""
        if block_ids and payloads and block_ids[0] not in self._roots:
            try:
                _cache(self._roots, block_ids[0], GrantLayer.of_block(payloads[0]))
            except kernel.WireError:
                # The block is of a later version: its scopes stay unknown.
                return

    def observe(self, usage: SessionUsage, record: DecisionRecord) -> None:
        """Count a decision whose token's signatures stand."""
        action, resource = record.action, record.resource
        call = masked(action), masked(resource)
        if not record.allowed:
            usage.observe(*call, at_ms=record.at_ms, reason=record.reason)
            return
        arguments, block_ids = record.arguments, record.block_ids
        matched = self._ceiling(record.session_id, record.epoch).positions(record)
        root = self._roots.get(block_ids[0])
        if root is not None:
            decided = record.matched_scope if record.matched_index == 0 else -1
            matched += root.matching_positions(action, resource, arguments, decided)
        usage.observe(
            *call,
            arguments,
            at_ms=record.at_ms,
            block_ids=block_ids,
            matched=matched,
            minted=root,
            refused=(record.index, masked(record.argument)) if record.level == Level.CEILING else None,
        )

    def _ceiling(self, session_id: bytes, epoch: int) -> _Ceiling:
        key = session_id, epoch
        ceiling = self._ceilings.get(key)
        if ceiling is None:
            try:
                sessions = self._lineage_of(session_id)
                layers = tuple((_layer(layer), each.observe) for each in sessions for layer in each.ceilings)
            except (SessauthError, OSError):
                return _Ceiling(0, ())
            ceiling = _Ceiling(sessions[0].epoch if sessions else 0, layers)
            _cache(self._ceilings, key, ceiling)
        return ceiling


def _layer(scopes: Sequence[Mapping[str, Any]]) -> GrantLayer:
    return GrantLayer(CEILING, map(Scope.from_record, scopes))


def _cache(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    while len(known) > MAX_CACHED:
        known.popitem(last=False)
