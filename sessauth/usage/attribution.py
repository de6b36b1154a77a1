"""Adds decisions to usage records, with the granted scopes that may have allowed each call.

A decision record names the token's scope that decided, and no ceiling of the session. So ceilings are read
from the state, once an epoch, and the scopes that tokens were minted with from the records' blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from .._fast.base.token_mask import masked
from .._fast.codec import protobuf
from ..errors import SessauthError
from ..reasons import Level
from ..scopes.scope import Scope
from . import SessionUsage
from .grants import GrantLayer, ceilings

if TYPE_CHECKING:
    from .._fast.record.decision_record import DecisionRecord

# Cached sessions and root blocks; each entry holds its scopes, some KB at most.
MAX_CACHED: Final = 1_024

Ceilings = Callable[[bytes], Sequence[Sequence[Scope]]]
K = TypeVar("K")
V = TypeVar("V")


class UsageAttributor:
    """Attributes calls to granted scopes. For one thread."""

    def __init__(self, ceilings_of: Ceilings) -> None:
        """Read the layers of a session's ceiling, and its ancestors', by ``ceilings_of``.

        If that raises SessauthError or OSError, calls are counted without them.
        """
        self._ceilings_of = ceilings_of
        self._layers: OrderedDict[tuple[bytes, int], tuple[GrantLayer, ...]] = OrderedDict()
        self._roots: OrderedDict[bytes, GrantLayer] = OrderedDict()

    def learn(self, block_ids: Sequence[bytes], payloads: Sequence[bytes]) -> None:
        """Cache the scopes that a token was minted with."""
        if block_ids and payloads and block_ids[0] not in self._roots:
            try:
                _cache(self._roots, block_ids[0], GrantLayer.of_block(payloads[0]))
            except protobuf.WireError:
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
        observed = record.level == Level.CEILING
        matched = [
            position
            for index, layer in enumerate(self._layers_of(record.session_id, record.epoch))
            for position in layer.matching_positions(action, resource, arguments)
            # A layer in observe mode that would have refused the call admitted it by no scope.
            if not observed or (index != record.index and position[1] >= 0)
        ]
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
            refused=(record.index, masked(record.argument)) if observed else None,
        )

    def _layers_of(self, session_id: bytes, epoch: int) -> tuple[GrantLayer, ...]:
        key = session_id, epoch
        layers = self._layers.get(key)
        if layers is None:
            try:
                layers = ceilings(self._ceilings_of(session_id))
            except (SessauthError, OSError):
                return ()
            _cache(self._layers, key, layers)
        return layers


def _cache(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    while len(known) > MAX_CACHED:
        known.popitem(last=False)
