"""Requests in wire form: accepted, refused and read as protobuf's runtime does it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessauth._fast._codec import withdrawal
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.cases import examples
from tests.support.decision_fields import by_message, by_object, without_time
from tests.support.raw_requests import (
    GROUP,
    LENGTH,
    batch_fields,
    damaged,
    encode,
    length_delimited,
    nested_group,
    request_fields,
    varint,
)
from tests.support.wire_requests import (
    CHAIN,
    FIRST,
    FORGED,
    JUDGE,
    KINDS,
    PLAIN,
    VALUES,
    decoded,
    hold_alike,
    item,
)
from tests.vectors.world import NOW

EXAMPLES = settings(max_examples=examples(300), deadline=None)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@EXAMPLES
def test_requests_are_read_as_by_protobuf(kind: str, data: st.DataObject) -> None:
    """Fields twice, out of order, unknown, of another kind, in groups: both read the same content."""
    fields = request_fields(VALUES, FIRST[kind], (0, 4 if kind == "batch" else 2))
    hold_alike(kind, encode(data.draw(fields)))


@given(data=st.data())
@EXAMPLES
def test_batches_with_a_table_are_read_as_by_protobuf(data: st.DataObject) -> None:
    """Tokens before, between and after the items, places twice, padded, wrong: both read the same content."""
    hold_alike("batch", encode(data.draw(batch_fields(VALUES, (0, 6)))))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@EXAMPLES
def test_damaged_requests_are_read_or_refused_as_by_protobuf(kind: str, data: st.DataObject) -> None:
    """Changed, cut or lengthened bytes: both refuse, or both read the same content."""
    fields = request_fields(VALUES, FIRST[kind], (1, 2))
    if kind == "batch":
        fields = st.one_of(fields, batch_fields(VALUES, (1, 2)))
    hold_alike(kind, data.draw(damaged(encode(data.draw(fields)))))


# Groups of number 13, which nobody knows, with a field of number 0 in them.
ZERO_IN_A_GROUP = {
    "varint": b"\x6b\x00\x00\x6c",
    "bytes": b"\x6b\x02\x01a\x6c",
    "group": b"\x6b\x03\x04\x6c",
    "deeper": b"\x6b\x73\x00\x00\x74\x6c",
    "padded": b"\x6b\x80\x00\x00\x6c",
    "behind a field": b"\x6b\x08\x01\x00\x00\x6c",
    "found by chance": b'k \n\x02\x08\x01\x12\x01\xff\x1a\x08files//a"\x00*\x002\x00:\x07nowhere\x08\x00',
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", ZERO_IN_A_GROUP.values(), ids=ZERO_IN_A_GROUP)
def test_a_field_of_number_0_is_refused_in_a_group_too(group: bytes, kind: str) -> None:
    """No field has the number 0: the kernel refuses it where protobuf's runtime steps over it."""
    whole = encode([(FIRST[kind], LENGTH, length_delimited(item() + group))])
    for data in (group, whole):
        KINDS[kind].FromString(data)
        assert hold_alike(kind, data) is False


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=80))
@example(data=ZERO_IN_A_GROUP["found by chance"])
@EXAMPLES
def test_noise_is_read_or_refused_as_by_protobuf(kind: str, data: bytes) -> None:
    """Bytes of no origin: both refuse, or both read the same content."""
    hold_alike(kind, data)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere(kind: str) -> None:
    """Each beginning of a request is read or refused as by protobuf, some of each."""
    whole = item(peer=["aa", "bb"], source="10.0.0.1", arguments=b'{"n":1}')
    number = FIRST[kind]
    request = encode([(number, LENGTH, length_delimited(whole)), (number + 2, 0, varint(100))])
    assert {hold_alike(kind, request[:end]) for end in range(len(request) + 1)} == {True, False}


@pytest.mark.parametrize("padding", range(12))
def test_varints_longer_than_they_need(padding: int) -> None:
    """Padded tags, lengths and numbers are taken up to the length that protobuf takes."""
    whole = item()
    for wire, value in ((0, varint(3, padding)), (LENGTH, varint(2, padding) + b"xx")):
        for number in (1, 2, 3, 4, 99):
            for data in (
                encode([(number, wire, value)]),
                varint(number << 3 | wire, padding) + (varint(3) if wire == 0 else length_delimited(b"xx")),
                encode([(1, LENGTH, length_delimited(whole + encode([(number, wire, value)])))]),
            ):
                hold_alike("check", data)
                hold_alike("batch", data)
                hold_alike("stream", data)
    for last in (0, 1, 2, 0x7F, 0x80):
        for count in range(12):
            hold_alike("check", varint(3 << 3) + b"\xff" * count + bytes([last]))


@pytest.mark.parametrize("number", [0, 1, 2**29 - 1, 2**29, 2**29 + 1, 2**32, 2**61 - 1])
def test_field_numbers_at_their_ends(number: int) -> None:
    """Numbers that no field can have are refused, and those that one may have are stepped over."""
    for wire in range(8):
        for value in (b"", b"\x00", bytes(4), bytes(8)):
            field = varint(number << 3 | wire) + value
            hold_alike("check", field)
            hold_alike("batch", encode([(1, LENGTH, length_delimited(field))]))


@pytest.mark.parametrize("length", [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 3, 2**63, 2**64 - 1])
def test_lengths_beyond_the_end(length: int) -> None:
    """A length that no buffer has is refused, wherever it stands and however it wraps."""
    for number in (1, 2, 77):
        data = varint(number << 3 | LENGTH) + varint(length) + b"abc"
        assert not hold_alike("check", data)
        assert not hold_alike("batch", encode([(1, LENGTH, length_delimited(data))]))


@pytest.mark.parametrize("depth", [1, 2, 31, 32, 33, 64, 98, 99, 100, 101, 102, 400])
def test_groups_within_groups(depth: int) -> None:
    """Groups are stepped over as deep as protobuf's runtime goes, and refused below."""
    group = varint(77 << 3 | GROUP) + nested_group(77, depth)
    outside = encode([(1, LENGTH, length_delimited(item()))]) + group
    inside = encode([(1, LENGTH, length_delimited(item() + group))])
    assert hold_alike("check", outside) is (depth <= 100)
    assert hold_alike("check", inside) is (depth <= 99)
    assert not hold_alike("check", outside[:-1])


def test_groups_that_end_otherwise() -> None:
    """An end without a beginning, of another number or missing is refused."""
    begin, end = varint(77 << 3 | 3), varint(77 << 3 | 4)
    for data in (end, begin, begin + varint(78 << 3 | 4), begin + end + end, begin + begin + end):
        assert not hold_alike("check", data)
        assert not hold_alike("check", encode([(1, LENGTH, length_delimited(data))]))
    assert hold_alike("check", begin + encode([(1, LENGTH, length_delimited(item()))]) + end)


def test_an_item_twice_is_merged() -> None:
    """Parts of one item in several fields make one item of a check, and as many items of a batch."""
    parts = [(1, LENGTH, length_delimited(encode([field]))) for field in (
        (1, LENGTH, length_delimited(FORGED)),
        (8, LENGTH, length_delimited(b"aa")),
        (2, LENGTH, length_delimited(b"write")),
        (3, LENGTH, length_delimited(b"files/a")),
        (1, LENGTH, length_delimited(PLAIN)),
        (8, LENGTH, length_delimited(b"bb")),
        (2, LENGTH, length_delimited(b"read")),
    )]  # fmt: skip
    data = encode(parts)
    assert hold_alike("check", data)
    assert hold_alike("batch", data)
    merged, many = decoded("check", data), decoded("batch", data)
    assert merged is not None
    assert many is not None
    assert (len(merged), merged.token(0), merged.peer_count(0), len(many)) == (1, PLAIN, 2, 7)


def test_a_check_of_many_parts_is_one_item() -> None:
    """The limit of a batch's items does not limit the parts of a check's item."""
    part = encode([(1, LENGTH, length_delimited(item(arguments=b'{"n":1}')))])
    assert hold_alike("check", part * 3000)


def test_the_last_of_a_scalar_counts() -> None:
    """Audience, revision and id that are stated twice are the last ones, an empty or zero one too."""
    fields = [(2, LENGTH, length_delimited(item()))]
    for audience, revision, number in ((b"x", 7, 9), (b"gateway", 3, 2**64 - 1), (b"", 0, 0)):
        fields += [
            (3, LENGTH, length_delimited(audience)),
            (4, 0, varint(revision)),
            (1, 0, varint(number)),
        ]
        assert hold_alike("stream", encode(fields))


def test_watch_is_read_as_any_number_but_zero() -> None:
    """The last value counts, in a stream's message alone. Padded and huge numbers are true (protobuf)."""
    for value in (
        varint(0),
        varint(1),
        varint(2),
        varint(1, 9),
        varint(0, 9),
        varint(2**63),
        varint(2**64 - 1),
    ):
        for fields in ([(5, 0, value)], [(5, 0, varint(1)), (5, 0, value)], [(5, LENGTH, b"\x00")]):
            data = encode([(2, LENGTH, length_delimited(item())), *fields])
            assert hold_alike("stream", data)
            hold_alike("check", data)
            hold_alike("batch", data)
    on, off = (decoded("stream", encode([(5, 0, varint(value))])) for value in (1, 0))
    assert on is not None
    assert off is not None
    assert (on.watch, off.watch) == (True, False)


def test_a_withdrawal_is_a_denial_in_protobufs_own_bytes() -> None:
    """It carries the id, the decision of its place in the batch, and that it takes something back."""
    batch = JUDGE._check_batch(
        [
            (PLAIN, "read", "files/a"),
            (PLAIN, "write", "files/a"),
            (b"none", "read", "files/a"),
            (CHAIN, "read", "files/a", b'{"n":10}', b"", b"", "10.0.0.1", ("aa",)),
        ],
        now_ms=NOW,
    )
    for place in (1, 2, 3):
        data = withdrawal(batch, place, 2**64 - place, f"é {place}")
        answer = pb.CheckStreamResponse.FromString(data)
        assert answer.SerializeToString(deterministic=True) == data
        assert (answer.id, answer.withdrawn) == (2**64 - place, True)
        assert answer.decision.decision_id == batch[place].decision_id
        assert answer.decision.explanation == f"é {place}"
        assert by_message(answer.decision) == without_time(by_object(batch[place]))
    with pytest.raises(ValueError, match="takes nothing back"):
        withdrawal(batch, 0, 1, "")
    for place in (-1, 4):
        with pytest.raises(IndexError):
            withdrawal(batch, place, 1, "")


@pytest.mark.parametrize("count", [0, 1, 16, 17, 18, 300])
def test_many_identities(count: int) -> None:
    """Sixteen are kept, of more only the number, and no memory is written behind the sixteenth."""
    data = encode(
        [(1, LENGTH, length_delimited(item(token=CHAIN, peer=["x"] * (count - 1) + ["aa"] * (count > 0))))]
    )
    assert hold_alike("check", data)
    assert hold_alike("batch", data * 3)


def test_texts_that_are_not_utf8() -> None:
    """Source, identity and audience are UTF-8 or the request is refused; action and the like are bytes."""
    for text in (
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"a\x00b",
        "\U0010ffff".encode(),
    ):
        for number in range(1, 9):
            field = encode([(number, LENGTH, length_delimited(text))])
            hold_alike("check", encode([(1, LENGTH, length_delimited(item() + field))]))
        for number in (2, 3, 4):
            hold_alike("check", encode([(number, LENGTH, length_delimited(text))]))
            hold_alike("stream", encode([(number, LENGTH, length_delimited(text))]))
