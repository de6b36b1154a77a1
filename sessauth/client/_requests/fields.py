"""Fields of requests: checked, and converted between the package's values and the wire's messages.

Nested records (scopes, facts, keys) go through the kernel's strict codec, which also reads them in the state
folder.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from ..._fast import _check as kernel
from ...crypto.keys import KeyRecord
from ...errors import ServerError, UsageError
from ...limits import MAX_TIME_MS
from ...model.session import Fact, Session
from ...scopes.value import Plain
from ...tokens.token import Token
from ...v1 import record_pb2
from ...v1 import session_service_pb2 as session_pb
from ...v1 import token_service_pb2 as token_pb
from .._results import InspectedBlock, Inspection, SessionPage
from .._transport import RpcRequest


def session_from_message(message: session_pb.Session) -> Session:
    """Return the session of a message.

    Raises ServerError for a status or record that this version does not know.
    """
    values = field_values(message)
    try:
        layers = [kernel.decode_message("Ceiling", each.SerializeToString()) for each in message.ceilings]
        values["ceilings"] = [layer["scopes"] for layer in layers]
        values["facts"] = [kernel.decode_message("Fact", each.SerializeToString()) for each in message.facts]
        return Session(**Session.read_fields(values))
    except ValueError as error:
        raise newer_server(error) from None


def field_values(message: Message) -> dict[str, Any]:
    """Return a message's fields by name: a repeated one as a tuple, a map as a dict."""
    values = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    for name, value in values.items():
        if isinstance(value, MutableMapping):
            values[name] = dict(value)
        elif isinstance(value, MutableSequence):
            values[name] = tuple(value)
    return values


def newer_server(error: Exception) -> ServerError:
    """Return the error for an answer that only a later version can read."""
    return ServerError(f"the server is newer than this client: {error}", "UNKNOWN_KIND")


def sessions_page(answer: session_pb.ListSessionsResponse) -> SessionPage:
    """Return one page of sessions."""
    return SessionPage(tuple(session_from_message(each) for each in answer.sessions), answer.next_page_token)


def fact_messages(facts: Mapping[str, Plain], visible: Collection[str]) -> list[record_pb2.Fact]:
    """Return the messages for ``facts``; holders may test those named in ``visible``.

    Raises UsageError for a visible name that is not a fact's, and for a value that a fact can't hold.
    """
    if isinstance(visible, str):
        raise UsageError("visible_facts: give a list of names, not one string")
    for name in visible:
        if name not in facts:
            raise UsageError(f"visible_facts: {name} is not among the facts")
    return [_fact_message(Fact(name, facts[name], name in visible)) for name in sorted(facts)]


def _fact_message(fact: Fact) -> record_pb2.Fact:
    try:
        return record_pb2.Fact.FromString(kernel.encode_message("Fact", fact.to_record()))
    except (UsageError, kernel.WireError) as error:
        raise UsageError(f"facts: {fact.name}: {error}") from None


def key_from_message(message: record_pb2.KeyRecord) -> KeyRecord:
    """Return the issuer key of a message. Raises ServerError for one this version does not know."""
    try:
        return KeyRecord.decode(message.SerializeToString())
    except ValueError as error:
        raise newer_server(error) from None


def token_from_message(answer: token_pb.MintResponse | token_pb.AttenuateResponse) -> Token:
    """Return the token of an answer, parsed, with the server's warnings."""
    token = Token.parse(answer.token)
    token.warnings = tuple(answer.warnings)
    return token


def inspection_from_message(token: Token, answer: token_pb.InspectResponse) -> Inspection:
    """Return the server's view of ``token``."""
    blocks = tuple(InspectedBlock(each.block_id, each.revoked) for each in answer.blocks)
    return Inspection(token, answer.verified, answer.detail, blocks)


T = TypeVar("T")


def check_id(name: str, value: bytes | str, size: int) -> bytes:
    """Return an id of ``size`` bytes, also of its hex digits. Raises UsageError naming ``name`` otherwise."""
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value) if value.isalnum() else b""
        except ValueError:
            value = b""
    if len(value) != size:
        raise UsageError(f"{name}: must be {size} bytes, or {2 * size} hex digits")
    return value


def check_session_id(value: bytes | str) -> bytes:
    """Return a session id, 16 bytes, also of its hex digits. Raises UsageError otherwise."""
    return check_id("session_id", value, 16)


def check_count(name: str, value: int, most: int = MAX_TIME_MS) -> int:
    """Return a count or a time in ms if it is 0 to ``most``. Raises UsageError naming ``name`` otherwise."""
    if not 0 <= value <= most:
        raise UsageError(f"{name}: {value} is not between 0 and {most}")
    return value


def texts(name: str, items: Sequence[object]) -> list[str]:
    """Return ``items`` as texts; a lone string, which is a sequence too, is refused as a mistake."""
    if isinstance(items, str | bytes):
        raise UsageError(f"{name}: give a list, not one string")
    return [str(item) for item in items]


def change(
    method: str,
    request: Any,
    answer: type[Message],
    convert: Callable[[Any], T],
    request_id: str,
    *,
    repeatable: bool = True,
) -> RpcRequest[T]:
    """Return the call of a change, under ``request_id`` or a new one. Raises UsageError for bytes."""
    if not isinstance(request_id, str):
        raise UsageError("request_id: must be text; of bytes, their hex()")
    request.request_id = request_id or uuid.uuid4().hex
    return RpcRequest(method, request, answer, convert, repeatable, request.request_id)
