"""The canonical protobuf of receipts, and of changes that open sessions (docs/token-format.md, section 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_VARINT, _BYTES = 0, 2
_MAX_VARINT_BYTES: Final = 10
# Messages by name: fields by number, with name, type and "*" for a repeated one.
MESSAGES: Final[Mapping[str, Mapping[int, tuple[str, str, str]]]] = {
    "SignedReceipt": {
        1: ("payload", "bytes", ""),
        2: ("issuer_key_id", "bytes", ""),
        3: ("signature", "bytes", ""),
    },
    "Receipt": {
        1: ("version", "uint32", ""),
        2: ("cluster_id", "bytes", ""),
        3: ("incarnation", "bytes", ""),
        4: ("session_id", "bytes", ""),
        5: ("epoch", "uint64", ""),
        6: ("revision", "uint64", ""),
        7: ("ended_at_ms", "uint64", ""),
        8: ("cause", "enum", ""),
        9: ("reason", "string", ""),
        10: ("made_at_ms", "uint64", ""),
        11: ("state", "enum", ""),
        12: ("verifiers", "VerifierStatus", "*"),
        13: ("open_permits", "uint64", ""),
        14: ("last_allow_ms", "uint64", ""),
        15: ("record", "uint64", ""),
        16: ("hosts", "HostStatus", "*"),
        17: ("observe", "bool", ""),
    },
    "VerifierStatus": {
        1: ("name", "string", ""),
        2: ("state", "enum", ""),
        3: ("revision", "uint64", ""),
        4: ("at_ms", "uint64", ""),
    },
    "HostStatus": {
        1: ("name", "string", ""),
        2: ("state", "enum", ""),
        3: ("record", "uint64", ""),
        4: ("at_ms", "uint64", ""),
    },
}
_LIMITS: Final = {"bool": 1, "enum": (1 << 31) - 1, "uint32": (1 << 32) - 1, "uint64": (1 << 64) - 1}
_SCALARS: Final = {*_LIMITS, "bytes", "string"}


class Malformed(ValueError):
    """The bytes break a rule of the format."""


def decode(name: str, data: bytes) -> dict[str, Any]:
    """Return the fields of a message; an absent one is its default. Raises Malformed."""
    message = MESSAGES[name]
    record: dict[str, Any] = {}
    for field_name, kind, repeated in message.values():
        record[field_name] = [] if repeated else b"" if kind == "bytes" else "" if kind == "string" else 0
    last = 0
    for number, wire, value in _fields(data):
        if number not in message:
            raise Malformed(f"field {number} is unknown")
        field_name, kind, repeated = message[number]
        if number < last or (number == last and not repeated):
            raise Malformed("fields are not in order")
        last = number
        read = _value(kind, wire, value)
        if repeated:
            record[field_name].append(read)
        elif not read:
            raise Malformed(f"{field_name} is written, and is its default")
        else:
            record[field_name] = read
    return record


@dataclass(frozen=True, slots=True)
class SessionOpening:
    """An encoded Change that opens a session: parent, in hex, and purpose; "" for one that is missing."""

    parent: str
    purpose: str
    observe: bool


def opening_of(change: bytes) -> SessionOpening:
    """Return the opening in an encoded Change. Raises Malformed if it opens no session."""
    for number, wire, value in _fields(change):
        if number == OPEN_SESSION and wire == _BYTES and isinstance(value, bytes):
            fields = list(_fields(value))
            found = {field: each for field, _, each in fields if isinstance(each, bytes)}
            purpose = found.get(PURPOSE, b"").decode("utf-8", "replace")
            observe = any(field == OBSERVE and each for field, _, each in fields)
            return SessionOpening(found.get(PARENT_ID, b"").hex(), purpose, observe)
    raise Malformed("the change opens no session")


def incarnation_of(change: bytes) -> str:
    """Return the incarnation, in hex, that an encoded Change begins. Raises Malformed if it begins none."""
    for number, wire, value in _fields(change):
        if number == NEW_INCARNATION and wire == _BYTES and isinstance(value, bytes):
            for field, _, each in _fields(value):
                if field == INCARNATION and isinstance(each, bytes):
                    return each.hex()
    raise Malformed("the change begins no incarnation")


# Fields of Change, of OpenSession and of NewIncarnation in record.proto.
OPEN_SESSION: Final = 10
NEW_INCARNATION: Final = 20
INCARNATION: Final = 1
PURPOSE: Final = 2
PARENT_ID: Final = 4
OBSERVE: Final = 12


def _value(kind: str, wire: int, value: int | bytes) -> Any:
    if kind in _LIMITS:
        if wire != _VARINT or not isinstance(value, int) or value > _LIMITS[kind]:
            raise Malformed(f"no {kind}")
        return value
    if wire != _BYTES or not isinstance(value, bytes):
        raise Malformed(f"no {kind}")
    if kind == "bytes":
        return value
    if kind == "string":
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("a text is not UTF-8") from None
    return decode(kind, value)


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
        elif wire == _BYTES:
            size, at = _varint(data, at)
            if size > len(data) - at:
                raise Malformed("a field is cut")
            yield number, wire, data[at : at + size]
            at += size
        else:
            raise Malformed(f"wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(_MAX_VARINT_BYTES):
        if at >= len(data):
            raise Malformed("a number is cut")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            if (shift and not byte) or value >= 1 << 64:
                raise Malformed("a number is not in its shortest form")
            return value, at
    raise Malformed("a number is too long")
