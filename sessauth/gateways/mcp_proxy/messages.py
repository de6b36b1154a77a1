"""JSON-RPC messages, read strictly: a message that two readers could read differently is refused.

A client's requests are forwarded in the canonical form that was checked. Other messages are forwarded as they
are, on one line for every reader.

Also here: lines of bounded length read from a stream, and the interface of both kinds of servers.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

from ...errors import UsageError
from ...scopes.call_arguments import canonical

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601

RequestId: TypeAlias = int | str
Key: TypeAlias = tuple[bool, RequestId]
"""A request's id for look-ups, in which 1 is not "1"."""

# The largest integer that every reader of JSON keeps exactly (RFC 8259, section 6).
_MAX_ID: Final = 2**53 - 1
_MAX_ID_CHARS: Final = 256
_METHOD: Final = re.compile(r"[A-Za-z0-9_$./-]{1,128}")
_MEMBERS: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
# Readers of lines that end them here: all of Python's splitlines, and Node's readline. JSON has these in
# strings only, where an escape says the same; a carriage return only between values.
_LINE_ENDS: Final = str.maketrans(
    {"\r": " ", "\n": " ", "\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


class BadMessage(Exception):
    """A line that is not a message of the protocol, or that readers could read differently."""

    def __init__(
        self, text: str, code: int = INVALID_REQUEST, *, request_id: RequestId | None = None
    ) -> None:
        """Describe the fault, without repeating the line."""
        super().__init__(text)
        self.code = code
        self.request_id = request_id


class Kind(Enum):
    """The kinds of messages."""

    REQUEST = 1
    NOTIFICATION = 2
    RESPONSE = 3


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``text`` is the line to forward, ``value`` its contents; a response has no ``method``."""

    kind: Kind
    id: RequestId
    method: str
    text: str
    value: dict[str, Any]

    @property
    def key(self) -> Key:
        """The key of the id."""
        return key_of(self.id)

    @property
    def answer_id(self) -> RequestId | None:
        """The id for an answer; None for a message without one."""
        return self.id if self.kind is Kind.REQUEST else None

    @property
    def params(self) -> dict[str, Any]:
        """The parameters; empty without any."""
        params: dict[str, Any] = self.value.get("params", {})
        return params


def key_of(request_id: RequestId) -> Key:
    """Return the key of an id."""
    return isinstance(request_id, str), request_id


def read_client(line: bytes) -> Message:
    """Read a line of the client. Raises BadMessage.

    Members that differ in case only are refused: some readers take one for the other. Requests and
    notifications are in canonical form, so they are within the limits of a request's JSON.
    """
    message = _read(line, _STRICT)
    if message.kind is Kind.RESPONSE:
        return message
    try:
        text = canonical(message.text).decode()
    except UsageError as error:
        raise BadMessage(str(error), request_id=message.answer_id) from None
    return Message(message.kind, message.id, message.method, one_line(text), message.value)


def read_server(line: bytes) -> Message:
    """Read a line of the server. Raises BadMessage."""
    return _read(line, _UNIQUE)


def one_line(text: str) -> str:
    """Return a JSON text that no reader takes for several lines."""
    return text if text.isascii() and "\r" not in text and "\n" not in text else text.translate(_LINE_ENDS)


def message_line(**values: Any) -> str:
    """Return a message made here: ``jsonrpc`` and these members."""
    return json.dumps({"jsonrpc": "2.0", **values}, separators=(",", ":"))


def error_line(request_id: RequestId | None, code: int, message: str) -> str:
    """Return an error response; without an id it answers a message that could not be read."""
    return message_line(id=request_id, error={"code": code, "message": message})


def _read(data: bytes, decoder: json.JSONDecoder) -> Message:
    try:
        text = data.decode("utf-8").strip(" \t\r\n")
        value = decoder.decode(text)
    except UnicodeDecodeError:
        raise BadMessage("the line is not UTF-8", PARSE_ERROR) from None
    except (ValueError, RecursionError) as error:
        known = isinstance(error, _Ambiguous)
        raise BadMessage(str(error) if known else "the line is no JSON", PARSE_ERROR) from None
    if isinstance(value, list):
        raise BadMessage("batches are not accepted: send one message a line")
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise BadMessage("the line is no message of JSON-RPC 2.0")
    request_id = value.get("id")
    if "id" in value and not _is_id(request_id):
        raise BadMessage("the id is neither an integer nor a short string")
    if not value.keys() <= _MEMBERS:
        raise BadMessage("the message has members that JSON-RPC has not", request_id=request_id)
    if "method" in value:
        return _request(value, one_line(text))
    if request_id is None or ("result" in value) == ("error" in value) or "params" in value:
        raise BadMessage("the message is neither request, notification nor response")
    if not isinstance(value.get("result", {}), dict) or not isinstance(value.get("error", {}), dict):
        raise BadMessage("the response has a result or an error that is no object")
    return Message(Kind.RESPONSE, request_id, "", one_line(text), value)


def _request(value: dict[str, Any], text: str) -> Message:
    request_id, method = value.get("id"), value["method"]
    if not isinstance(method, str) or "result" in value or "error" in value:
        raise BadMessage("the message is neither request, notification nor response", request_id=request_id)
    if not _METHOD.fullmatch(method):
        raise BadMessage("the method has a form that no method has", request_id=request_id)
    if not isinstance(value.get("params", {}), dict):
        raise BadMessage("the parameters are no object", request_id=request_id)
    # A server might run a request that comes without an id, and answer a notification that has one.
    if method.startswith("notifications/") != (request_id is None):
        raise BadMessage("a request needs an id, and a notification has none", request_id=request_id)
    if request_id is None:
        return Message(Kind.NOTIFICATION, "", method, text, value)
    return Message(Kind.REQUEST, request_id, method, text, value)


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_ID_CHARS
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_ID


class _Ambiguous(ValueError):
    """JSON that readers could read differently."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Ambiguous("an object has two members of one name")
    return value


def _unique_in_any_case(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = _unique(pairs)
    if len({name.casefold() for name in value}) != len(value):
        raise _Ambiguous("an object has members whose names differ in case only")
    return value


def _constant(text: str) -> Any:
    raise _Ambiguous("NaN and infinities are no JSON")


def _decoder(pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=pairs, parse_constant=_constant)


_STRICT: Final = _decoder(_unique_in_any_case)
_UNIQUE: Final = _decoder(_unique)


# A request of a client is at most 1 MiB; its answer to a server's request may hold an image.
MAX_CLIENT_LINE: Final = 8 * 1024 * 1024
MAX_SERVER_LINE: Final = 32 * 1024 * 1024


class LineTooLong(Exception):
    """A line that is longer than permitted; where the next one begins is not known."""


class Upstream(Protocol):
    """A connection to a server of MCP."""

    async def send(self, message: Message) -> None:
        """Send a message. Raises OSError if the connection ended."""
        ...

    def lines(self) -> AsyncIterator[bytes]:
        """Iterate over the server's lines; ends with the connection. Raises LineTooLong."""
        ...

    def end_input(self) -> None:
        """Let the server know that nothing more is sent."""
        ...

    async def close(self) -> None:
        """End the connection, and the server if it was started here."""
        ...


async def read_lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Iterate over the lines of a stream that are not empty; a last one without an end of line is dropped.

    Raises LineTooLong beyond the limit of the reader.
    """
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return
        except (asyncio.LimitOverrunError, ValueError):
            raise LineTooLong from None
        if line := line.strip(b" \t\r\n"):
            yield line
