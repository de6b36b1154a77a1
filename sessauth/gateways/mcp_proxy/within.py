"""Requests to the client that a server puts into other messages.

From 2026-07-28 on results and notifications about tasks hold input requests; in 2025-11-25 an error may ask
the user to visit addresses. A client answers input requests, of which one is the proxy's own, by its next
request.
"""

from __future__ import annotations

from typing import Any, Final

from ...guard.mcp_terms import APPROVAL, PROTOCOL_PARAMS
from ..json_parts import elements, members, object_text
from .messages import BadMessage, Kind, Message

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
