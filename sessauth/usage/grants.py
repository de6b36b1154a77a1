"""Lists of granted scopes, and the scopes among them that may have admitted a call.

The kernel does the matching. A decision record holds neither the session's facts at its time nor the tool's
properties. So conditions on them are left out, and a scope counts as used if the rest of it matches. A scope
may count as used that was not, but none as unused that was.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from .. import limits
from .._fast import _check as kernel
from .._fast import _codec as codec
from ..errors import ScopeError, UsageError
from ..scopes.condition import Condition
from ..scopes.scope import Scope
from . import field_readers
from .profile import Position

CEILING: Final = "ceiling"
MINTED: Final = "minted"

# The kernel's result for a scope of another action or resource.
_OUTSIDE: Final = -2


@dataclass(frozen=True, slots=True)
class _Query:
    """A scope without conditions on facts; ``decides``: the search ends here if it matches."""

    scope: bytes
    decides: bool


class GrantLayer:
    """A list of scopes of which a call must match one: a layer of a ceiling, or a token's minted scopes.

    Equal lists have equal ids, in any session or token. ``id`` begins with the kind.
    """

    __slots__ = ("_queries", "id", "kind", "scopes")

    def __init__(self, kind: str, scopes: Iterable[Scope]) -> None:
        self.kind = kind
        self.scopes = tuple(scopes)
        encoded = [scope.encode() for scope in self.scopes]
        digest = blake2b(digest_size=16)
        for data in encoded:
            digest.update(len(data).to_bytes(4, "big") + data)
        self.id = f"{kind}:{digest.hexdigest()}"
        self._queries = tuple(map(_query, self.scopes))

    @classmethod
    def of_block(cls, payload: bytes) -> GrantLayer:
        """Return the layer of a root block's payload; raises ``protobuf.WireError`` for no block."""
        return cls(MINTED, map(Scope.from_record, kernel.decode_message("Block", payload)["scopes"]))

    def matching_positions(
        self, action: str, resource: str, arguments: bytes = b"", decided: int = -1
    ) -> tuple[Position, ...]:
        """Return the scopes of this layer that may have admitted an allowed call.

        Args:
            action: of the call.
            resource: of the call.
            arguments: of the call, as JSON.
            decided: the index of the scope that decided, if the decision names it; then nothing is searched.

        Returns:
            positions, in order; one with the index -1 if no scope matches, as when the ceiling was narrowed
            since the call.
        """
        if decided >= 0:
            return ((self.id, decided),)
        call = (action.encode(), resource.encode())
        positions = []
        for index, query in enumerate(self._queries):
            # Without arguments first: most scopes are of another resource, and arguments may be long.
            if codec.matches(query.scope, *call)[1] == _OUTSIDE:
                continue
            if codec.matches(query.scope, *call, arguments)[0]:
                positions.append((self.id, index))
                if query.decides:
                    break
        return tuple(positions) or ((self.id, -1),)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "kind": self.kind,
            "scopes": [base64.b64encode(scope.encode()).decode() for scope in self.scopes],
        }

    @classmethod
    def from_dict(cls, data: object) -> GrantLayer:
        """Read the values of :meth:`to_dict`; raises UsageError for anything else."""
        plain = field_readers.fields(data, "kind", "scopes")
        if plain["kind"] not in (CEILING, MINTED):
            raise UsageError("a usage record: a layer is of a ceiling, or minted")
        texts = field_readers.items(plain["scopes"], limits.MAX_SCOPES)
        return cls(str(plain["kind"]), [_scope(text) for text in texts])


def _scope(text: object) -> Scope:
    try:
        data = base64.b64decode(field_readers.text(text, 4 * limits.MAX_TOKEN_BYTES), validate=True)
        return Scope.from_record(kernel.decode_message("Scope", data))
    except (kernel.WireError, ScopeError, ValueError):
        raise UsageError("a usage record: expected an encoded scope") from None


def ceilings(layers: Sequence[Sequence[Scope]]) -> tuple[GrantLayer, ...]:
    """Return the layers of a session's ceiling."""
    return tuple(GrantLayer(CEILING, scopes) for scopes in layers)


def is_for(scope: Scope, action: str, resource: str) -> bool:
    """Return True if a scope is for an action on a resource, whatever the arguments."""
    return bool(codec.matches(scope.encode(), action.encode(), resource.encode())[1] != _OUTSIDE)


def reads_more_than_arguments(condition: Condition) -> bool:
    """Return True if a condition reads a fact of the session or a property of the tool."""
    return bool(condition.fact) or not condition.path.is_argument


def _query(scope: Scope) -> _Query:
    conditions = tuple(c for c in scope.conditions if not reads_more_than_arguments(c))
    if len(conditions) == len(scope.conditions):
        return _Query(scope.encode(), scope.needs is None)
    # A condition that is left out still mentions its argument, so the scope is as open as before.
    left = {c.path for c in scope.conditions if c.fact and c.path.is_argument}
    free = (
        () if scope.everything_free else (*scope.free_paths, *sorted(left - set(scope.free_paths), key=str))
    )
    return _Query(replace(scope, conditions=conditions, free_paths=free).encode(), False)
