"""The strict codec of records: what it takes, what it refuses, and what each refusal names."""

from __future__ import annotations

from typing import Any

import pytest

from sessauth._fast import _check as kernel
from tests.oracle.wire import write_varint


def test_absent_fields() -> None:
    """Absent scalars have their default, members of a oneof and messages are None, repeated ones lists."""
    assert kernel.decode_message("Value", b"") == dict.fromkeys(
        ("text", "number", "truth", "decimal", "json", "digest")
    )
    assert kernel.decode_message("Budget", b"") == {"name": "", "limit": None, "unit": "", "amount": None}
    assert kernel.decode_message("Approval", b"") == {"threshold": 0, "keys": []}
    assert kernel.decode_message("Fact", b"") == {"name": "", "value": None, "visible": False}
    assert kernel.decode_message("StoredToken", b"") == {"token": b"", "next_secret": b""}


@pytest.mark.parametrize(
    ("message", "record", "named"),
    [
        ("Number", {"units": 2**63}, "units"),
        ("Number", {"units": True}, "units"),
        ("Number", {"units": 1.0}, "units"),
        ("Number", {"nanos": 2**32}, "nanos"),
        ("Number", {"nanos": -1}, "nanos"),
        ("Segment", {"kind": 2**31}, "kind"),
        ("Head", {"revision": 2**64}, "revision"),
        ("Fact", {"name": b"n"}, "name"),
        ("Fact", {"name": "\ud800"}, "name"),
        ("Fact", {"visible": 1}, "visible"),
        ("StoredToken", {"token": "text"}, "token"),
        ("StoredToken", {"token": bytearray(b"x")}, "token"),
        ("Value", {"text": "a", "truth": True}, "truth"),
        ("Value", {"txt": "a"}, "txt"),
        ("Segment", {"texts": [1]}, "texts"),
    ],
)
def test_values_that_do_not_fit(message: str, record: dict[str, Any], named: str) -> None:
    """A value that its field can't hold is refused by the field's name."""
    with pytest.raises(kernel.WireError, match=named):
        kernel.encode_message(message, record)


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ("Number", b"\x08"),
        ("Number", b"\x08\x80"),
        ("Number", b"\x08\x80\x00"),
        ("Number", b"\x08\x00"),
        ("Number", b"\x88\x00\x01"),
        ("Number", b"\x08" + b"\xff" * 9 + b"\x02"),
        ("Number", b"\x08" + b"\xff" * 10 + b"\x01"),
        ("Number", b"\x10\x01\x08\x01"),
        ("Number", b"\x08\x01\x08\x01"),
        ("Number", b"\x09\x01\x00\x00\x00\x00\x00\x00\x00"),
        ("Number", b"\x0d\x01\x00\x00\x00"),
        ("Number", b"\x0b\x0c"),
        ("Number", b"\x0a\x00"),
        ("Number", b"\x18\x01"),
        ("Number", b"\x00\x01"),
        ("Number", b"\x10" + write_varint(2**32)),
        ("Segment", b"\x08" + write_varint(2**31)),
        ("Segment", b"\x12\x02a"),
        ("Segment", b"\x12\x01\xff"),
        ("Segment", b"\x12\x03\xed\xa0\x80"),
        ("Segment", b"\x12\x02\xc0\xaf"),
        ("Segment", b"\x12\x04\xf4\x90\x80\x80"),
        ("Value", b"\x0a\x00\x18\x01"),
        ("Value", b"\x18\x02"),
        ("Fact", b"\x18\x00"),
        ("Fact", b"\x0a\x00"),
        ("Approval", b"\x12" + b"\xff" * 9 + b"\x01"),
    ],
)
def test_bytes_that_are_not_canonical(message: str, data: bytes) -> None:
    """Every other byte form of a record is refused with the message's name."""
    with pytest.raises(kernel.WireError, match=message):
        kernel.decode_message(message, data)


def test_messages_that_do_not_exist() -> None:
    """A message that the schema does not have is the caller's mistake."""
    with pytest.raises(KeyError):
        kernel.decode_message("Nothing", b"")
    with pytest.raises(KeyError):
        kernel.encode_message("Nothing", {})


def test_the_deepest_record() -> None:
    """The deepest message of the schema is within the nesting that the format permits, both ways."""
    path = {"source": 1, "segments": ["a"]}
    scope = {"needs": {"budget": {"name": "b", "amount": path}}}
    encoded = kernel.encode_message("Change", {"open_session": {"ceiling": {"scopes": [scope]}}})

    ceiling = kernel.decode_message("Change", encoded)["open_session"]["ceiling"]
    assert ceiling["scopes"][0]["needs"]["budget"]["amount"] == path
