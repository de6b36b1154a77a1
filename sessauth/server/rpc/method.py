"""One RPC that is served: its name, and what answers it.

Most services speak messages of protobuf; what is asked thousands of times a second speaks bytes.
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
    """Marks an answer that takes and gives encoded messages; for a stream, iterators of them."""

    answer: Callable[[Any, CallContext], Any]


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its full name, and what answers it, from encoded messages to encoded messages.

    An answer to a unary RPC takes and returns ``bytes``, that to a stream iterators of ``bytes``.
    """

    name: str
    answer: Callable[[Any, CallContext], Any]


def methods_of(
    service: ServiceDescriptor, answers: Mapping[str, Callable[..., object] | RawHandler]
) -> list[Method]:
    """Pair each RPC of a service with what answers it. Raises ConfigError if the two don't match."""
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
    """Return the message of ``data``. Raises INVALID_ARGUMENT if it is none."""
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
        answered = answer(message, call)
        if opens_session:
            call.session_id = answered.session.id
        return bytes(answered.SerializeToString())

    return encoded


def _stream(
    kind: type[Message], answer: Callable[..., Any]
) -> Callable[[Iterator[bytes], CallContext], Iterator[bytes]]:
    def encoded(requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        for message in answer((parse(kind, data) for data in requests), call):
            yield message.SerializeToString()

    return encoded
