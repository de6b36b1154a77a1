"""The base of records, and base64url."""

from __future__ import annotations

import pytest

from sessauth._fast import _check as kernel
from sessauth._fast.codec import base64url
from sessauth.crypto.keys import KeyRecord, KeyStatus
from sessauth.model.approval import ApprovalRecord, ApprovalStatus, SignedApproval
from sessauth.model.change import BudgetClaim, Ledger, Permit
from sessauth.scopes.value import Number


def test_nested_records_enums_and_tuples_read_back() -> None:
    """They are dicts, numbers and lists in the message."""
    signed = SignedApproval(b"k" * 32, b"s" * 64, b"statement")
    record = ApprovalRecord(
        *(bytes(16), bytes(16), bytes(32), 0, 0, 1, bytes(32), 1, (b"k" * 32,), "pay", "bank/1"),
        labels=("outer", "inner"),
        status=ApprovalStatus.GRANTED,
        statements=(signed,),
    )

    plain = record.to_record()
    assert (plain["keys"], plain["labels"], plain["status"]) == ([b"k" * 32], ["outer", "inner"], 2)
    assert type(plain["status"]) is int
    assert plain["statements"] == [signed.to_record()]
    assert ApprovalRecord.decode(record.encode()) == record


def test_a_message_may_have_another_name_than_its_class() -> None:
    """A permit is a PermitRecord; a part that is missing from a ledger is zero."""
    claim = BudgetClaim(bytes(32), Number(1, 5), Number(9))
    permit = Permit(bytes(16), bytes(16), "gateway", 1, bytes(32), bytes(32), 7, (claim,))

    assert permit.encode() == kernel.encode_message("PermitRecord", permit.to_record())
    assert Permit.decode(permit.encode()) == permit
    assert Ledger.decode(b"") == Ledger()


def test_an_unknown_number_of_an_enum_is_refused() -> None:
    """It raises ValueError, and other bytes than the canonical ones raise WireError."""
    record = KeyRecord(bytes(32), bytes(32), KeyStatus.ACTIVE).to_record()

    with pytest.raises(ValueError, match="not a valid KeyStatus"):
        KeyRecord.decode(kernel.encode_message("KeyRecord", {**record, "status": 99}))
    with pytest.raises(kernel.WireError):
        KeyRecord.decode(b"\xff")


@pytest.mark.parametrize("size", range(5))
def test_base64url_reads_back(size: int) -> None:
    """Texts have no padding and no character that a URL or a header must escape."""
    data = bytes([0xFB, 0xFF, 0xBE, 0x3E][:size])
    text = base64url.encode(data)

    assert base64url.decode(text) == data
    assert set(text).isdisjoint("+/=")


@pytest.mark.parametrize("text", ["a", "a b", "é", "ab\n"])
def test_other_texts_are_no_base64url(text: str) -> None:
    """Every fault is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        base64url.decode(text)
