"""The tools of an MCP server: its list, catalogues pinned from that, and the changes since.

``Listing`` is the list as the proxy itself has read it: a tool may be called while its present definition is
the pinned one. ``pinned`` makes a catalogue of a list, ``differences`` compares the two, and
``definition_warnings`` finds hints that a definition itself contradicts.

A schema permits members that it does not name, unless it says otherwise. Definitions of tools mean the
opposite: hardly one closes its schema, and its function takes the arguments that are named. ``has_members``
reads a schema in that sense.
"""

from __future__ import annotations

import asyncio
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Any, Final

from ...decisions.tool_catalog import READ, TOOLS_LIST, Tool, ToolCatalog
from ...errors import UsageError
from ...guard import ToolDenied
from ...guard.call import BAD_CALL, CHANGED, NO_ANSWER
from ...guard.mcp_terms import is_modern, meta_of
from .messages import (
    METHOD_NOT_FOUND,
    BadMessage,
    Kind,
    LineTooLong,
    Message,
    Upstream,
    error_line,
    message_line,
    read_server,
)

_BRANCHES: Final = ("allOf", "anyOf", "oneOf")
_REFERENCE: Final = "$ref"
_OPENING: Final = ("additionalProperties", "patternProperties", "unevaluatedProperties")


def has_members(schema: Any, value: Any) -> bool:
    """Return True if a schema names each member of a value, those of objects within it too.

    An object whose schema names no properties, or says that there may be others, may have any.
    """
    return _has(schema, [schema], value)


def _has(root: Any, schemas: Iterable[Any], value: Any) -> bool:
    if not isinstance(value, dict | list):
        return True
    parts = list(_parts(root, schemas))
    if isinstance(value, list):
        return all(_has(root, [_item(part, at) for part in parts], each) for at, each in enumerate(value))
    if any(part.get(name, False) is not False for part in parts for name in _OPENING):
        return True
    named: dict[str, list[Any]] = {}
    for part in parts:
        for name, inner in _object(part.get("properties")).items():
            named.setdefault(name, []).append(inner)
    if not any("properties" in part or "additionalProperties" in part for part in parts):
        return True
    return all(name in named and _has(root, named[name], each) for name, each in value.items())


def _parts(root: Any, schemas: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Iterate over schemas with their branches and the schemas they refer to, each once."""
    waiting, seen = list(schemas), set()
    while waiting:
        schema = waiting.pop()
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        for branch in _BRANCHES:
            waiting += _listed(schema.get(branch))
        if _REFERENCE in schema:
            waiting.append(_referred(root, schema[_REFERENCE]))


def _referred(root: Any, reference: Any) -> Any:
    """Return the schema at a pointer into the same document (RFC 6901); None for another reference."""
    head, *steps = reference.split("/") if isinstance(reference, str) else [""]
    if head != "#":
        return None
    for step in steps:
        root = _object(root).get(step.replace("~1", "/").replace("~0", "~"))
    return root


def _item(schema: dict[str, Any], at: int) -> Any:
    """Return the schema of the element of a list."""
    first = _listed(schema.get("prefixItems", []))
    return first[at] if at < len(first) else schema.get("items")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# A list is read in this time and has no more pages and bytes.
LIST_S: Final = 30.0
MAX_PAGES: Final = 1000
MAX_BYTES: Final = 32 * 1024 * 1024
# A list that is older is read again before the next call.
AGE_S: Final = 60.0
_PROTOCOL: Final = "io.modelcontextprotocol/"
_LATE: Final = "the server did not list its tools within {:.0f} s"

_log: Final = logging.getLogger(__name__)

Ask = Callable[[dict[str, Any]], Awaitable[Message]]
"""Sends a ``tools/list`` with these parameters and returns the answer."""


async def all_pages(ask: Ask, params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the definitions of all pages of a list. Raises UsageError if it is not a list, or too long."""
    found: list[dict[str, Any]] = []
    size = 0
    for _ in range(MAX_PAGES):
        answer = await ask(params)
        result = answer.value.get("result", {})
        tools = result.get("tools")
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            error = answer.value.get("error", "no list")
            raise UsageError(f"the server did not list its tools: {error!a:.200}")
        size += len(answer.text)
        if size > MAX_BYTES:
            raise UsageError(f"the server's list of tools has more than {MAX_BYTES} characters")
        found += tools
        if not isinstance(cursor := result.get("nextCursor"), str):
            return found
        params = {**params, "cursor": cursor}
    raise UsageError(f"the server's list of tools has more than {MAX_PAGES} pages")


def as_pinned(catalogue: ToolCatalog, definitions: Iterable[Any]) -> dict[str, Mapping[str, Any]]:
    """Return the definitions that are the pinned ones, by name, without tools that are listed twice."""
    named = [(name, each) for each in definitions if (name := _name(each))]
    times = Counter(name for name, _ in named)
    return {
        name: each
        for name, each in named
        if times[name] == 1 and (pin := catalogue.tool(name)) is not None and _digest(each) == pin.digest
    }


def _name(definition: Any) -> str:
    name = definition.get("name") if isinstance(definition, dict) else None
    return name if isinstance(name, str) else ""


def _digest(definition: Mapping[str, Any]) -> str:
    try:
        return Tool.from_definition(definition).digest
    except UsageError:
        # A definition has a form that none was pinned with.
        return ""


class Listing:
    """The newest list of a server's tools. Calls wait for it where there is none."""

    def __init__(
        self, catalogue: ToolCatalog, ask: Ask, run: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    ) -> None:
        """Read lists by ``ask``, in tasks that ``run`` begins."""
        self._catalogue = catalogue
        self._ask = ask
        self._run = run
        self._schemas: dict[str, Any] = {}
        self._warned: set[str] = set()
        self._meta: dict[str, Any] = {}
        # Counts the events that make a list an old one, and has the count at which the list's read began.
        self._changes = 0
        self._read_changes = -1
        self._read_at = 0.0
        self._failure = ""
        self._reading: asyncio.Task[None] | None = None
        # Cleared from an initialize to its answer.
        self._shaken = asyncio.Event()
        self._shaken.set()

    def handshake(self, *, begins: bool) -> None:
        """Note that an ``initialize`` was sent, or is answered: the server may be another one from now on."""
        self._changes += 1
        (self._shaken.clear if begins else self._shaken.set)()

    def changed(self) -> None:
        """Note that the server's tools may be others now."""
        self._changes += 1

    def begin(self) -> None:
        """Begin to read the list without a call that needs it."""
        if self._read_changes != self._changes:
            self._reader()

    async def require(self, name: str, arguments: Any, params: Mapping[str, Any]) -> None:
        """Wait for a present list. Raises ToolDenied unless it has the tool as pinned, with these members."""
        if is_modern(params):
            # From 2026-07-28 on each request states its version.
            meta = meta_of(params).items()
            self._meta = {each: value for each, value in meta if each.startswith(_PROTOCOL)}
        if refusal := await self._refusal(name, arguments):
            word, cause = refusal
            _log.warning("denied: tool %a, reason %s: %s", name, word, cause)
            raise ToolDenied(name, word)

    def note(self, definitions: list[Any]) -> list[str]:
        """Return the name of each definition of a page that the client asked for; "" unless it is as pinned.

        A tool that is not is called again once the proxy has seen it as pinned.
        """
        names = list(map(_name, definitions))
        same = as_pinned(self._catalogue, definitions)
        for name in names:
            if name not in same:
                self._schemas.pop(name, None)
                self._warn(name)
        return [name if name in same else "" for name in names]

    async def _refusal(self, name: str, arguments: Any) -> tuple[str, str] | None:
        if name not in self._catalogue:
            # The guard says so.
            return None
        age = asyncio.get_running_loop().time() - self._read_at
        if self._read_changes == self._changes and age > AGE_S:
            self.changed()
        try:
            async with asyncio.timeout(LIST_S):
                while self._read_changes != self._changes:
                    await asyncio.wait([self._reader()])
                    if self._failure:
                        return NO_ANSWER, self._failure
        except TimeoutError:
            return NO_ANSWER, _LATE.format(LIST_S)
        if name not in self._schemas:
            return CHANGED, "its server does not list it as pinned"
        if not has_members(self._schemas[name], arguments):
            return BAD_CALL, "an argument has a member that the pinned schema lacks"
        return None

    def _reader(self) -> asyncio.Task[None]:
        if self._reading is None or self._reading.done():
            self._reading = self._run(self._read())
        return self._reading

    async def _read(self) -> None:
        self._failure = ""
        try:
            async with asyncio.timeout(LIST_S):
                await self._shaken.wait()
                changes = self._changes
                found = await all_pages(self._ask, {"_meta": self._meta} if self._meta else {})
                same = as_pinned(self._catalogue, found)
        except TimeoutError:
            self._failure = _LATE.format(LIST_S)
        except Exception as error:  # noqa: BLE001 - whatever fails, no tool is called
            self._failure = str(error) or type(error).__name__
        if self._failure:
            self._read_changes = -1
            _log.warning("no tool is called: %s", self._failure)
            return
        self._schemas = {name: each.get("inputSchema") for name, each in same.items()}
        self._read_changes = changes
        self._read_at = asyncio.get_running_loop().time()
        self._warned &= set(self._catalogue) - set(same)
        for name in map(_name, found):
            if name not in same:
                self._warn(name)

    def _warn(self, name: str) -> None:
        if name in self._catalogue and name not in self._warned:
            self._warned.add(name)
            _log.warning("the tool %a is not defined as pinned: pin it again", name)


VERSION: Final = "2025-11-25"
MODERN_VERSION: Final = "2026-07-28"
ANSWER_S: Final = 60.0
_CLIENT: Final = {"name": "sessauth", "version": "1"}
_MODERN: Final = {
    "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
    "io.modelcontextprotocol/clientInfo": _CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A tool that is not as it was pinned; None for a tool that is not there."""

    name: str
    before: Tool | None
    now: Tool | None

    def __str__(self) -> str:
        """Describe the change to the tool."""
        if self.before is None or self.now is None:
            known = self.now or self.before
            return f"{'added' if self.now else 'dropped'}  {self.name} ({known.action if known else ''})"
        changed = [
            f"{field} {getattr(self.before, field)} -> {getattr(self.now, field)}"
            for field in ("action", "destructive", "idempotent", "open_world")
            if getattr(self.before, field) != getattr(self.now, field)
        ]
        return f"changed  {self.name} ({', '.join(changed) or 'its definition'})"


def differences(before: ToolCatalog, now: ToolCatalog) -> list[Difference]:
    """Return the tools that are not as they were pinned, by name."""
    return [Difference(name, before.tool(name), now.tool(name)) for name in before.differing(now)]


def keep_corrections(before: ToolCatalog, now: ToolCatalog) -> tuple[ToolCatalog, list[str]]:
    """Return the new catalogue with the older one's corrections, and the tools that lost theirs.

    A correction is the operator's word on one definition: it does not hold for another one.
    """
    corrections, changed = before.corrections(), set(before.differing(now))
    kept = {name: action for name, action in corrections.items() if name not in changed}
    return now.corrected(kept), [name for name in corrections if name in changed]


def pinned(server: str, definitions: Sequence[dict[str, Any]]) -> tuple[ToolCatalog, list[str]]:
    """Return the catalogue of a server, and why each of the other definitions can't be pinned.

    A tool that can't be pinned is not in the catalogue, so every call of it is denied.
    """
    known, problems = {}, []
    for definition in definitions:
        try:
            [name] = ToolCatalog.from_mcp(server, [definition])
        except UsageError as error:
            problems.append(str(error))
            continue
        if name in known:
            raise UsageError(f"the server lists the tool {name!a} twice")
        known[name] = definition
    return ToolCatalog.from_mcp(server, known.values()), problems


async def list_tools(upstream: Upstream) -> list[dict[str, Any]]:
    """Return the definitions that a server gives, all pages of them. Closes the connection.

    Raises UsageError if the server does not answer as one of MCP.
    """
    try:
        async with asyncio.timeout(ANSWER_S):
            return await _Listing(upstream).run()
    except TimeoutError:
        raise UsageError(f"the server did not list its tools within {ANSWER_S:.0f} s") from None
    except (OSError, LineTooLong) as error:
        raise UsageError(f"the server did not list its tools: {str(error) or type(error).__name__}") from None
    finally:
        await upstream.close()


class _Listing:
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._lines: AsyncIterator[bytes] = upstream.lines()
        self._id = 0

    async def run(self) -> list[dict[str, Any]]:
        modern = False
        answer = await self._ask(
            "initialize", {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": _CLIENT}
        )
        if "error" in answer.value:
            # From 2026-07-28 on there is no handshake.
            modern = True
        else:
            await self._send(Kind.NOTIFICATION, "notifications/initialized")
        return await all_pages(
            lambda params: self._ask(TOOLS_LIST, params), {"_meta": _MODERN} if modern else {}
        )

    async def _ask(self, method: str, params: dict[str, Any]) -> Message:
        self._id += 1
        await self._send(Kind.REQUEST, method, params)
        async for data in self._lines:
            try:
                message = read_server(data)
            except BadMessage:
                continue
            if message.kind is Kind.RESPONSE and message.id == self._id:
                return message
            if message.kind is Kind.REQUEST:
                text = error_line(message.id, METHOD_NOT_FOUND, "not supported")
                await self._upstream.send(Message(Kind.RESPONSE, message.id, "", text, {}))
        raise UsageError("the server ended before it listed its tools")

    async def _send(self, kind: Kind, method: str, params: dict[str, Any] | None = None) -> None:
        value: dict[str, Any] = {"method": method}
        if kind is Kind.REQUEST:
            value = {"id": self._id, **value, "params": params or {}}
        text = message_line(**value)
        await self._upstream.send(
            Message(kind, self._id if kind is Kind.REQUEST else "", method, text, {"jsonrpc": "2.0", **value})
        )


# Tools that one warning names.
MAX_NAMED: Final = 8
# Words in the names of arguments, such as outputPath, save_path and dest.
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_TARGETS: Final = frozenset({"output", "out", "outfile", "save", "dest", "destination", "download", "export"})
_FILES: Final = frozenset({"file", "filename", "filepath", "path", "folder", "directory", "dir"})
# Words of a description for actions on a file.
_WRITES: Final = re.compile(
    r"\b(save[sd]?|saving|writ(e|es|ing|ten)|output|export(ed|s)?|download(ed|s)?)\b", re.I
)
# Format characters, private use and unassigned ones: a model reads them, and a person sees nothing.
_HIDDEN: Final = frozenset({"Cf", "Co", "Cn", "Cs", "Cc"})
_PLAIN: Final = frozenset("\n\r\t")


def definition_warnings(catalogue: ToolCatalog, definitions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return points that an operator should look at before the catalogue is used, a line each.

    The names in it are printable only if the server's are.
    """
    known = [
        (tool, definition)
        for definition in definitions
        if isinstance(name := definition.get("name"), str) and (tool := catalogue.tool(name)) is not None
    ]
    writing = [
        f"{tool.name}({', '.join(found)})" for tool, each in known if (found := _files_written(tool, each))
    ]
    reaching = [tool.name for tool, _ in known if tool.action == READ and tool.open_world]
    hiding = [tool.name for tool, definition in known if _is_hiding(definition)]
    lines = []
    if writing:
        lines.append(
            f"a read that has an argument for a file to write: {_named(writing)}; correct it to write, "
            "or hold the argument"
        )
    if reaching:
        lines.append(
            f"a read that may reach the open world, and tell it things: {_named(reaching)}; "
            "hold its addresses and queries"
        )
    if hiding:
        lines.append(f"a definition with characters that nobody sees: {_named(hiding)}")
    return lines


def _files_written(tool: Tool, definition: Mapping[str, Any]) -> list[str]:
    """Return the arguments of a read that name a file which it writes."""
    if tool.action != READ:
        return []
    schema = definition.get("inputSchema")
    arguments = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(arguments, Mapping):
        return []
    return [name for name, each in arguments.items() if _names_a_target(name, each)]


def _names_a_target(name: str, schema: Any) -> bool:
    words = {word.lower() for word in _WORD.findall(name)}
    about = schema.get("description", "") if isinstance(schema, Mapping) else ""
    written = isinstance(about, str) and _WRITES.search(about) is not None
    return bool(words & _FILES and (words & _TARGETS or written)) or name.lower() == "outfile"


def _is_hiding(definition: Mapping[str, Any]) -> bool:
    return any(
        char not in _PLAIN and unicodedata.category(char) in _HIDDEN
        for text in _texts(definition)
        for char in text
    )


def _texts(definition: Mapping[str, Any]) -> Iterator[str]:
    """Iterate over the texts of a definition, without recursion: it may nest deeply."""
    waiting: list[Any] = [definition]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _named(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
