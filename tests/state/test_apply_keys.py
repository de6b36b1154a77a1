"""The rules of changes to issuer keys."""

from __future__ import annotations

import hashlib

import pytest

from sessauth._fast import _check as kernel
from sessauth.crypto.keys import KeyStatus
from sessauth.model.change import add_key, set_key_status
from tests.support.changes import NOW, MemoryRows

PUBLIC = kernel.public_key(b"k" * 32)
KEY_ID = hashlib.blake2b(PUBLIC, digest_size=32).digest()


def test_a_key_is_added_once() -> None:
    """A key stands under the hash of its public half, with its owner; adding it again is refused."""
    rows = MemoryRows()
    assert rows.do(add_key("1", PUBLIC, owner="svc")).applied
    key = rows.key(KEY_ID)
    assert key is not None and (key.status, key.owner, key.added_at_ms) == (KeyStatus.PREPARED, "svc", NOW)
    assert rows.do(add_key("2", PUBLIC)).rejection == "ALREADY_EXISTS"
    assert rows.head().keys_generation == 1


@pytest.mark.parametrize("public", [b"", bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_a_weak_key_is_refused(public: bytes) -> None:
    """A key of another length, of small order or not canonical never becomes an issuer key."""
    assert MemoryRows().do(add_key("1", public)).rejection == "INVALID"


def test_a_key_is_added_prepared_or_active() -> None:
    """No key starts its life retired."""
    rows = MemoryRows()
    assert rows.do(add_key("1", PUBLIC, status=KeyStatus.RETIRED)).rejection == "INVALID"
    assert rows.do(add_key("2", PUBLIC, status=KeyStatus.ACTIVE)).applied
    key = rows.key(KEY_ID)
    assert key is not None and key.activated_at_ms == NOW


@pytest.mark.parametrize("start", [KeyStatus.PREPARED, KeyStatus.ACTIVE])
def test_a_key_only_moves_forward(start: KeyStatus) -> None:
    """Every pair of statuses: forward is applied and stamped, anything else is rejected."""
    for first in KeyStatus:
        for second in KeyStatus:
            rows = MemoryRows()
            rows.do(add_key("1", PUBLIC, status=start))
            rows.do(set_key_status("2", KEY_ID, first))
            before = rows.key(KEY_ID)
            outcome = rows.do(set_key_status("3", KEY_ID, second), NOW + 5)
            after = rows.key(KEY_ID)
            assert before is not None and after is not None
            assert outcome.applied == (second > before.status)
            assert after.status == max(before.status, second if outcome.applied else before.status)


def test_an_unknown_key_has_no_status() -> None:
    """Moving a key that is not there is NOT_FOUND; the generation of keys stays."""
    rows = MemoryRows()
    assert rows.do(set_key_status("1", KEY_ID, KeyStatus.ACTIVE)).rejection == "NOT_FOUND"
    assert rows.head().keys_generation == 0
