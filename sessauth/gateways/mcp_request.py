"""Messages of MCP over Streamable HTTP: the body, and the headers that must state the same."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from .._fast._check import RpcMessage
from .._fast.codec.errors import FormError
from ..decisions.tool_catalog import HANDSHAKE, TOOLS_CALL, ToolCatalog
from ..errors import UnknownTool
from ..guard.mcp_terms import PROTOCOL_PARAMS
from ..guard.services.mcp_sessions import HEADER as MCP_SESSION
from ..guard.services.mcp_sessions import MAX_ID_CHARS
from .arguments import of_values
from .headers import Headers
from .mapped import Call, Fault, Refusal, Refused, TokenOnly

# From this version on each request repeats its method and name in headers.
MODERN: Final = "2026-07-28"
_NOTIFICATION: Final = "notifications/"
_NAMED: Final = frozenset({TOOLS_CALL, "prompts/get", "resources/read"})
_SENTINEL: Final = re.compile(r"=\?base64\?(.*)\?=")
_METHOD: Final = re.compile(r"[A-Za-z0-9_$./-]{1,128}")
# Visible characters, as the protocol has it; two lines may be joined with a comma.
_SESSION: Final = re.compile(r"[!-+\--~]+")
_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def map_message(
    catalogue: ToolCatalog, method: str, headers: Headers, body: bytes
) -> Call | TokenOnly | Refusal:
    """Map a request to the endpoint of MCP. Raises Refused where the message has no id to answer."""
    if method != "POST":
        # The stream of a session, and its end (2025-11-25).
        if method not in ("GET", "DELETE"):
            raise Refused(Fault.METHOD, "no method of MCP")
        _require_no_message_headers(headers)
        return TokenOnly(headers.token()[0], "", mcp_session=_session(headers))
    try:
        message = RpcMessage(body)
    except FormError as error:
        raise Refused(Fault.BODY_FORM, error.detail) from None
    try:
        return _map(catalogue, message, headers)
    except Refused as refused:
        return Refusal(refused.fault, refused.detail, True, message.id)


def _map(catalogue: ToolCatalog, message: RpcMessage, headers: Headers) -> Call | TokenOnly | Refusal:
    if message.own_meta:
        raise Refused(Fault.META_TOKEN, "a member of sessauth's in _meta")
    method = message.method
    if not method:
        # An answer to a request of the server (2025-11-25).
        _require_no_message_headers(headers)
        return TokenOnly(headers.token()[0], "", True, message.id, _session(headers))
    if not _METHOD.fullmatch(method):
        raise Refused(Fault.BODY_FORM, "method has a form that no method has")
    _compare(message, headers)
    token, proof = headers.token()
    if method.startswith(_NOTIFICATION) == bool(message.id):
        raise Refused(Fault.BODY_FORM, "a notification with an id, or a request without one")
    tool = ""
    if method == TOOLS_CALL:
        if not message.name:
            raise Refused(Fault.BODY_FORM, "tools/call without a name")
        tool = message.name
    try:
        action, resource, facts = catalogue.ask(tool, method)
    except UnknownTool:
        detail = "not in the catalogue"
        return Refusal(Fault.UNKNOWN_TOOL, detail, True, message.id, token, method, tool, message.arguments)
    if action == HANDSHAKE:
        return TokenOnly(token, method, True, message.id, _session(headers))
    arguments = of_values(message.arguments, () if tool else PROTOCOL_PARAMS)
    session = _session(headers)
    return Call(token, proof, action, resource, arguments, facts, method, tool, True, message.id, session)


def _session(headers: Headers) -> str:
    """Return the id of the session of MCP; empty without one. Raises Refused for one that can't be bound."""
    mcp_session = headers.get(MCP_SESSION)
    if mcp_session is None:
        return ""
    if len(mcp_session) > MAX_ID_CHARS or not _SESSION.fullmatch(mcp_session):
        raise Refused(Fault.HEADER_FORM, "mcp-session-id has a form that no id has, or is too long")
    return mcp_session


def _require_no_message_headers(headers: Headers) -> None:
    if headers.params or headers.get("mcp-method") is not None or headers.get("mcp-name") is not None:
        raise Refused(Fault.HEADER_MISMATCH, "headers of a message that is none")


def _compare(message: RpcMessage, headers: Headers) -> None:
    """Raise Refused unless the headers agree with the message."""
    version = headers.get("mcp-protocol-version")
    method, name = headers.get("mcp-method"), headers.get("mcp-name")
    if version is not None and not _VERSION.fullmatch(version):
        raise Refused(Fault.HEADER_FORM, "mcp-protocol-version is no date")
    if message.protocol_version is not None and message.protocol_version != version:
        raise Refused(Fault.HEADER_MISMATCH, "mcp-protocol-version")
    modern = version is not None and version >= MODERN and bool(message.id)
    if method is None:
        if modern:
            raise Refused(Fault.HEADER_MISMATCH, "mcp-method is missing")
    elif method != message.method:
        raise Refused(Fault.HEADER_MISMATCH, "mcp-method")
    if name is not None:
        if _decoded(name, headers) not in _names(message):
            raise Refused(Fault.HEADER_MISMATCH, "mcp-name")
    elif modern and message.method in _NAMED:
        raise Refused(Fault.HEADER_MISMATCH, "mcp-name is missing")
    if headers.params:
        _compare_params(message, headers)


def _names(message: RpcMessage) -> tuple[str | None, ...]:
    if message.method in _NAMED:
        return (message.uri if message.method == "resources/read" else message.name,)
    # Methods of extensions name their subject in a parameter of their own.
    # A number may have more digits than Python reads.
    params = json.loads(message.arguments, parse_int=float)
    return tuple(value for value in params.values() if isinstance(value, str))


def _compare_params(message: RpcMessage, headers: Headers) -> None:
    """Raise Refused unless each Mcp-Param header states a value that the arguments have."""
    if message.method != TOOLS_CALL:
        raise Refused(Fault.HEADER_MISMATCH, "mcp-param of another method than tools/call")
    if len({name for name, _ in headers.params}) < len(headers.params):
        raise Refused(Fault.HEADER_FORM, "an mcp-param header is there twice")
    arguments = json.loads(message.arguments, parse_int=str, parse_float=str, parse_constant=str)
    stated = set(_scalars(arguments))
    for _, value in headers.params:
        if _decoded(value, headers) not in stated:
            raise Refused(Fault.HEADER_MISMATCH, "an mcp-param header with a value that no argument has")


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for member in value.values():
            yield from _scalars(member)
    elif isinstance(value, list):
        for element in value:
            yield from _scalars(element)
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif value is not None:
        yield value


def _decoded(value: str, headers: Headers) -> str | None:
    """Return the text of a header value, None for a faulty sentinel."""
    match = _SENTINEL.fullmatch(value)
    if match is None:
        if headers.joined and "," in value:
            raise Refused(Fault.HEADER_FORM, "a comma, which is allowed between two lines")
        return value
    try:
        decoded = base64.b64decode(match[1], validate=True)
        if base64.b64encode(decoded).decode() != match[1]:
            return None
        return decoded.decode()
    except (binascii.Error, ValueError):
        return None
