"""Catalogues of MCP tools, and surveys of the calls that a token could make.

The operator pins a catalogue, which separates reads from writes. A server's later definitions of its tools
change nothing until they are pinned again: an unknown tool is denied, and a tool without a hint is a write.
Methods of the protocol other than ``tools/call`` are reads, writes, or part of the handshake, which needs no
scope.

A survey tells which of many calls a token could make now (docs/token-format.md, section 9.12). Its verdict is
not a decision: it helps to choose a call, and the call is still checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, NamedTuple, Self, overload

from .._fast import _check as kernel
from ..errors import UnknownTool, UsageError
from ..reasons import Reason, Stage, SurveyVerdict
from ..scopes.call_arguments import Arguments
from ..scopes.scope import Scope


class Candidate(NamedTuple):
    """A possible call. ``arguments`` of None means any arguments.

    ``arguments`` and ``tool`` are given as to ``Verifier.check``.
    """

    action: str | bytes
    resource: str | bytes
    arguments: Arguments | None = None
    tool: Arguments = b""


@dataclass(frozen=True, slots=True)
class Verdicts(Sequence[SurveyVerdict]):
    """One verdict for each candidate, in their order, by one state and one time.

    If the token itself is refused, all are NO for ``reason`` at ``stage``; else these are ALLOWED and NONE.
    ``revision`` is that of the state. ``bool(verdicts)`` is True if every one is YES.
    """

    verdicts: tuple[SurveyVerdict, ...]
    reason: Reason
    stage: Stage
    revision: int

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.verdicts)

    @overload
    def __getitem__(self, index: int) -> SurveyVerdict: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[SurveyVerdict, ...]: ...
    def __getitem__(self, index: int | slice) -> SurveyVerdict | tuple[SurveyVerdict, ...]:
        """Return the verdict of a candidate, or of several."""
        return self.verdicts[index]

    def __iter__(self) -> Iterator[SurveyVerdict]:
        """Iterate over the verdicts."""
        return iter(self.verdicts)

    def __bool__(self) -> bool:
        """Return True if the token is valid and every verdict is YES."""
        return self.reason == Reason.ALLOWED and all(self.verdicts)


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

        It is a read only if its ``readOnlyHint`` is true and its ``destructiveHint`` is not. Raises
        UsageError if it has no name, or its annotations are not an object.
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

        Raises UsageError if a member has another type, or the action is neither read nor write; TypeError if
        a member is missing or unknown.
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

        A write may destroy, also against the server's hints. Raises UsageError for another action.
        """
        if action not in (READ, WRITE):
            raise UsageError(f"{self.name!a}: {action!a} is neither read nor write")
        if action == self.action:
            return self
        read = action == READ
        return replace(self, action=action, destructive=not read, idempotent=read, corrected=True)


def segment(kind: str, name: str) -> str:
    """Return ``name`` if it can be one literal segment that isn't a method's.

    Raises UsageError if it can't; it names ``kind``.
    """
    try:
        Scope.on(READ, name)
    except UsageError:
        raise UsageError(f"{kind} name {name!a}: it can't be one segment of a resource") from None
    if name.startswith("@"):
        raise UsageError(f"{kind} name {name!a}: a leading @ marks methods of the protocol")
    return name


HANDSHAKE = "handshake"

TOOLS_CALL = "tools/call"
TOOLS_LIST = "tools/list"
# Methods of the protocol versions 2025-11-25 and 2026-07-28, tasks included. A method that is not here is a
# write, also one that a later version adds.
_ACTIONS = {
    # They begin, keep up or cancel a client's own exchange: a valid token is enough. So it is for the
    # list of tools, which is filtered by what the token could call.
    **dict.fromkeys(("initialize", "ping", "server/discover", TOOLS_LIST), HANDSHAKE),
    **dict.fromkeys(("notifications/initialized", "notifications/cancelled"), HANDSHAKE),
    **dict.fromkeys(("notifications/progress", "notifications/roots/list_changed"), HANDSHAKE),
    "notifications/tasks/status": HANDSHAKE,
    # They only look.
    **dict.fromkeys(("prompts/list", "prompts/get", "completion/complete"), READ),
    **dict.fromkeys(("resources/list", "resources/templates/list", "resources/read"), READ),
    **dict.fromkeys(("resources/subscribe", "resources/unsubscribe", "subscriptions/listen"), READ),
    **dict.fromkeys(("tasks/list", "tasks/get", "tasks/result"), READ),
}
# The options of a check that a check of the token alone does not have.
_CALL_OPTIONS = frozenset(("proof", "approvals", "retry_id", "permit_ms"))
_FORMAT = 1


class ToolCatalog:
    """The tools of one MCP server, as the operator pinned them."""

    __slots__ = ("_calls", "_tools", "server")

    def __init__(self, server: str, tools: Iterable[Tool]) -> None:
        """Take the server's name, a single resource segment, and its tools.

        Raises UsageError if a name can't be a resource segment, or is there twice.
        """
        self.server = segment("server", server)
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if segment("tool", tool.name) in self._tools:
                raise UsageError(f"the tool {tool.name!a} is in the catalogue twice")
            self._tools[tool.name] = tool
        # Every call needs action, resource and facts, so they are made once.
        self._calls = {
            name: (tool.action, f"mcp/{server}/{name}", self._described(tool))
            for name, tool in self._tools.items()
        }

    @classmethod
    def from_mcp(cls, server: str, tools: Iterable[Mapping[str, Any]]) -> ToolCatalog:
        """Pin tools as a server's ``tools/list`` gives them.

        A tool is a read only if its ``readOnlyHint`` is true and its ``destructiveHint`` is not. Raises
        UsageError if a tool has no name, or one that can't be a resource segment.
        """
        return cls(server, [Tool.from_definition(tool) for tool in tools])

    @classmethod
    def from_json(cls, text: str) -> ToolCatalog:
        """Read the text of :meth:`to_json`. Raises UsageError if it is something else."""
        try:
            data = json.loads(text)
            if data["format"] != _FORMAT:
                raise UsageError(f"a catalogue of format {data['format']!r}: this version reads {_FORMAT}")
            return cls(data["server"], [Tool.from_document(tool) for tool in data["tools"]])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"not a catalogue written by to_json(): {error}") from None

    def to_json(self) -> str:
        """Return the catalogue as stable JSON, to be stored under version control."""
        tools = [self._tools[name].document() for name in self]
        return json.dumps({"format": _FORMAT, "server": self.server, "tools": tools}, indent=2) + "\n"

    def request(self, tool: str, method: str = TOOLS_CALL) -> tuple[str, str]:
        """Return the action and resource of a call, for ``check``.

        The name of the tool is ignored for another method than ``tools/call``. The action of a method that is
        part of the handshake is ``HANDSHAKE``: use ``stands`` for it. No scope usually names that action, so
        that ``check`` denies it. Raises UnknownTool if the tool isn't pinned, or the method can't be a
        resource. Deny the call.
        """
        if method == TOOLS_CALL:
            return self._known(tool)[:2]
        try:
            Scope.on(READ, *method.split("/"))
        except UsageError:
            raise UnknownTool(f"no method of the protocol: {method!a}", method) from None
        return _ACTIONS.get(method, WRITE), f"mcp/{self.server}/@{method}"

    def describe(self, tool: str) -> bytes:
        """Return the catalogue's facts about a tool, as JSON, for ``check(tool=…)``.

        Conditions read it as ``tool.destructive == false`` and so on. Raises UnknownTool if the tool isn't
        pinned.
        """
        return self._known(tool)[2]

    def ask(self, tool: str, method: str = TOOLS_CALL) -> tuple[str, str, bytes]:
        """Return action, resource and facts of a call: :meth:`request` and :meth:`describe` in one.

        Raises UnknownTool as these.
        """
        return self._known(tool) if method == TOOLS_CALL else (*self.request(tool, method), b"")

    def candidates(self, tools: Iterable[str]) -> list[Candidate]:
        """Return the calls of these tools, with any arguments, for ``list_allowed``.

        Raises UnknownTool if a tool isn't pinned.
        """
        return [
            Candidate(action, resource, None, facts) for action, resource, facts in map(self._known, tools)
        ]

    def pinned(self, tools: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return those definitions of a ``tools/list`` answer whose tool is pinned."""
        return [tool for tool in tools if isinstance(tool.get("name"), str) and tool["name"] in self]

    def changed(self, tools: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
        """Name the tools that a server now defines otherwise than pinned, added or dropped, sorted.

        Definitions are compared by their digests, so a correction is not a change. Raises UsageError as
        :meth:`from_mcp`.
        """
        return self.differing(ToolCatalog.from_mcp(self.server, tools))

    def differing(self, other: ToolCatalog) -> tuple[str, ...]:
        """Name the tools whose definitions are in one of two catalogues only, sorted."""
        pinned = {(tool.name, tool.digest) for tool in self._tools.values()}
        others = {(tool.name, tool.digest) for tool in other._tools.values()}
        return tuple(sorted({name for name, _ in pinned ^ others}))

    def corrected(self, actions: Mapping[str, str]) -> ToolCatalog:
        """Return a catalogue with the operator's own word on some tools: a name, and ``read`` or ``write``.

        Raises UsageError if a tool is not here, or an action is neither.
        """
        for name in actions:
            if name not in self:
                raise UsageError(f"{name!a} is not in the catalogue of {self.server}")
        tools = [
            tool.corrected_to(actions[tool.name]) if tool.name in actions else tool
            for tool in self._tools.values()
        ]
        return ToolCatalog(self.server, tools)

    def corrections(self) -> dict[str, str]:
        """Return the actions that an operator corrected, by the tools' names."""
        return {name: self._tools[name].action for name in self if self._tools[name].corrected}

    def tool(self, name: str) -> Tool | None:
        """Return a pinned tool; None if there is none of this name."""
        return self._tools.get(name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the tools' names, sorted."""
        return iter(sorted(self._tools))

    def __len__(self) -> int:
        """Return the number of pinned tools."""
        return len(self._tools)

    def __contains__(self, tool: object) -> bool:
        """Return True if a tool of this name is pinned."""
        return tool in self._tools

    def _described(self, tool: Tool) -> bytes:
        facts = {**tool.facts(), "server": self.server, "read_only": tool.action == READ}
        return json.dumps(facts, separators=(",", ":"), sort_keys=True).encode()

    def _known(self, tool: str) -> tuple[str, str, bytes]:
        try:
            return self._calls[tool]
        except KeyError:
            raise UnknownTool(f"{tool!a} is not in the catalogue of {self.server}", tool) from None


def token_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a check for ``stands``, without those that are about a call."""
    return {name: value for name, value in options.items() if name not in _CALL_OPTIONS}
