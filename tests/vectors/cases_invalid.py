"""Chains that no verifier accepts: wrong encodings, versions and sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.oracle.constants import Reason
from tests.oracle.wire import encode, write_varint
from tests.support.token_forger import Key, Record, assemble, sign
from tests.vectors import cases_invalid_chains, cases_invalid_rules
from tests.vectors.world import (
    ISSUED,
    ISSUER,
    NOW,
    Case,
    case,
    child,
    link,
    refused,
    root,
    signers,
    token,
)

MALFORMED = refused(Reason.MALFORMED_TOKEN)
READ = "read:files/*"


def cases() -> Iterator[Case]:
    """All vectors of ``invalid.json``."""
    yield from _outer()
    yield from _payloads()
    yield from _versions_and_sizes()
    yield from cases_invalid_rules.cases()
    yield from cases_invalid_chains.cases()


def tagged(number: int, data: bytes, wire_type: int = 2) -> bytes:
    """One field: a length-delimited one with its length, any other as it is."""
    length = write_varint(len(data)) if wire_type == 2 else b""
    return write_varint(number << 3 | wire_type) + length + data


def signed(payloads: Sequence[bytes], by: Sequence[Key] = ()) -> bytes:
    """A token of payloads as they are, rightly signed."""
    return assemble(payloads, sign(payloads, by or signers(len(payloads))))


def good() -> bytes:
    """A token that is accepted."""
    return token(root(READ))


def payload(*blocks: Record) -> bytes:
    """The payload of a linked root block."""
    return encode("Block", link(*blocks or (root(READ),))[0])


def bad(name: str, comment: str, data: bytes) -> Case:
    """A malformed token."""
    return Case(name, comment, data, MALFORMED)


def _outer() -> Iterator[Case]:
    whole = good()
    block = whole[2:]
    yield bad("empty", "No bytes at all.", b"")
    yield bad("no blocks", "A version and nothing else.", b"\x08\x01")
    yield bad("no version", "The version is required.", block)
    yield bad("version after blocks", "Fields are not in ascending order.", block + b"\x08\x01")
    yield bad("version twice", "A field appears twice.", b"\x08\x01" + whole)
    yield bad("version 0", "A default is encoded.", b"\x08\x00" + block)
    yield bad("version not minimal", "A varint is longer than it must be.", b"\x08\x81\x00" + block)
    yield bad("version as fixed32", "Another wire type.", b"\x0d\x01\x00\x00\x00" + block)
    yield bad(
        "version beyond 32 bits",
        "A varint that does not fit its type.",
        b"\x08" + write_varint(2**32) + block,
    )
    yield bad("version of 11 bytes", "A varint that is too long.", b"\x08" + b"\x81" * 10 + b"\x00" + block)
    yield bad(
        "version beyond 64 bits",
        "A varint of ten bytes that exceeds 64 bits.",
        b"\x08" + b"\xff" * 9 + b"\x02" + block,
    )
    yield bad("tag not minimal", "The tag is longer than it must be.", b"\x88\x00\x01" + block)
    yield bad("field 0", "There is no field 0.", whole + b"\x02\x00")
    yield bad("unknown field", "A field that the schema does not have.", whole + tagged(3, b"x"))
    yield bad("group", "Groups are refused.", whole + b"\x1b\x1c")
    yield bad("trailing byte", "One byte is left.", whole + b"\x00")
    yield bad("blocks as varint", "Another wire type.", b"\x08\x01\x10\x01")
    yield bad("length beyond the end", "A length that is not there.", b"\x08\x01\x12\x7f")
    yield bad("length not minimal", "The length is longer than it must be.", b"\x08\x01\x12\x80\x00")
    yield bad("empty block", "A signed block without fields.", b"\x08\x01\x12\x00")
    yield bad("text form as bytes", "The text form is not the bytes.", b"sessauth_token_CAE.AAAAAA")
    for cut in (1, 2, 3, 40, 67, len(whole) // 2, len(whole) - 1):
        yield bad(f"first {cut} bytes", "A truncated token.", whole[:cut])
    for size in (63, 65):
        data = b"\x08\x01" + tagged(2, tagged(1, bytes([7] * size)) + tagged(2, payload()))
        yield bad(f"signature of {size} bytes", "A signature has 64 bytes.", data)
    sig = sign([payload()], [ISSUER])[0]
    yield bad("no signature", "The signature is required.", b"\x08\x01" + tagged(2, tagged(2, payload())))
    yield bad("no payload", "The payload is required.", b"\x08\x01" + tagged(2, tagged(1, sig)))
    yield bad(
        "payload before signature",
        "Fields are not in ascending order.",
        b"\x08\x01" + tagged(2, tagged(2, payload()) + tagged(1, sig)),
    )
    yield bad(
        "unsigned field",
        "There is no unsigned field.",
        b"\x08\x01" + tagged(2, tagged(1, sig) + tagged(2, payload()) + tagged(3, b"x")),
    )
    yield bad(
        "stored form",
        "The bytes of a stored form are no token.",
        encode("StoredToken", {"token": token(root(READ), last="open"), "next_secret": bytes(32)}),
    )


def _payloads() -> Iterator[Case]:
    plain = payload()
    root_only = encode("Block", {"root": root()["root"]})
    times = encode("Block", {"issued_at_ms": ISSUED, "expires_at_ms": NOW + 5})
    audience, sealed = tagged(5, b"gateway"), b"\x58\x01"
    scope = encode("Block", {"scopes": root(READ)["scopes"]})
    edits: list[tuple[str, str, bytes]] = [
        ("root twice", "A field appears twice.", root_only + plain),
        ("root last", "Fields are not in ascending order.", times + audience + scope + sealed + root_only),
        ("unknown field", "A field that the schema does not have.", plain + tagged(16, b"x")),
        ("unknown high field", "The highest field number.", plain + tagged(2**29 - 1, b"x")),
        ("ending twice", "A field appears twice.", root_only + times + audience + scope + sealed + sealed),
        ("ending 0", "A default is encoded.", root_only + times + audience + scope + b"\x58\x00"),
        ("no ending", "The ending is required.", root_only + times + audience + scope),
        (
            "ending of 2^31",
            "An enum has 31 bits.",
            root_only + times + audience + scope + tagged(11, write_varint(2**31), 0),
        ),
        ("unknown ending", "An ending must be known.", root_only + times + audience + scope + b"\x58\x04"),
        (
            "negative ending",
            "An enum below zero does not fit 32 bits.",
            root_only + times + audience + scope + b"\x58" + b"\xff" * 9 + b"\x01",
        ),
        (
            "may_seal 2",
            "A bool is exactly 1.",
            encode("Block", link(root(READ), last="bound")[0]) + b"\x70\x02",
        ),
        (
            "may_seal 0",
            "A default is encoded.",
            encode("Block", link(root(READ), last="bound")[0]) + b"\x70\x00",
        ),
        ("empty label", "A default is encoded.", plain + tagged(15, b"")),
        ("label not UTF-8", "An overlong form.", plain + tagged(15, b"\xc0\xaf")),
        ("label with a surrogate", "CESU is not UTF-8.", plain + tagged(15, b"\xed\xa0\x80")),
        ("label beyond Unicode", "Above U+10FFFF.", plain + tagged(15, b"\xf4\x90\x80\x80")),
        (
            "audience apart",
            "Elements of a repeated field are adjacent.",
            root_only + times + audience + scope + tagged(5, b"other") + sealed,
        ),
        ("empty scope", "A message without fields.", root_only + times + audience + tagged(6, b"") + sealed),
        (
            "time not minimal",
            "A varint is longer than it must be.",
            root_only + tagged(2, b"\x81\x80\x00", 0) + tagged(3, b"\x02", 0) + audience + scope + sealed,
        ),
        (
            "time as fixed64",
            "Another wire type.",
            root_only + tagged(2, bytes(8), 1) + tagged(3, b"\x02", 0) + audience + scope + sealed,
        ),
        (
            "max_blocks packed",
            "Another wire type.",
            root_only + times + audience + scope + tagged(10, b"\x01") + sealed,
        ),
    ]
    for name, comment, data in edits:
        yield bad(f"payload: {name}", comment, signed([data]))
    yield from _nested()


def _nested() -> Iterator[Case]:
    """Wrong encodings inside a condition of a scope."""
    path = tagged(1, b"\x08\x01" + tagged(2, b"a"))
    head = tagged(1, b"read") + tagged(2, b"\x08\x02")
    inside = {
        "two members of a oneof": tagged(3, tagged(1, b"x") + b"\x18\x01"),
        "one member twice": tagged(3, b"\x18\x01\x18\x01"),
        "value without a member": tagged(3, b""),
        "truth 2": tagged(3, b"\x18\x02"),
        "text after number": tagged(3, tagged(2, b"") + tagged(1, b"")),
        "units 0 encoded": tagged(3, tagged(2, b"\x08\x00")),
        "nanos 0 encoded": tagged(3, tagged(2, b"\x10\x00")),
        "nanos of 10^9": tagged(3, tagged(2, b"\x10" + write_varint(10**9))),
        "nanos beyond 32 bits": tagged(3, tagged(2, b"\x10" + write_varint(2**32))),
        "text not UTF-8": tagged(3, tagged(1, b"\xff")),
        "each 0 encoded": tagged(3, b"\x18\x01") + b"\x30\x00",
        "accessor 0 encoded": tagged(3, b"\x18\x01") + b"\x28\x00",
        "unknown field in a value": tagged(3, b"\x18\x01\x20\x01"),
        "unknown field in a condition": tagged(3, b"\x18\x01") + b"\x40\x01",
    }
    for name, rest in inside.items():
        scope = head + tagged(3, path + b"\x10\x01" + rest)
        block = encode("Block", {**root(), "scopes": []})
        yield bad(
            f"nested: {name}",
            "Wrong inside a nested message.",
            signed([block + tagged(6, scope) + b"\x58\x01"]),
        )


def _versions_and_sizes() -> Iterator[Case]:
    block = good()[2:]
    for version in (2, 127, 128, 2**32 - 1):
        yield Case(
            f"version {version}",
            "Another version, whatever follows.",
            b"\x08" + write_varint(version) + block,
            refused(Reason.UNSUPPORTED_VERSION),
        )
    yield Case(
        "version 2 alone",
        "Said before anything else is read.",
        b"\x08\x02",
        refused(Reason.UNSUPPORTED_VERSION),
    )
    yield Case("8192 bytes", "As large as may be, and malformed.", (b"\x08\x01" + bytes(8190)), MALFORMED)
    yield Case(
        "8193 bytes",
        "One byte too many, said before the version.",
        b"\x08\x02" + bytes(8191),
        refused(Reason.TOKEN_TOO_LARGE),
    )
    yield case(
        "max_blocks passed",
        "Longer than max_blocks.",
        refused(Reason.CHAIN_TOO_LONG),
        root(READ, max_blocks=1),
        child(),
    )
    yield case(
        "max_blocks of a child passed",
        "A child may lower it.",
        refused(Reason.CHAIN_TOO_LONG),
        root(READ),
        child(max_blocks=2),
        child(),
    )
    yield case(
        "too long and open",
        "The length is said first.",
        refused(Reason.CHAIN_TOO_LONG),
        root(READ, max_blocks=1),
        child(),
        last="open",
    )
    yield case(
        "seventeen blocks", "One block too many.", MALFORMED, root(READ), *(child() for _ in range(16))
    )
