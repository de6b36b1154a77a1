"""The methods of a gRPC service as calls, and their protobuf messages as the arguments.

    METHODS = MethodTable({
        "/shop.Orders/Get": ServiceMethod("read", "orders/{order_id}"),
        "/shop.Orders/Refund": ServiceMethod("write", "orders/{order_id}/refund"),
    })
    guard = Guard(verifier, METHODS)

The values are those that the service's code reads. A 64-bit integer is a number, so that a condition can
compare it; protobuf's own JSON form has a text there.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ...errors import UsageError
from ...scopes.call_arguments import Arguments, canonical, encode
from .call_table import CallTable, ServiceCall
from .routes import ResourceTemplate

_PACKAGE: Final = "google.protobuf."
_STRUCT: Final = f"{_PACKAGE}Struct"
# Messages that represent one JSON value.
_WRAPPERS: Final = frozenset(
    f"{_PACKAGE}{kind}Value"
    for kind in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
)


def message_arguments(message: Message) -> dict[str, Any]:
    """Return the fields of ``message`` by their names in the .proto file.

    A field without presence is always there, since its default is a value like any other. A field with
    presence, a list and a map are there if they are set. Bytes are base64 text, an enum is the name of its
    value, a float keeps the value that its 32 bits have, and an extension has its full name in brackets.
    Struct, Value, ListValue and the wrappers are the JSON that they represent; Timestamp, Duration and Any
    are their fields. Unknown fields are not in it: discard them before the message is used. Raises TypeError
    for anything but a message.
    """
    if not isinstance(message, Message):
        raise TypeError(f"the request is a protobuf message, not {type(message).__name__}")
    if message.DESCRIPTOR.full_name == _STRUCT:
        return _struct(message)
    values = {
        field.name: _member(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if _is_present(message, field)
    }
    for field, value in message.ListFields():
        if field.is_extension:
            values[f"[{field.full_name}]"] = _member(field, value)
    return values


def _is_present(message: Message, field: Any) -> bool:
    if field.has_presence:
        return message.HasField(field.name)
    value = getattr(message, field.name)
    return bool(value) if _is_list(value) or isinstance(value, Mapping) else True


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _member(field: Any, value: Any) -> Any:
    if isinstance(value, Message):
        return _message(value)
    if isinstance(value, Mapping):
        of_value = field.message_type.fields_by_name["value"]
        return {_key(key): _member(of_value, item) for key, item in value.items()}
    if _is_list(value):
        return [_member(field, item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if field.type == FieldDescriptor.TYPE_ENUM:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named is not None else value
    return value


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _message(message: Any) -> Any:
    match message.DESCRIPTOR.full_name:
        case "google.protobuf.Struct":
            return _struct(message)
        case "google.protobuf.ListValue":
            return [_message(value) for value in message.values]
        case "google.protobuf.Value":
            kind = message.WhichOneof("kind")
            if kind in (None, "null_value"):
                return None
            value = getattr(message, kind)
            return _message(value) if isinstance(value, Message) else value
        case name if name in _WRAPPERS:
            return _member(message.DESCRIPTOR.fields_by_name["value"], message.value)
    return message_arguments(message)


def _struct(message: Any) -> dict[str, Any]:
    return {name: _message(value) for name, value in message.fields.items()}


class ServiceMethod:
    """One method: its action, its resource, and how a request becomes arguments."""

    __slots__ = ("_arguments", "action", "resource")

    def __init__(
        self, action: str, resource: str, arguments: Callable[[Any], Arguments] = message_arguments
    ) -> None:
        """Describe a method.

        Raises UsageError for a template that can't be read.

        Args:
            action: as scopes name it.
            resource: a template whose places are fields of the request, as ``orders/{order_id}``.
            arguments: returns the arguments of a request; default: the fields of the message.
        """
        self.action = action
        self.resource = ResourceTemplate(resource)
        self._arguments = arguments

    def call(self, request: Any) -> ServiceCall:
        """Return the call of one request.

        Unknown fields are discarded from it first: its receiver acts on the checked message and no more.
        Raises UsageError if the request has no value for a place, or a value that JSON can't say; TypeError
        if it is not a message.
        """
        if hasattr(request, "DiscardUnknownFields"):
            request.DiscardUnknownFields()
        arguments = self._arguments(request)
        values = arguments if isinstance(arguments, Mapping) else {}
        encoded = canonical(arguments) if isinstance(arguments, bytes | str) else encode(arguments)
        return ServiceCall(self.action, self.resource.fill(values), encoded)

    def stream(self) -> ServiceCall:
        """Return the call of a stream of requests, which is checked at its start and has no arguments.

        Raises UsageError if the resource has places, which such a call can't fill.
        """
        return ServiceCall(self.action, self.resource.fill({}), b"{}")


class MethodTable(CallTable):
    """The methods of services by their full names, ``/package.Service/Method``."""

    __slots__ = ("_methods",)

    def __init__(self, methods: Mapping[str, ServiceMethod]) -> None:
        """Take the methods. A method that is not among them is refused."""
        super().__init__()
        self._methods = dict(methods)

    def find(self, name: str) -> ServiceMethod | None:
        """Return the method of a full name, None for an unknown one."""
        return self._methods.get(name)

    def call(self, name: str, request: Any, *, streamed: bool) -> ServiceCall:
        """Return the call of a request, or of the start of a stream of them.

        Raises UsageError for an unknown method, else as :meth:`ServiceMethod.call`.
        """
        method = self._methods.get(name)
        if method is None:
            raise UsageError(f"{name!a} is not in the table of methods")
        return method.stream() if streamed else method.call(request)
