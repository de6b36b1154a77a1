"""Protobuf accepts all that the kernel's decoder accepts, with equal content, and encodes to equal bytes."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from google.protobuf import message as protobuf
from google.protobuf.message import DecodeError

from sessauth._fast import _check as kernel
from sessauth._fast._check import Chain, FormError
from sessauth._fast.codec import schema
from sessauth.v1 import (
    caller_statement_pb2,
    group_record_pb2,
    log_record_pb2,
    receipt_pb2,
    record_pb2,
    token_pb2,
)
from tests.fuzz.check_any_bytes import changed, seeds
from tests.oracle.wire import Malformed
from tests.oracle.wire import decode as oracle_decode

_TYPES = {
    name: getattr(module, name)
    for module in (
        token_pb2,
        record_pb2,
        log_record_pb2,
        receipt_pb2,
        group_record_pb2,
        caller_statement_pb2,
    )
    for name in schema.MESSAGES
    if hasattr(module, name)
}
_TOKEN_MESSAGES = (
    *("Token", "SignedBlock", "StoredToken", "Block", "Root", "Scope", "Segment", "Path", "Condition"),
    *("Value", "Number", "Needs", "Approval", "Budget"),
)
_NUMBERS = (
    1,
    2,
    16,
    127,
    128,
    16_383,
    2**28,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
)


def as_dict(name: str, parsed: protobuf.Message) -> dict[str, Any]:
    """A parsed message in the terms of the kernel's ``decode``."""
    out: dict[str, Any] = {}
    for _, field, kind, repeated, in_oneof, inner in schema.MESSAGES[name]:
        value = getattr(parsed, field)
        if repeated:
            out[field] = [as_dict(inner, item) if kind == "message" else item for item in value]
        elif kind == "message" or in_oneof:
            present = parsed.HasField(field)
            out[field] = (as_dict(inner, value) if kind == "message" else value) if present else None
        else:
            out[field] = value
    return out


def random_value(rng: random.Random, name: str, depth: int = 1) -> dict[str, Any]:
    """A record of a message with some fields, at their extremes more often than not."""
    out: dict[str, Any] = {}
    oneof_taken = False
    for _, field, kind, repeated, in_oneof, inner in schema.MESSAGES[name]:
        if rng.random() < 0.4 or (in_oneof and oneof_taken) or (kind == "message" and depth > 6):
            continue
        oneof_taken |= in_oneof
        items = [_random_item(rng, kind, inner, depth) for _ in range(rng.randint(1, 3) if repeated else 1)]
        out[field] = items if repeated else items[0]
    return out


def _random_item(rng: random.Random, kind: str, inner: str, depth: int) -> Any:
    if kind == "message":
        return random_value(rng, inner, depth + 1)
    if kind == "string":
        return rng.choice(("", "a", "\0", "\u00e9\U0001f600", "x" * 200))
    if kind == "bytes":
        return rng.choice((b"", b"\0", bytes(32), rng.randbytes(200)))
    if kind == "bool":
        return rng.random() < 0.5
    number = rng.choice(_NUMBERS) if rng.random() < 0.5 else rng.getrandbits(rng.randint(1, 31))
    if kind == "sint64":
        return rng.choice((number % 2**63, -(number % 2**63) - 1))
    return number if kind == "uint64" or number < (2**31 if kind == "enum" else 2**32) else 7


def compare(name: str, data: bytes) -> bool:
    """Return True if the kernel accepted; require that protobuf then reads and writes the same."""
    try:
        record = kernel.decode_message(name, data)
    except kernel.WireError:
        return False
    parsed = _TYPES[name]()
    try:
        parsed.ParseFromString(data)
    except DecodeError as error:
        raise AssertionError(f"{name} {data.hex()}: only the kernel accepts it") from error
    assert as_dict(name, parsed) == record, data.hex()
    assert parsed.SerializeToString(deterministic=True) == data, data.hex()
    assert kernel.encode_message(name, record) == data, data.hex()
    return True


def test_every_message_is_compared() -> None:
    """Both schemas have the same messages."""
    assert set(_TYPES) == set(schema.MESSAGES)


@pytest.mark.parametrize("name", sorted(_TYPES))
def test_records_and_their_changes(name: str) -> None:
    """Random records of each message agree, and so does each changed form that the kernel accepts."""
    rng = random.Random(f"records of {name}")
    accepted: Counter[bool] = Counter()
    for _ in range(150):
        data = kernel.encode_message(name, random_value(rng, name))
        assert compare(name, data)
        for _ in range(6):
            accepted[compare(name, changed(rng, data))] += 1

    assert accepted[False] > 100


@pytest.mark.parametrize("name", _TOKEN_MESSAGES)
def test_the_oracle_reads_the_same(name: str) -> None:
    """Kernel and oracle accept the same forms of a token's messages, with the same content."""
    rng = random.Random(f"forms of {name}")
    for _ in range(150):
        data = kernel.encode_message(name, random_value(rng, name))
        for form in (data, *(changed(rng, data) for _ in range(6))):
            try:
                expected: Any = oracle_decode(name, form)
            except Malformed:
                expected = None
            try:
                found: Any = kernel.decode_message(name, form)
            except kernel.WireError:
                found = None
            assert found == expected, form.hex()


def test_chains_that_parse() -> None:
    """A chain that the kernel parses is a Token to protobuf, blocks and all, and encodes the same."""
    rng = random.Random(7)
    valid = seeds()
    parsed = 0
    for _ in range(12_000):
        data = changed(rng, rng.choice(valid))
        try:
            chain = Chain.parse(data)
        except FormError:
            continue
        parsed += 1
        assert compare("Token", data)
        message = token_pb2.Token.FromString(data)
        assert chain.signatures == tuple(block.signature for block in message.blocks)
        assert chain.payloads == tuple(block.payload for block in message.blocks)
        for payload in chain.payloads:
            assert compare("Block", payload)
        block = token_pb2.Block.FromString(chain.payloads[0])
        assert (chain.session_id, chain.token_id) == (block.root.session_id, block.root.token_id)
    assert parsed > 1000
