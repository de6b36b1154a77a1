"""The tools of a server as the proxy itself sees them: which of them are defined as pinned, at present."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

from ...decisions.catalogue_tool import Tool
from ...decisions.tool_catalog import ToolCatalog
from ...errors import UsageError
from ...guard import ToolDenied
from ...guard.call import BAD_CALL, CHANGED, NO_ANSWER
from ...guard.mcp_terms import is_modern, meta_of
from .messages import Message
from .schema_members import has_members

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
    """Return the definitions of all pages of a list. Raises UsageError if it is none, or too long."""
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
    """Return the definitions that are the pinned ones, by name; a tool that is there twice is none."""
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
        self,
        catalogue: ToolCatalog,
        ask: Ask,
        run: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
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
