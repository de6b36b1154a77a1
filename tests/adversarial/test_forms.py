"""Blocks that say the same in another byte form, rightly signed: the form alone refuses each of them.

A valid token that uses every field is taken apart into its fields at every depth; each field in turn
is written in each way that a lax protobuf reader takes for the same, the lengths around it are put
right, and the blocks are signed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessauth._fast import _check as kernel
from sessauth._fast._check import Chain, FormError
from sessauth.reasons import Reason
from tests.oracle.wire import MESSAGES, encode, write_varint
from tests.support.state_fixture import StateFixture
from tests.support.token_forger import assemble, id16, key, sign
from tests.vectors.world import AUDIENCE, NOW, child, link, root, signers, token

# A field as written: its number, its wire type, and a number or the fields or bytes inside.
Written = tuple[int, int, Any]


def take_apart(message: str, data: bytes) -> list[Written]:
    """The fields of a canonical message, in the order of its bytes, down to the innermost."""
    types = {field.number: field.type for field in MESSAGES[message]}
    fields: list[Written] = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        if tag & 7 == 0:
            fields.append((tag >> 3, 0, value))
            continue
        inner: Any = data[at : at + value]
        at += value
        if types[tag >> 3] in MESSAGES:
            inner = take_apart(types[tag >> 3], inner)
        fields.append((tag >> 3, 2, inner))
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
        shift += 7


def overlong(value: int) -> bytes:
    """A varint with a byte more than it needs."""
    short = write_varint(value)
    return short[:-1] + bytes([short[-1] | 0x80, 0])


def write(field: Written) -> bytes:
    """One field in its canonical form."""
    number, kind, value = field
    if kind == 0:
        return write_varint(number << 3) + write_varint(value)
    data = value if isinstance(value, bytes) else b"".join(map(write, value))
    return write_varint(number << 3 | 2) + write_varint(len(data)) + data


def _contents(field: Written) -> bytes:
    """The content behind the tag: a varint, or length and bytes."""
    return write(field)[len(write_varint(field[0] << 3 | field[1])) :]


def _tag(field: Written) -> int:
    return field[0] << 3 | field[1]


def _body(field: Written) -> bytes:
    value = field[2]
    return value if isinstance(value, bytes) else b"".join(map(write, value))


def _with_overlong_length(field: Written) -> bytes:
    if field[1] == 0:
        return write_varint(_tag(field)) + overlong(field[2])
    return write_varint(_tag(field)) + overlong(len(_body(field))) + _body(field)


WAYS: dict[str, Callable[[Written], bytes]] = {
    "overlong tag": lambda field: overlong(_tag(field)) + _contents(field),
    "overlong varint or length": _with_overlong_length,
    "an unknown field behind it": lambda field: write(field) + write_varint(99 << 3) + b"\x01",
    "an unknown field before it": lambda field: write_varint(99 << 3 | 2) + b"\x00" + write(field),
    "field number 0": lambda field: b"\x00\x01" + write(field),
    "as a group": lambda field: write_varint(field[0] << 3 | 3) + write_varint(field[0] << 3 | 4),
    "as 32 bits": lambda field: write_varint(field[0] << 3 | 5) + b"\x01\x00\x00\x00",
    "as 64 bits": lambda field: write_varint(field[0] << 3 | 1) + b"\x01" + bytes(7),
    "of the other wire type": lambda field: (
        write_varint(_tag(field) ^ 2) + (b"\x01" if field[1] == 2 else b"\x01\x01")
    ),
    "of 65 bits": lambda field: write_varint(_tag(field)) + b"\xff" * 9 + b"\x02",
    "of eleven bytes": lambda field: write_varint(_tag(field)) + b"\x80" * 10 + b"\x01",
    "cut off behind the tag": lambda field: write_varint(_tag(field)),
}


def rewritten(fields: list[Written], way: Callable[[Written], bytes]) -> Iterator[bytes]:
    """The message with one field, at any depth, written in another way."""
    for at, field in enumerate(fields):
        before, after = (b"".join(map(write, part)) for part in (fields[:at], fields[at + 1 :]))
        yield before + way(field) + after
        if isinstance(field[2], list):
            for inner in rewritten(field[2], way):
                yield before + write((field[0], field[1], inner)) + after


def shuffled(message: str, fields: list[Written]) -> Iterator[bytes]:
    """The message with two neighbours of different numbers exchanged, or a single field doubled."""
    table = {field.number: field for field in MESSAGES[message]}
    for at, field in enumerate(fields):
        before, after = (b"".join(map(write, part)) for part in (fields[:at], fields[at + 1 :]))
        if at + 1 < len(fields) and fields[at + 1][0] != field[0]:
            rest = b"".join(map(write, fields[at + 2 :]))
            yield before + write(fields[at + 1]) + write(field) + rest
        if not table[field[0]].repeated:
            yield before + write(field) * 2 + after
        if isinstance(field[2], list):
            for inner in shuffled(table[field[0]].type, field[2]):
                yield before + write((field[0], field[1], inner)) + after


def with_defaults(message: str, fields: list[Written]) -> Iterator[bytes]:
    """The message with a default stated for a field that is absent, or emptied where it was stated."""
    for field in MESSAGES[message]:
        at = next((i for i, f in enumerate(fields) if f[0] >= field.number), len(fields))
        present = at < len(fields) and fields[at][0] == field.number
        if not (field.repeated or field.oneof or field.type in MESSAGES):
            is_number = field.type not in ("string", "bytes")
            empty = (field.number, 0, 0) if is_number else (field.number, 2, b"")
            yield b"".join(map(write, [*fields[:at], empty, *fields[at + present :]]))
    for at, written in enumerate(fields):
        if isinstance(written[2], list):
            name = next(f.type for f in MESSAGES[message] if f.number == written[0])
            for inner in with_defaults(name, written[2]):
                yield b"".join(map(write, [*fields[:at], (written[0], 2, inner), *fields[at + 1 :]]))


_DIGEST = 'digest("' + "A" * 43 + '")'
FULL = (
    'read,write:files/{a,b}/x*/*/** where args.session.a == "s" and count(l) <= 3 and each(m) in [true] '
    "and any(q) == 1 and n? >= -1.5 and session.f == session.g and o == 1e300 and j == [1] and k == "
    + _DIGEST
    + " free p, q.r",
    "read:** free *",
    'read:spend/x needs approval(1, "' + "A" * 43 + '"), uses(3), budget("b", 10, "EUR", amount)',
)


def full_blocks() -> list[bytes]:
    """The payloads of a valid chain that uses every field of every message."""
    first = root(
        *FULL,
        conditions="n? == 1 and t? == true",
        root_fields={"min_revision": 1, "session_id": id16("session")},
        not_before_ms=NOW,
        source=["10.0.0.0/8"],
        peer=["sha256:aa", "sha256:bb"],
        audience=[AUDIENCE, "other"],
        max_blocks=2,
        label="all",
        ending=3,
        next_key=key("next 0").public,
        proof_key=key("proof").public,
        may_seal=True,
    )
    return [encode("Block", block) for block in link(first, child("*:**", label="below"))]


PAYLOADS = full_blocks()
FIELDS = take_apart("Block", PAYLOADS[0])


def refused_all(state: StateFixture, payloads: Iterator[bytes]) -> int:
    """Hold that each root payload, rightly signed, is malformed; gives how many there were."""
    count = 0
    for payload in payloads:
        # The same meaning may come out when a field was absent and stays so.
        if payload == PAYLOADS[0]:
            continue
        forged = [payload, PAYLOADS[1]]
        data = assemble(forged, sign(forged, signers(2)))
        assert state.reason(data) is Reason.MALFORMED_TOKEN, payload.hex()
        with pytest.raises(kernel.WireError):
            kernel.decode_message("Block", payload)
        count += 1
    return count


# What holds the blocks, what comes beside a token, and what is left behind its session.
_AROUND = ("Token", "SignedBlock", "StoredToken")
_BESIDE = ("Proof", "SignedApproval", "ApprovalStatement")
_BEHIND = ("Receipt", "SignedReceipt", "VerifierStatus", "HostStatus")


def test_the_token_uses_every_field(state: StateFixture) -> None:
    """The token that is rewritten below is well-formed, and has every field that a token may have."""
    present: set[tuple[str, int]] = set()

    def visit(message: str, fields: list[Written]) -> None:
        types = {field.number: field.type for field in MESSAGES[message]}
        for number, _, value in fields:
            present.add((message, number))
            if isinstance(value, list):
                visit(types[number], value)

    visit("Block", FIELDS)
    every = {
        (message, field.number)
        for message, fields in MESSAGES.items()
        for field in fields
        if message not in (*_AROUND, *_BESIDE, *_BEHIND)
    }
    # Exceptions are of ceilings alone.
    assert every - present == {("Scope", 7)}
    assert (
        state.reason(assemble(PAYLOADS, sign(PAYLOADS, signers(2))), source="10.0.0.1") is Reason.WRONG_PEER
    )


@pytest.mark.parametrize("way", WAYS)
def test_every_field_written_in_another_way(state: StateFixture, way: str) -> None:
    """Each field at each depth, written so, makes the token malformed and the record undecodable."""
    assert refused_all(state, rewritten(FIELDS, WAYS[way])) > 100


def test_fields_out_of_order_or_doubled(state: StateFixture) -> None:
    """Fields stand once, in ascending order, at every depth."""
    assert refused_all(state, shuffled("Block", FIELDS)) > 80


def test_defaults_that_are_stated(state: StateFixture) -> None:
    """A default is absent, at every depth."""
    assert refused_all(state, with_defaults("Block", FIELDS)) > 80


@pytest.mark.parametrize("way", WAYS)
def test_the_envelope_written_in_another_way(state: StateFixture, way: str) -> None:
    """The same of Token and SignedBlock, around blocks that are right."""
    valid = token(root("read:files/**"), child("*:**"))
    fields = take_apart("Token", valid)
    assert b"".join(map(write, fields)) == valid

    for data in rewritten(fields, WAYS[way]):
        assert state.reason(data) in {Reason.MALFORMED_TOKEN, Reason.UNSUPPORTED_VERSION}, data.hex()


@pytest.mark.parametrize("value", [2**31 - 1, 2**31, 2**32 - 1, 2**32])
def test_the_largest_kind(value: int) -> None:
    """A kind has 31 bits: a protobuf library reads 2^31 as a negative number, and writes ten bytes."""
    segment = write((1, 0, value))
    data = token(root({"actions": ["read"], "resource": [{"kind": value}]}))

    if value < 2**31:
        assert Chain.parse(data).block_count == 1
        assert kernel.decode_message("Segment", segment)["kind"] == value
    else:
        with pytest.raises(FormError):
            Chain.parse(data)
        with pytest.raises(kernel.WireError):
            kernel.decode_message("Segment", segment)
        with pytest.raises(kernel.WireError):
            kernel.encode_message("Segment", {"kind": value})
