"""Feeds usage records from notes: which scopes may have allowed a call, by what the session was granted.

A note names the scope of the token that decided, and nothing of the session's ceilings. So they are read
from the state, once an epoch, and what tokens were minted with from the blocks that notes bring along.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from .._fast.base.token_mask import masked
from .._fast.codec import protobuf
from ..errors import SessauthError
from ..scopes.scope import Scope
from . import SessionUsage
from .grants import GrantLayer, ceilings

if TYPE_CHECKING:
    from .._fast.record.note import DecisionRecord

# Sessions and root blocks that are remembered; of each its scopes, some KB at most.
MAX_REMEMBERED: Final = 1_024

Ceilings = Callable[[bytes], Sequence[Sequence[Scope]]]
K = TypeVar("K")
V = TypeVar("V")


class UsageAttributor:
    """Knows what sessions were granted. For one thread."""

    def __init__(self, ceilings_of: Ceilings) -> None:
        """Read the layers of a session's ceiling, and its ancestors', by ``ceilings_of``.

        That may raise SessauthError or OSError where the state can't be read: the call is then counted
        without them.
        """
        self._ceilings_of = ceilings_of
        self._layers: OrderedDict[tuple[bytes, int], tuple[GrantLayer, ...]] = OrderedDict()
        self._roots: OrderedDict[bytes, GrantLayer] = OrderedDict()

    def learn(self, block_ids: Sequence[bytes], payloads: Sequence[bytes]) -> None:
        """Remember what a token was minted with."""
        if block_ids and payloads and block_ids[0] not in self._roots:
            try:
                _remember(self._roots, block_ids[0], GrantLayer.of_block(payloads[0]))
            except protobuf.WireError:
                # Of a later version, with what this one can't read: its scopes stay unknown.
                return

    def observe(self, usage: SessionUsage, note: DecisionRecord) -> None:
        """Count a decision whose token's signatures stand."""
        action, resource = note.action, note.resource
        kept = masked(action), masked(resource)
        if not note.allowed:
            usage.observe(*kept, at_ms=note.at_ms, reason=note.reason)
            return
        arguments, block_ids = note.arguments, note.block_ids
        matched = [
            position
            for layer in self._layers_of(note.session_id, note.epoch)
            for position in layer.find(action, resource, arguments)
        ]
        root = self._roots.get(block_ids[0])
        if root is not None:
            decided = note.matched_scope if note.matched_index == 0 else -1
            matched += root.find(action, resource, arguments, decided)
        usage.observe(
            *kept,
            arguments,
            at_ms=note.at_ms,
            block_ids=block_ids,
            matched=matched,
            minted=root,
        )

    def _layers_of(self, session_id: bytes, epoch: int) -> tuple[GrantLayer, ...]:
        key = session_id, epoch
        found = self._layers.get(key)
        if found is None:
            try:
                found = ceilings(self._ceilings_of(session_id))
            except (SessauthError, OSError):
                return ()
            _remember(self._layers, key, found)
        return found


def _remember(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    while len(known) > MAX_REMEMBERED:
        known.popitem(last=False)
