"""RPCs and their handlers.

Most handlers take and return protobuf messages; those called thousands of times a second take bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from ...errors import ConfigError
from ..status import invalid
from .call import CallContext

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class RawHandler:
    """Marks a handler of encoded messages; for a stream, of iterators of them."""

    answer: Callable[[Any, CallContext], Any]


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its full name, and its handler of encoded messages.

    The handler of a unary RPC takes and returns ``bytes``, that of a stream iterators of ``bytes``.
    """

    name: str
    answer: Callable[[Any, CallContext], Any]


def methods_of(
    service: ServiceDescriptor, answers: Mapping[str, Callable[..., object] | RawHandler]
) -> list[Method]:
    """Pair each RPC of a service with its handler. Raises ConfigError if the two don't match."""
    names = {method.name for method in service.methods}
    if names != set(answers):
        raise ConfigError(
            f"{service.full_name}: {sorted(names ^ set(answers))} have no answer, or are no RPC"
        )
    methods = []
    for method in service.methods:
        answer = answers[method.name]
        if isinstance(answer, RawHandler):
            encoded = answer.answer
        else:
            kind = message_factory.GetMessageClass(method.input_type)
            encoded = (_stream if method.server_streaming else _unary)(kind, answer)
        methods.append(Method(f"/{service.full_name}/{method.name}", encoded))
    return methods


def parse(kind: type[M], data: bytes) -> M:
    """Decode ``data``. Raises INVALID_ARGUMENT if that fails."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise invalid("request", f"is not a {kind.DESCRIPTOR.full_name}") from None


def _unary(kind: type[Message], answer: Callable[..., Any]) -> Callable[[bytes, CallContext], bytes]:
    opens_session = kind.DESCRIPTOR.name == "OpenSessionRequest"
    names_session = "session_id" in kind.DESCRIPTOR.fields_by_name

    def encoded(data: bytes, call: CallContext) -> bytes:
        message: Any = parse(kind, data)
        if names_session:
            call.session_id = message.session_id
        response = answer(message, call)
        if opens_session:
            call.session_id = response.session.id
        return bytes(response.SerializeToString())

    return encoded


def _stream(
    kind: type[Message], answer: Callable[..., Any]
) -> Callable[[Iterator[bytes], CallContext], Iterator[bytes]]:
    def encoded(requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        for message in answer((parse(kind, data) for data in requests), call):
            yield message.SerializeToString()

    return encoded
