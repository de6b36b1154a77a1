"""Checked fields of requests, and the calls that change something."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from ...errors import UsageError
from ...limits import MAX_TIME_MS
from .._transport import RpcRequest

T = TypeVar("T")


def check_id(name: str, value: bytes, size: int) -> bytes:
    """Return ``value`` if it is ``size`` bytes. Raises UsageError naming ``name`` otherwise."""
    if isinstance(value, str):
        raise UsageError(f"{name}: must be {size} bytes, not text; of hex, bytes.fromhex(text)")
    if len(value) != size:
        raise UsageError(f"{name}: must be {size} bytes")
    return value


def check_session_id(value: bytes) -> bytes:
    """Return ``value`` if it is a session id, 16 bytes. Raises UsageError otherwise."""
    return check_id("session_id", value, 16)


def check_count(name: str, value: int, most: int = MAX_TIME_MS) -> int:
    """Return a count or a time in ms if it is 0 to ``most``. Raises UsageError naming ``name`` otherwise."""
    if not 0 <= value <= most:
        raise UsageError(f"{name}: {value} is not between 0 and {most}")
    return value


def check_terms(terms: Mapping[str, object], kind: type) -> None:
    """Raise TypeError for a name that a TypedDict lacks: a misspelt restriction would restrict nothing."""
    for name in terms:
        if name not in kind.__annotations__:
            raise TypeError(f"{name}: is not one of {', '.join(kind.__annotations__)}")


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
