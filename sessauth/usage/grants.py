"""Lists of scopes that were granted, and which of their scopes may have admitted a call.

The kernel says what matches. A note of a call holds neither the session's facts at that moment nor what the
gateway said of the tool; so conditions that read them are left out of the question, and a scope counts as one
that may have admitted the call if all the rest of it matches. That errs on one side only: a scope may count
as used that was not, and none as unused that was.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from .. import limits
from .._fast.codec import protobuf
from .._fast.scopes import queries as _kernel
from ..errors import ScopeError, UsageError
from ..scopes.argument_path import ValueSource
from ..scopes.condition import Condition
from ..scopes.scope import Scope
from . import field_readers
from .profile import Position

CEILING: Final = "ceiling"
MINTED: Final = "minted"

# What the kernel answers for a scope of another action or resource.
_OUTSIDE: Final = -2


@dataclass(frozen=True, slots=True)
class _Question:
    """A scope without what can't be asked; ``decides``: the search for a match ends here if it matches."""

    scope: bytes
    decides: bool


class GrantLayer:
    """A list of scopes of which a call must match one: a layer of a ceiling, or what a token was minted with.

    Equal lists have equal ids, whichever session or token states them. ``id`` begins with the kind.
    """

    __slots__ = ("_questions", "id", "kind", "scopes")

    def __init__(self, kind: str, scopes: Iterable[Scope]) -> None:
        self.kind = kind
        self.scopes = tuple(scopes)
        encoded = [scope.encode() for scope in self.scopes]
        digest = blake2b(digest_size=16)
        for each in encoded:
            digest.update(len(each).to_bytes(4, "big") + each)
        self.id = f"{kind}:{digest.hexdigest()}"
        self._questions = tuple(map(_question, self.scopes))

    @classmethod
    def of_block(cls, payload: bytes) -> GrantLayer:
        """Return the layer that a root block's payload states; raises ``protobuf.WireError`` for no block."""
        return cls(MINTED, map(Scope.from_record, protobuf.decode("Block", payload)["scopes"]))

    def matching_positions(
        self, action: str, resource: str, arguments: bytes = b"", decided: int = -1
    ) -> tuple[Position, ...]:
        """Return the scopes of this layer that may have admitted an allowed call.

        Args:
            action: of the call, as ``resource`` and ``arguments`` (JSON) are.
            resource: see above.
            arguments: see above.
            decided: the scope that decided, where the decision names it; then there is nothing to search.

        Returns:
            positions, in order; one with the index -1 if no scope matches, as where the ceiling was
            narrowed between the call and this question.
        """
        if decided >= 0:
            return ((self.id, decided),)
        call = (action.encode(), resource.encode())
        found = []
        for index, question in enumerate(self._questions):
            # Without arguments first: most scopes are of something else, and arguments may be long.
            if _kernel.matches(question.scope, *call)[1] == _OUTSIDE:
                continue
            if _kernel.matches(question.scope, *call, arguments)[0]:
                found.append((self.id, index))
                if question.decides:
                    break
        return tuple(found) or ((self.id, -1),)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "kind": self.kind,
            "scopes": [base64.b64encode(scope.encode()).decode() for scope in self.scopes],
        }

    @classmethod
    def from_dict(cls, data: object) -> GrantLayer:
        """Read what :meth:`to_dict` gave; raises UsageError for anything else."""
        given = field_readers.fields(data, "kind", "scopes")
        if given["kind"] not in (CEILING, MINTED):
            raise UsageError("a usage record: a layer is of a ceiling, or minted")
        texts = field_readers.items(given["scopes"], limits.MAX_SCOPES)
        return cls(str(given["kind"]), [_scope(text) for text in texts])


def _scope(text: object) -> Scope:
    try:
        data = base64.b64decode(field_readers.text(text, 4 * limits.MAX_TOKEN_BYTES), validate=True)
        return Scope.from_record(protobuf.decode("Scope", data))
    except (protobuf.WireError, ScopeError, ValueError):
        raise UsageError("a usage record: expected an encoded scope") from None


def ceilings(layers: Sequence[Sequence[Scope]]) -> tuple[GrantLayer, ...]:
    """Return the layers of a session's ceiling."""
    return tuple(GrantLayer(CEILING, scopes) for scopes in layers)


def reads_more_than_arguments(condition: Condition) -> bool:
    """Whether a condition reads what no note holds: a fact of the session, or a property of the tool."""
    return bool(condition.fact) or condition.path.source != ValueSource.ARGS


def _question(scope: Scope) -> _Question:
    kept = tuple(c for c in scope.conditions if not reads_more_than_arguments(c))
    if len(kept) == len(scope.conditions):
        return _Question(scope.encode(), scope.needs is None)
    # What was left out still mentions its argument; so the scope is not more closed than it was.
    left = {c.path for c in scope.conditions if c.fact and c.path.source == ValueSource.ARGS}
    free = (
        () if scope.everything_free else (*scope.free_paths, *sorted(left - set(scope.free_paths), key=str))
    )
    return _Question(replace(scope, conditions=kept, free_paths=free).encode(), False)
