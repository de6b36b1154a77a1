"""Check requests in wire form, as protobuf runtimes write them and as nobody should, for Hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError
from hypothesis import strategies as st

# A field as it stands on the wire: its number, its wire type, its encoded value.
Field: TypeAlias = tuple[int, int, bytes]
VARINT, FIXED64, LENGTH, GROUP, GROUP_END, FIXED32 = range(6)
ITEM_TEXTS = {1: "token", 2: "action", 3: "resource", 4: "arguments", 5: "tool", 6: "session"}


def varint(value: int, padding: int = 0) -> bytes:
    """Encode a varint, with ``padding`` bytes more than it needs."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(padding):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def length_delimited(data: bytes) -> bytes:
    """Encode bytes with their length in front."""
    return varint(len(data)) + data


def encode(fields: Sequence[Field]) -> bytes:
    """Encode a message of these fields, in this order."""
    return b"".join(varint(number << 3 | wire) + value for number, wire, value in fields)


def nested_group(number: int, depth: int, inside: bytes = b"") -> bytes:
    """The value of a group field in which groups of the same number stand."""
    if depth > 1:
        inside = varint(number << 3 | GROUP) + nested_group(number, depth - 1, inside)
    return inside + varint(number << 3 | GROUP_END)


# One unknown field in a group has the number 0, which is refused.
_INSIDE = (b"", b"", b"", b"", b"\x08\x01", b"\x00\x00")
_ODD: st.SearchStrategy[Field] = st.one_of(
    # Unknown fields of each kind.
    st.tuples(st.integers(16, 3000), st.just(VARINT), st.integers(0, 2**64 - 1).map(varint)),
    st.tuples(st.integers(16, 3000), st.just(LENGTH), st.binary(max_size=9).map(length_delimited)),
    st.tuples(st.integers(16, 3000), st.just(FIXED64), st.binary(min_size=8, max_size=8)),
    st.tuples(st.integers(16, 3000), st.just(FIXED32), st.binary(min_size=4, max_size=4)),
    st.integers(16, 99).flatmap(
        lambda number: st.tuples(
            st.just(number),
            st.just(GROUP),
            st.builds(nested_group, st.just(number), st.integers(1, 5), st.sampled_from(_INSIDE)),
        )
    ),
    # Known numbers with another kind than theirs.
    st.tuples(st.just(9), st.just(LENGTH), st.binary(max_size=3).map(length_delimited)),
    st.tuples(st.integers(1, 8), st.just(VARINT), st.integers(0, 300).map(varint)),
    st.tuples(st.integers(1, 8), st.just(FIXED32), st.binary(min_size=4, max_size=4)),
    st.tuples(st.integers(1, 8), st.just(FIXED64), st.binary(min_size=8, max_size=8)),
    st.tuples(st.integers(10, 12), st.just(VARINT), st.integers(0, 300).map(varint)),
    st.tuples(st.integers(13, 14), st.just(LENGTH), st.binary(max_size=3).map(length_delimited)),
    st.tuples(st.integers(10, 14), st.just(FIXED64), st.binary(min_size=8, max_size=8)),
)
_PEER = st.one_of(st.text(max_size=4).map(str.encode), st.binary(max_size=4))
# A proof, approvals, a retry id, a permit; a few too many or too long, and any of them twice.
_OPTIONS: st.SearchStrategy[list[Field]] = st.tuples(
    st.lists(
        st.tuples(
            st.just(10),
            st.just(LENGTH),
            st.sampled_from((b"", b"\x08\x01", b"sessauth_proof_AAAA")).map(length_delimited),
        ),
        max_size=2,
    ),
    st.sampled_from((0, 0, 1, 2, 16, 17)).flatmap(
        lambda count: st.lists(
            st.tuples(st.just(11), st.just(LENGTH), st.binary(max_size=4).map(length_delimited)),
            min_size=count,
            max_size=count,
        )
    ),
    st.lists(
        st.tuples(
            st.just(12),
            st.just(LENGTH),
            st.sampled_from((b"", b"again", b"\xff", b"r" * 64, b"r" * 65)).map(length_delimited),
        ),
        max_size=2,
    ),
    st.lists(
        st.tuples(
            st.just(13),
            st.just(VARINT),
            st.sampled_from((0, 0, 1, 60_000, 300_000, 300_001, 2**64 - 1)).map(varint),
        ),
        max_size=2,
    ),
).map(lambda parts: [field for part in parts for field in part])


@st.composite
def item_fields(draw: st.DrawFn, values: dict[str, Sequence[bytes]]) -> list[Field]:
    """The fields of a CheckItem, most of them taken from ``values``; some twice, some odd, in any order."""
    fields: list[Field] = []
    if draw(st.sampled_from((False,) * 11 + (True,))):
        # The token alone: mostly without a call.
        fields.append((14, VARINT, draw(st.sampled_from((b"\x01", b"\x01", b"\x00", varint(2**64 - 1))))))
    kept = (1, 6) if fields and draw(st.sampled_from((True, True, False))) else tuple(ITEM_TEXTS)
    for number, name in ITEM_TEXTS.items():
        if number not in kept:
            continue
        for _ in range(draw(st.sampled_from((1, 1, 1, 1, 1, 1, 0, 2)))):
            fields.append((number, LENGTH, length_delimited(draw(st.sampled_from(values[name])))))
    if draw(st.booleans()):
        source = draw(st.sampled_from((b"", b"10.0.0.1", b"::1", b"nowhere", b"\xff", "é".encode())))
        fields.append((7, LENGTH, length_delimited(source)))
    if draw(st.booleans()):
        count = draw(st.sampled_from((0, 1, 2, 16, 17)))
        fields += [(8, LENGTH, length_delimited(draw(_PEER))) for _ in range(count)]
    if draw(st.sampled_from((False, False, True))):
        fields += draw(_OPTIONS)
    if draw(st.sampled_from((False,) * 9 + (True,))):
        fields.append((9, VARINT, draw(st.sampled_from((b"\x00", b"\x00", b"\x01", b"\x07")))))
    fields += draw(st.lists(_ODD, max_size=2))
    return draw(st.permutations(fields)) if draw(st.booleans()) else fields


@st.composite
def batch_fields(draw: st.DrawFn, values: dict[str, Sequence[bytes]], items: tuple[int, int]) -> list[Field]:
    """The fields of a batch with a table of tokens: most items name one of them, and a few do so wrongly."""
    shown = draw(st.lists(st.sampled_from(values["token"]), max_size=4))
    fields: list[Field] = [(4, LENGTH, length_delimited(token)) for token in shown]
    for _ in range(draw(st.integers(*items))):
        item = draw(item_fields(values))
        if draw(st.sampled_from((True, True, True, False))):
            own = draw(st.sampled_from((False,) * 30 + (True,)))
            item = [field for field in item if own or field[:2] != (1, LENGTH)]
            for _ in range(draw(st.sampled_from((1, 1, 1, 1, 2)))):
                item.append((9, VARINT, draw(_place(len(shown)))))
            item = draw(st.permutations(item)) if draw(st.booleans()) else item
        fields.append((1, LENGTH, length_delimited(encode(item))))
    fields.append((2, LENGTH, length_delimited(b"gw")))
    fields += draw(st.lists(_ODD, max_size=1))
    return draw(st.permutations(fields)) if draw(st.booleans()) else fields


def _place(tokens: int) -> st.SearchStrategy[bytes]:
    """A place in a table of so many tokens; now and then padded, 0, beyond the table or of too many bits."""
    right = st.integers(min(1, tokens), tokens)
    return st.one_of(
        *[right.map(varint)] * 12,
        right.map(lambda place: varint(place, 3)),
        right.map(lambda place: varint(place + 2**32)),
        st.sampled_from((0, tokens + 1, 2**31, 2**32 - 1, 2**63)).map(varint),
    )


@st.composite
def request_fields(
    draw: st.DrawFn, values: dict[str, Sequence[bytes]], first: int, items: tuple[int, int]
) -> list[Field]:
    """The fields of a request whose item has the number ``first``; ``items``: at least and at most."""
    fields: list[Field] = []
    for _ in range(draw(st.integers(*items))):
        fields.append((first, LENGTH, length_delimited(encode(draw(item_fields(values))))))
    for _ in range(draw(st.sampled_from((0, 1, 1, 2)))):
        audience = draw(st.sampled_from((b"gw", b"gw", b"other", b"", b"\xc3", "é".encode())))
        fields.append((first + 1, LENGTH, length_delimited(audience)))
    if draw(st.sampled_from((False, False, True))):
        revision, padding = draw(
            st.sampled_from(((0, 0), (1, 0), (1, 3), (2**40, 0), (2**64 - 1, 0), (0, 9)))
        )
        fields.append((first + 2, VARINT, varint(revision, padding)))
    if first == 2:
        # A stream's id, a Commit's permit: to the other of them a field of another kind.
        fields.append((1, VARINT, varint(draw(st.integers(0, 2**64 - 1)))))
        permits = st.binary(max_size=40).map(length_delimited)
        fields += [(1, LENGTH, permit) for permit in draw(st.lists(permits, max_size=2))]
        watches = st.sampled_from((0, 1, 1, 2, 2**64 - 1)).map(varint)
        fields += [(5, VARINT, watch) for watch in draw(st.lists(watches, max_size=2))]
    # A batch has a table there, a stream's request nothing.
    for _ in range(draw(st.sampled_from((0, 0, 0, 1)))):
        fields.append((4, LENGTH, length_delimited(draw(st.sampled_from(values["token"])))))
    fields += draw(st.lists(_ODD, max_size=1))
    return draw(st.permutations(fields)) if draw(st.booleans()) else fields


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with one of them changed, some lost at the end, or some more there."""
    if not data:
        return st.binary(max_size=3)
    return st.one_of(
        st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255)).map(
            lambda change: data[: change[0]] + bytes([data[change[0]] ^ change[1]]) + data[change[0] + 1 :]
        ),
        st.integers(0, len(data) - 1).map(lambda end: data[:end]),
        st.binary(min_size=1, max_size=4).map(lambda more: data + more),
    )


def read_by_protobuf(kind: Any, data: bytes) -> Any:
    """Return the request that protobuf's runtime reads, or None where it is refused.

    A field of number 0 in a group is refused, although the runtime steps over it.
    """
    try:
        message = kind.FromString(data)
    except DecodeError:
        return None
    fields = kind.DESCRIPTOR.fields_by_name
    number = (fields.get("item") or fields["items"]).number
    return None if zero_in_a_group(data, number) else message


def zero_in_a_group(data: bytes, first: int) -> bool:
    """Return True if a group holds a field of number 0: of a request, or of its items, the fields ``first``.

    What is behind bytes that are no field is not looked at.
    """
    at = groups = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            return groups > 0
        if wire == VARINT:
            _, at = _read_varint(data, at)
        elif wire == LENGTH:
            length, at = _read_varint(data, at)
            if groups == 0 and number == first and zero_in_a_group(data[at : at + length], 0):
                return True
            at += length
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire in (3, 4):
            groups += 1 if wire == 3 else -1
        else:
            return False
    return False


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint, of whatever length, and where it ends."""
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            break
    return value, at
