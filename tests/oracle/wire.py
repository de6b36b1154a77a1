"""The strict canonical subset of protobuf (section 2 of the format), decoding and encoding.

``decode`` gives a dict with every field of the message: an absent scalar is its default, an absent
message or member of a oneof is None, a repeated field is a list. ``encode`` takes such a dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

MAX_NESTING = 8


class Malformed(ValueError):
    """The bytes break a rule of the format."""


class Field(NamedTuple):
    """One field of a message: number, name, type, whether repeated, whether member of a oneof."""

    number: int
    name: str
    type: str
    repeated: bool = False
    oneof: bool = False


def _fields(*lines: str) -> tuple[Field, ...]:
    fields = []
    for line in lines:
        words = line.split()
        fields.append(Field(int(words[0]), words[1], words[2], "repeated" in words, "oneof" in words))
    return tuple(fields)


# A type that is no scalar names a message of this table.
MESSAGES: dict[str, tuple[Field, ...]] = {
    "Token": _fields("1 version uint32", "2 blocks SignedBlock repeated"),
    "SignedBlock": _fields("1 signature bytes", "2 payload bytes"),
    "StoredToken": _fields("1 token bytes", "2 next_secret bytes"),
    "Block": _fields(
        "1 root Root",
        "2 issued_at_ms uint64",
        "3 expires_at_ms uint64",
        "4 not_before_ms uint64",
        "5 audience string repeated",
        "6 scopes Scope repeated",
        "7 where Condition repeated",
        "8 source string repeated",
        "9 peer string repeated",
        "10 max_blocks uint32",
        "11 ending enum",
        "12 next_key bytes",
        "13 proof_key bytes",
        "14 may_seal bool",
        "15 label string",
    ),
    "Root": _fields(
        "1 issuer_key_id bytes",
        "2 session_id bytes",
        "3 token_id bytes",
        "4 min_revision uint64",
    ),
    "Scope": _fields(
        "1 actions string repeated",
        "2 resource Segment repeated",
        "3 where Condition repeated",
        "4 free Path repeated",
        "5 free_all bool",
        "6 needs Needs",
        "7 exception bool",
    ),
    "Segment": _fields("1 kind enum", "2 texts string repeated"),
    "Path": _fields("1 source enum", "2 segments string repeated"),
    "Condition": _fields(
        "1 path Path",
        "2 operator enum",
        "3 values Value repeated",
        "4 fact string",
        "5 accessor enum",
        "6 each bool",
        "7 optional bool",
        "9 any bool",
    ),
    "Value": _fields(
        "1 text string oneof",
        "2 number Number oneof",
        "3 truth bool oneof",
        "4 decimal string oneof",
        "5 json string oneof",
        "6 digest bytes oneof",
    ),
    "Number": _fields("1 units sint64", "2 nanos uint32"),
    "Needs": _fields("1 approval Approval", "2 uses uint64", "3 budget Budget"),
    "Approval": _fields("1 threshold uint32", "2 keys bytes repeated"),
    "Budget": _fields("1 name string", "2 limit Number", "3 unit string", "4 amount Path"),
    "Proof": _fields(
        "1 kind enum",
        "2 verifier_id bytes",
        "3 key_id bytes",
        "4 time_ms uint64",
        "5 nonce bytes",
        "6 tag bytes",
    ),
    "ApprovalStatement": _fields(
        "1 id bytes",
        "2 session_id bytes",
        "3 block_id bytes",
        "4 block uint32",
        "5 scope uint32",
        "6 epoch uint64",
        "7 request_digest bytes",
        "8 expires_at_ms uint64",
    ),
    "SignedApproval": _fields("1 public_key bytes", "2 signature bytes", "3 statement bytes"),
    "VerifierStatus": _fields("1 name string", "2 state enum", "3 revision uint64", "4 at_ms uint64"),
    "HostStatus": _fields("1 name string", "2 state enum", "3 record uint64", "4 at_ms uint64"),
    "Receipt": _fields(
        "1 version uint32",
        "2 cluster_id bytes",
        "3 incarnation bytes",
        "4 session_id bytes",
        "5 epoch uint64",
        "6 revision uint64",
        "7 ended_at_ms uint64",
        "8 cause enum",
        "9 reason string",
        "10 made_at_ms uint64",
        "11 state enum",
        "12 verifiers VerifierStatus repeated",
        "13 open_permits uint64",
        "14 last_allow_ms uint64",
        "15 record uint64",
        "16 hosts HostStatus repeated",
    ),
    "SignedReceipt": _fields("1 payload bytes", "2 issuer_key_id bytes", "3 signature bytes"),
}

_VARINT = 0
_DELIMITED = 2
_VARINT_TYPES = {"uint32": 2**32 - 1, "uint64": 2**64 - 1, "sint64": 2**64 - 1, "enum": 2**31 - 1, "bool": 1}
_DEFAULTS: dict[str, object] = {"bytes": b"", "string": "", "bool": False}
_BY_NUMBER = {name: {field.number: field for field in fields} for name, fields in MESSAGES.items()}


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a minimal varint of at most 64 bits; gives the value and the offset behind it."""
    value = shift = 0
    while True:
        if at >= end:
            raise Malformed("a varint is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise Malformed("a varint is longer than 10 bytes")
    if byte == 0 and shift:
        raise Malformed("a varint is not minimal")
    if value >= 2**64:
        raise Malformed("a varint exceeds 64 bits")
    return value, at


def _default(field: Field) -> object:
    if field.repeated:
        return []
    if field.oneof or field.type in MESSAGES:
        return None
    return _DEFAULTS.get(field.type, 0)


def _scalar(field: Field, number: int) -> object:
    if number > _VARINT_TYPES[field.type]:
        raise Malformed(f"{field.name} is out of range")
    if field.type == "bool":
        return bool(number)
    if field.type == "sint64":
        return (number >> 1) ^ -(number & 1)
    return number


def _delimited(field: Field, data: bytes, depth: int) -> object:
    if field.type == "bytes":
        return data
    if field.type == "string":
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"{field.name} is not UTF-8") from error
    return decode(field.type, data, depth + 1)


def decode(message: str, data: bytes, depth: int = 1) -> dict[str, object]:
    """Decode one message; ``depth`` counts it and those around it. Raises Malformed."""
    if depth > MAX_NESTING:
        raise Malformed("messages are nested too deep")
    result = {field.name: _default(field) for field in MESSAGES[message]}
    by_number = _BY_NUMBER[message]
    at, end, last, oneof_seen = 0, len(data), 0, False
    while at < end:
        tag, at = read_varint(data, at, end)
        field = by_number.get(tag >> 3)
        if field is None:
            raise Malformed(f"{message} has no field {tag >> 3}")
        if field.number < last or (field.number == last and not field.repeated):
            raise Malformed(f"{message}.{field.name} is repeated or out of order")
        last = field.number
        if field.oneof:
            if oneof_seen:
                raise Malformed(f"{message} has two members of a oneof")
            oneof_seen = True
        value: object
        if field.type in _VARINT_TYPES:
            if tag & 7 != _VARINT:
                raise Malformed(f"{message}.{field.name} has the wrong wire type")
            number, at = read_varint(data, at, end)
            value = _scalar(field, number)
        else:
            if tag & 7 != _DELIMITED:
                raise Malformed(f"{message}.{field.name} has the wrong wire type")
            length, at = read_varint(data, at, end)
            if length > end - at:
                raise Malformed(f"{message}.{field.name} is cut off")
            value = _delimited(field, data[at : at + length], depth)
            at += length
        if field.repeated:
            items = result[field.name]
            assert isinstance(items, list)
            items.append(value)
            continue
        if field.type not in MESSAGES and not field.oneof and value == _default(field):
            raise Malformed(f"{message}.{field.name} is present with its default value")
        result[field.name] = value
    return result


def write_varint(value: int) -> bytes:
    """The minimal varint of a number below 2^64."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _write(field: Field, value: object) -> bytes:
    if field.type in _VARINT_TYPES:
        assert isinstance(value, int)
        number = (value << 1) ^ (value >> 63) if field.type == "sint64" else int(value)
        return write_varint(field.number << 3) + write_varint(number)
    if field.type == "bytes":
        assert isinstance(value, bytes)
        data = value
    elif field.type == "string":
        assert isinstance(value, str)
        data = value.encode("utf-8")
    else:
        assert isinstance(value, Mapping)
        data = encode(field.type, value)
    return write_varint(field.number << 3 | _DELIMITED) + write_varint(len(data)) + data


def encode(message: str, value: Mapping[str, object]) -> bytes:
    """Encode one message canonically; missing keys are absent. Holds no rule beyond section 2."""
    out: list[bytes] = []
    for field in MESSAGES[message]:
        item = value.get(field.name)
        if item is None:
            continue
        if field.repeated:
            assert isinstance(item, (list, tuple))
            out.extend(_write(field, element) for element in item)
        elif field.oneof or field.type in MESSAGES or item != _default(field):
            out.append(_write(field, item))
    return b"".join(out)
