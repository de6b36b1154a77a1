"""Protobuf messages as the arguments of a call.

The values are those that the service's code reads. A 64-bit integer is a number, so that a condition can
compare it; protobuf's own JSON form has a text there.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

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
    are their fields. Unknown fields are not in it: discard them before the message is used.

    Raises:
        TypeError: for anything but a message.
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
