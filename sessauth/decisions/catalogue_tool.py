"""One tool of a pinned catalogue: its action and its hints, by its server's word or the operator's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from .._fast import _check as kernel
from ..errors import UsageError
from ..scopes.scope import Scope

READ: Final = "read"
WRITE: Final = "write"
_HINTS: Final = ("destructive", "idempotent", "open_world", "corrected")


@dataclass(frozen=True, slots=True)
class Tool:
    """One pinned tool. ``digest`` is BLAKE2b-256 of its whole definition, in hex.

    ``corrected``: its action is the operator's word, against the hints of the server.
    """

    name: str
    action: str
    destructive: bool
    idempotent: bool
    open_world: bool
    digest: str
    corrected: bool = False

    @classmethod
    def from_definition(cls, definition: Mapping[str, Any]) -> Self:
        """Pin a tool as ``tools/list`` of its server defines it.

        It is a read only if its ``readOnlyHint`` is true and its ``destructiveHint`` is not.

        Raises:
            UsageError: if it has no name, or its annotations are no object.
        """
        name = definition.get("name")
        if not isinstance(name, str):
            raise UsageError("a tool without a name: pass an entry of tools/list")
        hints = definition.get("annotations") or {}
        if not isinstance(hints, Mapping):
            raise UsageError(f"{name!a}: annotations are no object")
        read = hints.get("readOnlyHint") is True and hints.get("destructiveHint") is not True
        whole = json.dumps(definition, separators=(",", ":"), sort_keys=True).encode()
        return cls(
            name=name,
            action=READ if read else WRITE,
            # The protocol's defaults: a write may destroy, and anything may reach the open world.
            destructive=not read and hints.get("destructiveHint") is not False,
            idempotent=read or hints.get("idempotentHint") is True,
            open_world=hints.get("openWorldHint") is not False,
            digest=kernel.digest(whole).hex(),
        )

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read :meth:`document`.

        Raises:
            UsageError: if a member has another type, or the action is neither read nor write.
            TypeError: if a member is missing or unknown.
        """
        tool = cls(**document)
        if not isinstance(tool.name, str) or not isinstance(tool.digest, str):
            raise UsageError("a tool of the catalogue has a name or a digest that is no text")
        if tool.action not in (READ, WRITE):
            raise UsageError(f"the tool {tool.name!a} has an action that is neither read nor write")
        if not all(isinstance(getattr(tool, hint), bool) for hint in _HINTS):
            raise UsageError(f"the tool {tool.name!a} has a hint that is neither true nor false")
        return tool

    def document(self) -> dict[str, Any]:
        """Return the tool as plain values for a file of the catalogue."""
        return asdict(self) if self.corrected else self.facts()

    def facts(self) -> dict[str, Any]:
        """Return the tool's own facts, which conditions read."""
        facts = asdict(self)
        del facts["corrected"]
        return facts

    def corrected_to(self, action: str) -> Tool:
        """Return this tool as a read or a write, by the operator's word.

        A write may destroy, whatever the server's hints say. Raises UsageError for another action.
        """
        if action not in (READ, WRITE):
            raise UsageError(f"{self.name!a}: {action!a} is neither read nor write")
        if action == self.action:
            return self
        read = action == READ
        return replace(self, action=action, destructive=not read, idempotent=read, corrected=True)


def segment(kind: str, name: str) -> str:
    """Return ``name`` if it can be one literal segment that isn't a method's.

    Raises:
        UsageError: if it can't; it names ``kind``.
    """
    try:
        Scope.on(READ, name)
    except UsageError:
        raise UsageError(f"{kind} name {name!a}: it can't be one segment of a resource") from None
    if name.startswith("@"):
        raise UsageError(f"{kind} name {name!a}: a leading @ marks methods of the protocol")
    return name
