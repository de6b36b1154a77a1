"""A client's codec of checks, held against protobuf's own runtime: equal bytes, equal decisions, or None."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from sessauth._fast import _codec as codec
from sessauth.client import CheckItem, RemoteDecision
from sessauth.client._requests import tokens as token_calls
from sessauth.client._results import _READER, decision_from_message, read_batch, read_check
from sessauth.errors import UsageError
from sessauth.reasons import Reason
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import record_pb2

SIZES = st.sampled_from([0, 1, 126, 127, 128, 300, 16_383, 16_384])
BYTES = st.binary(max_size=40) | SIZES.map(lambda size: b"x" * size)
TEXTS = st.text(max_size=20) | SIZES.map(lambda size: "é" * size)
SURROGATES = st.text(st.characters(), max_size=8) | st.just("a\ud800")
UINT64 = st.integers(0, 2**64 - 1) | st.sampled_from([0, 127, 128, 2**32, 2**63])
PLAIN_ITEMS = st.builds(
    CheckItem,
    token=BYTES,
    action=BYTES | TEXTS | SURROGATES,
    resource=BYTES | TEXTS | SURROGATES,
    arguments=BYTES | TEXTS | st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
    tool=BYTES,
    session=BYTES,
    source=TEXTS,
    peer=st.lists(TEXTS, max_size=16) | st.lists(TEXTS, max_size=16).map(tuple),
    proof=BYTES | TEXTS,
    retry_id=st.binary(max_size=64),
    permit_ms=st.integers(0, 300_000),
)
TOKEN_ITEMS = st.builds(
    CheckItem.of_token, BYTES, session=BYTES, source=TEXTS, peer=st.lists(TEXTS, max_size=16)
)


def by_protobuf(item: CheckItem, audience: Any, revision: Any) -> bytes:
    """The request as protobuf's runtime makes it."""
    message = pb.CheckRequest(
        item=token_calls.item_message(item), audience=audience, at_least_revision=revision
    )
    return message.SerializeToString()


@given(item=PLAIN_ITEMS | TOKEN_ITEMS, audience=TEXTS, revision=UINT64)
@example(item=CheckItem(b"", b"", b""), audience="", revision=0)
def test_a_request_has_the_bytes_of_protobuf(item: CheckItem, audience: str, revision: int) -> None:
    """Every plain item is encoded here, empty fields included."""
    encoded = codec.check_request(item, item.token, audience, revision)  # type: ignore[arg-type]

    assert encoded == by_protobuf(item, audience, revision)


class Text(str):
    """A str of another type."""


ITEM = CheckItem(b"t", b"read", b"files/a")
ADDRESS = re.compile(r" object at 0x[0-9a-f]+")
NOT_PLAIN: list[dict[str, Any]] = [
    {"action": None},
    {"resource": 1},
    {"action": Text("read")},
    {"session": "s" * 16},
    {"session": bytearray(16)},
    {"source": b"10.0.0.1"},
    {"source": "\ud800"},
    {"source": None},
    {"peer": ["a", 1]},
    {"peer": ["\ud800"]},
    {"peer": "ab"},
    {"peer": None},
    {"peer": iter(["a"])},
    {"peer": ["a"] * 17},
    {"proof": None},
    {"retry_id": "r"},
    {"retry_id": b"r" * 65},
    {"permit_ms": -1},
    {"permit_ms": 300_001},
    {"permit_ms": True},
    {"permit_ms": 1.0},
    {"token_only": 0},
    {"token_only": None},
    {"approvals": None},
    {"approvals": []},
    {"approvals": iter(())},
    {"audience": b"gw"},
    {"audience": None},
    {"audience": "\ud800"},
    {"at_least_revision": -1},
    {"at_least_revision": 2**64},
    {"at_least_revision": 1.5},
    {"at_least_revision": True},
    {"at_least_revision": None},
]


# The text of an iterator is its address, which another process does not have.
@pytest.mark.parametrize("values", NOT_PLAIN, ids=lambda values: ADDRESS.sub("", str(values)))
def test_other_values_are_left_to_protobuf(values: dict[str, Any]) -> None:
    """It accepts or refuses them as ever."""
    stated = {"audience": "", "at_least_revision": 0, **values}
    audience, revision = stated.pop("audience"), stated.pop("at_least_revision")

    def made(make: Any) -> Any:
        # An iterator is used up by the first reader.
        fresh = {name: iter(["a"]) if hasattr(value, "__next__") else value for name, value in stated.items()}
        item = dataclasses.replace(ITEM, **fresh)
        try:
            return make(item, audience, revision)
        except (TypeError, ValueError, UsageError, AttributeError) as error:
            return type(error), str(error)

    item = dataclasses.replace(ITEM, **stated)
    assert codec.check_request(item, b"t", audience, revision) is None
    assert made(token_calls.check_request) == made(by_protobuf)


POSITIONS = st.builds(
    pb.Position,
    level=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3),
    index=st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 5),
    scope=st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 5),
    clause=st.integers(-1, 5),
    argument=TEXTS,
)
ENUMS = st.integers(-(2**31), 2**31 - 1) | st.integers(0, 110)
DECISIONS = st.builds(
    pb.Decision,
    allowed=st.booleans(),
    reason=st.sampled_from([int(reason) for reason in Reason]) | ENUMS,
    stage=ENUMS,
    failed=st.none() | POSITIONS,
    matched=st.none() | POSITIONS,
    session_id=BYTES,
    epoch=UINT64,
    block_ids=st.lists(BYTES, max_size=5),
    revision=UINT64,
    view_age_ms=UINT64,
    expires_at_ms=UINT64,
    decision_id=BYTES,
    explanation=TEXTS,
    permit=BYTES,
    permit_expires_at_ms=UINT64,
)


def typed(decision: RemoteDecision) -> list[tuple[str, type, Any]]:
    """The values of a decision with their types, which compare equal for True and 1."""
    values = [(each.name, getattr(decision, each.name)) for each in dataclasses.fields(decision) if each.init]
    return [(name, type(value), value) for name, value in values]


def plain(decision: pb.Decision) -> bool:
    """Return True if a decision is read here: no negative enum, which protobuf encodes in ten bytes."""
    numbers = (decision.reason, decision.stage, decision.failed.level, decision.matched.level)
    return min(numbers) >= 0


@given(DECISIONS)
@example(pb.Decision())
@example(pb.Decision(failed=pb.Position(), matched=pb.Position()))
@example(pb.Decision(allowed=True, reason=pb.REASON_REVOKED))
def test_a_decision_is_that_of_protobuf(message: pb.Decision) -> None:
    """Each field, by value and type."""
    data = pb.CheckResponse(decision=message).SerializeToString()
    decision = _READER.check(data)

    assert (decision is not None) is plain(message)
    expected = decision_from_message(message)
    assert typed(read_check(data)) == typed(expected)
    if decision is not None:
        assert type(decision) is RemoteDecision and typed(decision) == typed(expected)
        assert decision == expected and hash(decision) == hash(expected)


@given(st.lists(DECISIONS, max_size=4))
def test_decisions_of_a_batch_are_those_of_protobuf(messages: list[pb.Decision]) -> None:
    """They keep their order."""
    data = pb.CheckBatchResponse(decisions=messages).SerializeToString()

    assert (_READER.batch(data) is not None) is all(map(plain, messages))
    assert [typed(each) for each in read_batch(data)] == [
        typed(decision_from_message(each)) for each in messages
    ]


def outcome(read: Any, data: bytes) -> Any:
    """The decisions that a reader makes of bytes, or DecodeError."""
    try:
        decisions = read(data)
    except DecodeError:
        return DecodeError
    return [typed(each) for each in (decisions if isinstance(decisions, list) else [decisions])]


def hold_alike(data: bytes) -> None:
    """Hold that client and protobuf read the same of any bytes, or fail alike."""
    check = outcome(lambda data: decision_from_message(pb.CheckResponse.FromString(data).decision), data)
    assert outcome(read_check, data) == check
    batch = outcome(
        lambda data: list(map(decision_from_message, pb.CheckBatchResponse.FromString(data).decisions)), data
    )
    assert outcome(read_batch, data) == batch


def chunks(data: bytes) -> st.SearchStrategy[bytes]:
    """Bytes that were changed: cut, flipped, repeated, or with others put in."""
    place = st.integers(0, len(data))
    return st.one_of(
        place.map(lambda at: data[:at]),
        place.map(lambda at: data[at:]),
        st.tuples(place, st.integers(0, 255)).map(
            lambda change: data[: change[0]] + bytes([change[1]]) + data[change[0] + 1 :]
        ),
        st.tuples(place, st.binary(min_size=1, max_size=12)).map(
            lambda change: data[: change[0]] + change[1] + data[change[0] :]
        ),
        st.tuples(place, place).map(lambda cut: data[: cut[0]] + data[cut[1] :]),
    )


@given(st.data(), st.lists(DECISIONS, max_size=2))
def test_changed_answers_are_read_as_by_protobuf(data: st.DataObject, messages: list[pb.Decision]) -> None:
    """The lengths of the messages around the change stay, or are made right."""
    whole = pb.CheckBatchResponse(decisions=messages).SerializeToString()
    hold_alike(data.draw(chunks(whole)))
    for message in messages:
        inner = data.draw(chunks(message.SerializeToString()))
        hold_alike(b"\x0a" + varint(len(inner)) + inner)


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


@given(st.binary(max_size=60))
@example(b"\x0a\x02\x08\x02")  # A flag that is neither 0 nor 1.
@example(b"\x0a\x03\x08\x81\x00")  # A padded number.
@example(b"\x0a\x04\x10\x01\x08\x01")  # Fields in another order.
@example(b"\x0a\x06\x08\x01\x10\x01\x10\x46")  # A field twice: the last value counts.
@example(b"\x0a\x04\x08\x01\x10\x01\x0a\x02\x10\x46")  # A message in two parts.
@example(b"\x0a\x07\x10\x81\x80\x80\x80\x10\x08\x01")  # A reason of 33 bits.
@example(b"\x0a\x04\x08\x01\x10\x01\x12\x00")  # A field of a later version.
@example(b"\x0a\x05\x6a\x03\xff\xff\xff")  # A text that is no UTF-8.
def test_any_bytes_are_read_as_by_protobuf(data: bytes) -> None:
    """The decisions are those of protobuf, or so is the failure."""
    hold_alike(data)


def test_an_approval_is_read_by_protobuf() -> None:
    """Its record has many forms; it comes with denials only."""
    approval = record_pb2.ApprovalRecord(id=b"i" * 16, session_id=b"s" * 16)
    message = pb.Decision(reason=pb.REASON_APPROVAL_REQUIRED, approval=approval)
    data = pb.CheckResponse(decision=message).SerializeToString()

    assert _READER.check(data) is None
    assert typed(read_check(data)) == typed(decision_from_message(message))


def test_what_is_no_bytes_raises() -> None:
    """A response is bytes, and so is a token."""
    for wrong in (None, "", bytearray()):
        with pytest.raises(TypeError):
            _READER.check(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            _READER.batch(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            codec.check_request(ITEM, wrong, "", 0)  # type: ignore[arg-type]
