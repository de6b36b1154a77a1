"""Records of costs read back; ledgers and attempts have fixed names."""

from __future__ import annotations

import hashlib

import pytest

from sessauth._fast._check import WireError
from sessauth.limits import MAX_REQUEST_ID_BYTES
from sessauth.model.change import Ledger, Permit, SessionCounts, ledger_id, once_change_id, retry_change_id
from sessauth.scopes.value import Number
from tests.support.costs import charge


def test_records_read_back() -> None:
    """Permits, ledgers and counts decode to what was encoded, and bytes behind them are refused."""
    permit = Permit(b"p" * 16, b"s" * 16, "svc", 3, b"t" * 32, b"r" * 32, 99, (charge(1, 5), charge(0, 5)))
    ledger = Ledger(Number(2, 5), Number(-1, 999_999_999))
    counts = SessionCounts(3, 2, 7, 5)
    for record in (permit, ledger, counts, Ledger(), SessionCounts()):
        assert type(record).decode(record.encode()) == record
        with pytest.raises(WireError):
            type(record).decode(record.encode() + b"\0")
    assert permit.handle == b"s" * 16 + b"p" * 16


def test_approvals_wait_at_their_epoch_alone() -> None:
    """At any epoch but the one they were asked for at, none waits."""
    counts = SessionCounts(open_approvals=2, approvals_epoch=7)
    assert [counts.waiting(epoch) for epoch in (6, 7, 8)] == [0, 2, 0]


def test_a_ledger_is_named_as_the_document_says() -> None:
    """The id is the digest of name, unit and block id, each where it begins and ends unmistakably."""
    stated = b"sessauth/ledger/v1\0" + b"\0\0\0\2\xc3\xa9" + b"\0\0\0\3EUR"
    assert ledger_id("é", "EUR") == hashlib.blake2b(stated, digest_size=32).digest()
    assert ledger_id("é", "EUR", b"b" * 32) == hashlib.blake2b(stated + b"b" * 32, digest_size=32).digest()
    assert len({ledger_id("a", "bc"), ledger_id("ab", "c"), ledger_id("abc", "")}) == 3


def test_an_attempt_is_its_gateways() -> None:
    """The same pair gives the same id, any other pair another, and every id fits a change."""
    names = {
        retry_change_id("a", b"bc"), retry_change_id("ab", b"c"), retry_change_id("abc", b""),
        retry_change_id("a", b"b" * 64), once_change_id(), once_change_id(),
    }  # fmt: skip
    assert len(names) == 6 and max(map(len, names)) <= MAX_REQUEST_ID_BYTES
    assert retry_change_id("a", b"bc") in names
