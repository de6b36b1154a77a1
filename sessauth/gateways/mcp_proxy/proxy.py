"""The proxy of one MCP connection: checks a client's messages and filters its server's answers.

It has no transport. Lines come in by :meth:`McpProxy.client_line` and :meth:`McpProxy.server_line`, and go
out by two callables. Every request is checked by the guard and forwarded in the form that was checked:

- ``tools/call`` as a call of the tool, other requests as methods of the protocol;
- requests of the server to the client (sampling, elicitation, roots) as methods of the protocol as well,
  whether they come as requests or within another message;
- of ``tools/list`` only tools that the token could call are shown, in their pinned form;
- a tool is called only if the proxy itself has read its present definition, and that is the pinned one.

From 2026-07-28 on, results and notifications about tasks may hold input requests; in 2025-11-25 an error may
ask the user to visit addresses. The client answers input requests with its next request. One of them may be
the proxy's own, for an approval; its answer does not reach the server.

What must never happen: a request passes without a check; the server gets other bytes than those checked.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ...decisions.tool_catalog import TOOLS_CALL, TOOLS_LIST, ToolCatalog
from ...guard import Guard, ToolDenied
from ...guard.mcp_terms import APPROVAL, OWN, PROTOCOL_PARAMS, error_of, is_modern, meta_of, tool_refusal
from ..json_parts import array_text, elements, members, object_text
from .listing import Listing
from .messages import (
    INVALID_REQUEST,
    BadMessage,
    Key,
    Kind,
    Message,
    error_line,
    key_of,
    message_line,
    read_client,
    read_server,
)

_ELICIT: Final = "elicitation/create"
_INPUTS: Final = "inputRequests"


def judged_params(parts: dict[str, str]) -> bytes:
    """Return the parameters of a method without those of the protocol itself."""
    params = members(parts["params"]) if "params" in parts else {}
    return object_text({name: text for name, text in params.items() if name not in PROTOCOL_PARAMS}).encode()


def requests_within(message: Message) -> list[tuple[str, bytes]]:
    """Return method and checked parameters of each request that a response or notification holds.

    Raises BadMessage for one that can't be read, or that some readers of JSON find and others don't.
    """
    holder = "params" if message.kind is Kind.NOTIFICATION else "result"
    value: dict[str, Any] = message.value.get(holder, {})
    found: list[tuple[str, bytes]] = []
    if isinstance(inputs := _member(value, _INPUTS), dict):
        texts = members(members(members(message.text)[holder])[_INPUTS])
        found += [_request(request, texts[name]) for name, request in inputs.items()]
    if holder == "result":
        _member(value, "tools")
    data = _member(message.value.get("error", {}), "data")
    if isinstance(data, dict) and isinstance(_member(data, "elicitations"), list):
        texts_of_data = members(members(members(message.text)["error"])["data"])
        shown = elements(texts_of_data["elicitations"])
        found += [(_ELICIT, judged_params({"params": _object(text)})) for text in shown]
    return found


def without_approval(message: Message, parts: dict[str, str], params: dict[str, str]) -> Message:
    """Return a call without the answer to an input request of ours, which the server did not make."""
    responses = message.params.get("inputResponses")
    if not isinstance(responses, dict) or APPROVAL not in responses:
        return message
    rest = members(params["inputResponses"])
    del rest[APPROVAL]
    params = {**params, "inputResponses": object_text(rest)}
    if not rest:
        del params["inputResponses"]
    text = object_text({**parts, "params": object_text(params)})
    return Message(message.kind, message.id, message.method, text, message.value)


def _request(request: object, text: str) -> tuple[str, bytes]:
    method = _member(request, "method") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(method, str):
        raise BadMessage("a request within a message has no method")
    if not isinstance(_member(request, "params") or {}, dict):
        raise BadMessage("a request within a message has parameters that are no object")
    parts = members(text)
    return method, judged_params(parts if request.get("params") is not None else {})


def _object(text: str) -> str:
    if not text.startswith("{"):
        raise BadMessage("an elicitation within an error is no object")
    return text


def _member(value: dict[str, Any], name: str) -> Any:
    """Return a member. Raises BadMessage for another whose name differs from it in case only."""
    if any(other != name and other.casefold() == name.casefold() for other in value):
        raise BadMessage(f"a member differs from {name} in case only")
    return value.get(name)


INITIALIZE: Final = "initialize"
INITIALIZED: Final = "notifications/initialized"
CANCELLED: Final = "notifications/cancelled"
LIST_CHANGED: Final = "notifications/tools/list_changed"
# Requests of one client that are under way at once.
MAX_PENDING: Final = 256
# The longest name of a tool; MCP recommends 128 at most.
MAX_NAME_CHARS: Final = 256
# Parameters of a call, which some readers take in any case.
_OF_CALL: Final = {name.casefold(): name for name in ("name", "arguments", "task", *PROTOCOL_PARAMS)}
_LOST: Final = "the server ended before it answered"

_log: Final = logging.getLogger(__name__)

Send = Callable[[Message], Awaitable[None]]
Write = Callable[[str], Awaitable[None]]


@dataclass(eq=False, slots=True)
class Pending:
    """A request of the client that is under way; ``answer`` is set where the proxy waits for it."""

    message: Message
    task: asyncio.Task[None] | None = None
    answer: asyncio.Future[Message] | None = None
    forwarded: bool = False

    @property
    def is_answered(self) -> bool:
        """True if the server's answer is there and not yet written to the client."""
        return self.answer is not None and self.answer.done() and not self.answer.cancelled()


class McpProxy:
    """Checks the messages of one client and its server."""

    def __init__(
        self,
        guard: Guard,
        catalogue: ToolCatalog,
        to_client: Write,
        to_server: Send,
        *,
        approval_url: str = "",
        on_arguments: Callable[[str], None] | None = None,
    ) -> None:
        """Check by ``guard`` and write by the two callables.

        Args:
            guard: a guard with the token; its methods are awaited.
            catalogue: the guard's catalogue.
            to_client: writes a line to the client.
            to_server: sends a message to the server.
            approval_url: the address of an approval, with ``{session}`` and ``{approval}`` in it.
            on_arguments: called with the arguments of each call that is to be checked, as JSON.
        """
        self._guard = guard
        self._to_client = to_client
        self._to_server = to_server
        self._approval_url = approval_url
        self._on_arguments = on_arguments
        self._pending: dict[Key, Pending] = {}
        self._of_server: set[Key] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        # Answers to requests of the proxy's own.
        self._own: dict[Key, asyncio.Future[Message]] = {}
        self._listing = Listing(catalogue, self._list_page, self._run)

    async def client_line(self, data: bytes) -> None:
        """Take a line of the client."""
        try:
            message = read_client(data)
            self._refuse_ours(message)
        except BadMessage as bad:
            _log.warning("a message of the client was refused: %s", bad)
            known = bad.request_id is not None and key_of(bad.request_id) not in self._pending
            await self._to_client(error_line(bad.request_id if known else None, bad.code, str(bad)))
            return
        if message.kind is Kind.REQUEST:
            await self._begin(message)
        elif message.kind is Kind.NOTIFICATION:
            await self._notify(message)
        elif message.key in self._of_server:
            self._of_server.discard(message.key)
            await self._to_server(message)
        else:
            _log.warning("the client answered a request that was not made; dropped")

    async def server_line(self, data: bytes) -> None:
        """Take a line of the server."""
        try:
            message = read_server(data)
        except BadMessage as bad:
            _log.warning("a line of the server was dropped: %s", bad)
            return
        if message.kind is Kind.RESPONSE:
            await self._answered(message)
        elif message.kind is Kind.NOTIFICATION:
            await self._server_notification(message)
        else:
            await self._server_request(message)

    async def settle(self) -> None:
        """Wait until every message that came in so far is checked and forwarded."""
        while unchecked := [each.task for each in self._pending.values() if each.task and not each.forwarded]:
            await asyncio.wait(unchecked, timeout=0.05)

    @property
    def idle(self) -> bool:
        """True if no request of the client waits for an answer."""
        return not self._pending

    async def close(self, refusal: ToolDenied | None = None) -> None:
        """Answer all that is under way: with ``refusal``, or that the server ended."""
        # The server answered these already.
        while answered := [
            each.task
            for each in self._pending.values()
            if each.is_answered and each.task and not each.task.done()
        ]:
            await asyncio.wait(answered)
        pending = list(self._pending.values())
        self._pending.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in pending:
            if refusal is not None:
                await self._refuse(each.message, refusal)
            else:
                await self._to_client(error_line(each.message.id, -32603, _LOST))

    # -- requests of the client

    async def _begin(self, message: Message) -> None:
        if message.key in self._pending:
            # An answer with this id would be taken for the answer to the first.
            _log.warning("a request of the client was refused: its id is in use")
            await self._to_client(error_line(None, INVALID_REQUEST, "the id is that of a request under way"))
            return
        if len(self._pending) >= MAX_PENDING:
            await self._to_client(error_line(message.id, -32603, "too many requests at once"))
            return
        if message.method == INITIALIZE:
            self._listing.handshake(begins=True)
        pending = Pending(message)
        self._pending[message.key] = pending
        pending.task = self._run(self._judge(pending))

    async def _judge(self, pending: Pending) -> None:
        message = pending.message
        try:
            if message.method == TOOLS_CALL:
                answer = await self._call(pending)
                try:
                    await self._to_client(answer.text)
                finally:
                    self._pending.pop(message.key, None)
            else:
                await self._guard.acheck_method(message.method, judged_params(members(message.text)))
                pending.forwarded = True
                await self._to_server(message)
        except ToolDenied as denied:
            self._pending.pop(message.key, None)
            await self._refuse(message, denied)
        except BadMessage as bad:
            self._pending.pop(message.key, None)
            await self._to_client(error_line(message.id, bad.code, str(bad)))
        except OSError as error:
            # It is answered when the connection to the server is known to have ended.
            _log.warning("a request could not be sent: %s", type(error).__name__)
        except Exception as error:  # noqa: BLE001 - whatever fails, the client gets an answer
            _log.error("a request failed: %s", type(error).__name__)
            self._pending.pop(message.key, None)
            await self._to_client(error_line(message.id, -32603, "the request failed"))

    async def _call(self, pending: Pending) -> Message:
        """Have a tool called; return the answer. Raises ToolDenied, BadMessage."""
        message = pending.message
        name, arguments = message.params.get("name"), message.params.get("arguments", {})
        if not isinstance(name, str) or len(name) > MAX_NAME_CHARS or not isinstance(arguments, dict):
            raise BadMessage("a call has a name and arguments")
        if any(_OF_CALL.get(member.casefold(), member) != member for member in message.params):
            raise BadMessage("a parameter's name differs from the protocol's in case only")
        await self._require_listed(name, message)
        parts = members(message.text)
        params = members(parts["params"])
        forwarded = without_approval(message, parts, params)

        async def do() -> Message:
            # The tools may have changed since the call was checked.
            await self._require_listed(name, message)
            pending.answer = asyncio.get_running_loop().create_future()
            pending.forwarded = True
            try:
                await self._to_server(forwarded)
                return await pending.answer
            except asyncio.CancelledError:
                # The guard takes back an allowed call, or the client does not want it any more.
                with suppress(OSError):
                    await self._cancel_at_server(message)
                raise

        # No call id: a client chooses its ids, and could pay once and call twice.
        checked: str = params.get("arguments", "{}")
        if self._on_arguments is not None:
            self._on_arguments(checked)
        answer: Message = await self._guard.arun(name, checked.encode(), do)
        return answer

    async def _require_listed(self, name: str, message: Message) -> None:
        if not self._guard.observing:
            await self._listing.require(name, message.params.get("arguments", {}), message.params)

    async def _list_page(self, params: dict[str, Any]) -> Message:
        """Ask the server for a page of its tools, under an id that no client guesses."""
        own_id = f"sessauth-{secrets.token_hex(8)}"
        value: dict[str, Any] = {"id": own_id, "method": TOOLS_LIST, "params": params}
        message = Message(Kind.REQUEST, own_id, TOOLS_LIST, message_line(**value), value)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._own[message.key] = answer
        try:
            await self._to_server(message)
            return await answer
        except asyncio.CancelledError:
            with suppress(OSError):
                await self._cancel_at_server(message)
            raise
        finally:
            del self._own[message.key]

    async def _notify(self, message: Message) -> None:
        if message.method == CANCELLED:
            of = message.params.get("requestId")
            pending = self._pending.get(key_of(of)) if isinstance(of, int | str) else None
            if pending is None:
                return
            del self._pending[pending.message.key]
            if pending.message.method == TOOLS_CALL or not pending.forwarded:
                # Never sent, or the call itself tells the server.
                if pending.task is not None:
                    pending.task.cancel()
                return
        try:
            await self._guard.acheck_method(message.method, judged_params(members(message.text)))
        except ToolDenied:
            return
        await self._to_server(message)
        if message.method == INITIALIZED:
            self._listing.begin()

    async def _cancel_at_server(self, message: Message) -> None:
        params = {"requestId": message.id, "reason": "no longer wanted or no longer allowed"}
        text = message_line(method=CANCELLED, params=params)
        await self._to_server(Message(Kind.NOTIFICATION, "", CANCELLED, text, {"params": params}))

    async def _refuse(self, message: Message, denied: ToolDenied) -> None:
        if message.method == INITIALIZE:
            self._listing.handshake(begins=False)
        if message.method == TOOLS_CALL:
            result = tool_refusal(denied, message.params, approval_url=self._approval_url)
            await self._to_client(message_line(id=message.id, result=result))
        else:
            await self._to_client(message_line(id=message.id, error=error_of(denied)))

    # -- answers and requests of the server

    async def _answered(self, message: Message) -> None:
        if (own := self._own.get(message.key)) is not None:
            if not own.done():
                own.set_result(message)
            return
        pending = self._pending.get(message.key)
        if pending is None or not pending.forwarded or pending.is_answered:
            _log.warning("the server answered a request that was not made; dropped")
            return
        if pending.answer is None:
            del self._pending[message.key]
        if pending.message.method == INITIALIZE:
            self._listing.handshake(begins=False)
        result = message.value.get("result", {})
        try:
            # For every method: it may be the late answer to a request that was cancelled, under its id.
            if isinstance(result.get("tools"), list):
                message = await self._filtered(pending.message, message)
            await self._judge_within(message)
        except ToolDenied as denied:
            if pending.answer is not None and not pending.answer.done():
                pending.answer.set_exception(denied)
            else:
                await self._refuse(pending.message, denied)
            return
        if pending.answer is None:
            await self._to_client(message.text)
        elif not pending.answer.done():
            pending.answer.set_result(message)

    async def _filtered(self, request: Message, answer: Message) -> Message:
        """Return a list of tools without those that are not pinned as they are, or can't be called."""
        names = self._listing.note(answer.value["result"]["tools"])
        if self._guard.observing:
            return answer
        shown = set(await self._guard.avisible(sorted(filter(None, names))))
        whole = members(answer.text)
        result = members(whole["result"])
        kept = zip(names, elements(result["tools"]), strict=True)
        result["tools"] = array_text(text for name, text in kept if name in shown)
        if is_modern(request.params) or "ttlMs" in result:
            # A list for this token is private, and expires at once.
            result.update(ttlMs="0", cacheScope='"private"')
        whole["result"] = object_text(result)
        return Message(answer.kind, answer.id, "", object_text(whole), answer.value)

    async def _judge_within(self, message: Message) -> None:
        """Check the requests to the client that another message of the server holds. Raises ToolDenied."""
        try:
            requests = requests_within(message)
        except BadMessage as bad:
            self._guard.refuse(message.method or "result", cause=bad)
            return
        for method, params in requests:
            await self._guard.acheck_method(method, params)

    async def _server_notification(self, message: Message) -> None:
        if message.method == LIST_CHANGED:
            self._listing.changed()
        try:
            await self._judge_within(message)
        except ToolDenied:
            return
        if message.method == CANCELLED and isinstance(of := message.params.get("requestId"), int | str):
            # No answer is awaited any more.
            self._of_server.discard(key_of(of))
        await self._to_client(message.text)

    async def _server_request(self, message: Message) -> None:
        try:
            if message.key in self._of_server or len(self._of_server) >= MAX_PENDING:
                raise ToolDenied(message.method, "BAD_CALL")
            await self._guard.acheck_method(message.method, judged_params(members(message.text)))
        except ToolDenied as denied:
            text = message_line(id=message.id, error=error_of(denied))
            await self._to_server(Message(Kind.RESPONSE, message.id, "", text, {}))
            return
        self._of_server.add(message.key)
        await self._to_client(message.text)

    def _refuse_ours(self, message: Message) -> None:
        """Raise BadMessage for names of ours in ``_meta``: the token of the proxy is the only one."""
        if any(name.casefold().startswith(OWN) for name in meta_of(message.params)):
            raise BadMessage(f"_meta: {OWN}… is not for clients of a proxy", request_id=message.answer_id)

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
