"""Records that no honest leader made, or out of place: refused with a word, and nothing is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sessauth.crypto.keys import KeyStatus, MessageKey
from sessauth.model.host import FORMAT, CarriedRow, GroupRecord, SignedGroup
from sessauth.state import layout
from sessauth.state.replication.carried_log import apply_records
from tests.support.carried_play import ISSUER, KEYS, PAST, SESSION, STRANGER, Play

FIELDS: dict[str, tuple[Any, str]] = {
    "format": (FORMAT + 1, "NEWER_FORMAT"),
    "cluster_id": (b"x" * 16, "FOREIGN"),
    "incarnation": (b"x" * 16, "OTHER_PAST"),
    "term": (0, "OLD_TERM"),
    "number": (10_000, "GAP"),
    "previous": (b"x" * 32, "OTHER_PAST"),
    "server": ("two", "UNKNOWN_KEY"),
    "after_seq": (1, "OTHER_PAST"),
    "changes": ((), "DIVERGED"),
    "rows": ((CarriedRow(layout.SESSIONS, SESSION, b""),), "FOREIGN_ROW"),
    "head_digest": (b"x" * 32, "DIVERGED"),
    "revision": (9_999, "DIVERGED"),
    "engine_id": ("another", "OTHER_PAST"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_the_right_key_signed_wrongly(play: Play, name: str) -> None:
    """The rule of that field refuses it, and any key that is not the leader's is refused before."""
    value, word = FIELDS[name]
    assert play.refuse(play.altered(**{name: value})) == word
    true = SignedGroup.decode(play.next)
    unsigned = replace(true, payload=replace(play.record, **{name: value}).encode()).encode()
    early = word if name in ("format", "server") else "ALTERED"
    assert play.refuse(unsigned) == early
    for key in (KEYS["two"], STRANGER, ISSUER):
        if name not in ("format", "server"):
            assert play.refuse(play.altered(key, **{name: value})) == "UNKNOWN_KEY"


def test_every_field_is_attacked_but_two() -> None:
    """The leader's clock, and that it adopted the log at another engine, are the leader's word."""
    assert set(FIELDS) | {"at_ms", "begins_engine"} == set(GroupRecord.__dataclass_fields__)


@pytest.mark.parametrize("status", PAST)
def test_a_key_that_is_not_active(play: Play, status: KeyStatus) -> None:
    """Refused, whatever it signs, even the very record."""
    assert play.refuse(play.altered(PAST[status])) == "INACTIVE_KEY"


@pytest.mark.parametrize("key", [STRANGER, ISSUER, KEYS["two"]], ids=["stranger", "issuer", "two"])
def test_the_true_record_under_another_key(play: Play, key: MessageKey) -> None:
    """A server's key signs for that server only, and an issuer's for none, whatever its owner is named."""
    assert play.refuse(play.altered(key)) == "UNKNOWN_KEY"


@pytest.mark.parametrize("key_id", [b"", b"k" * 31, b"k" * 600], ids=len)
def test_an_id_that_is_no_keys(play: Play, key_id: bytes) -> None:
    """Also one that LMDB could not look up."""
    assert play.refuse(replace(SignedGroup.decode(play.next), key_id=key_id).encode()) == "UNKNOWN_KEY"


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"x" * 63, b"x" * 65, b"\xff" * 64], ids=repr)
def test_no_signature(play: Play, signature: bytes) -> None:
    """No length and no pattern passes."""
    assert play.refuse(replace(SignedGroup.decode(play.next), signature=signature).encode()) == "ALTERED"


def test_every_byte_counts(play: Play) -> None:
    """Each bit pattern of a byte, and each truncation: a known word, and nothing is written."""
    words = set()
    for at in range(0, len(play.next), 3):
        altered = bytearray(play.next)
        altered[at] ^= 1 << at % 8
        words.add(play.refuse(bytes(altered)))
        words.add(play.refuse(play.next[:at]))
    assert words <= {"UNREADABLE", "NEWER_FORMAT", "UNKNOWN_KEY", "ALTERED", "OTHER_PAST", "GAP", "FOREIGN"}


def test_what_is_no_record(play: Play) -> None:
    """Nothing, zeros, a record without its envelope, and lengths that promise more than there is."""
    payload = SignedGroup.decode(play.next).payload
    nothings = [
        b"",
        b"\0",
        b"\0" * 4096,
        payload,
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a" + b"\xff" * 10,
        b"\xff" * 64,
    ]
    for data in (*nothings, SignedGroup(b"", b"", b"").encode(), SignedGroup(b"x", b"", b"").encode()):
        assert play.refuse(data) in ("UNREADABLE", "NEWER_FORMAT")


def test_a_record_out_of_place(play: Play) -> None:
    """The second before the first is a gap; under another number, by its key or not, it follows nothing."""
    assert play.refuse(play.second) == "GAP"
    number = play.record.number
    fork = replace(SignedGroup.decode(play.second).record(), number=number).signed_by(KEYS["one"])
    assert play.refuse(fork.encode()) == "OTHER_PAST"
    assert play.refuse(play.altered(number=number + 1)) == "GAP"
    assert play.refuse(play.altered(number=number - 1)) == "OTHER_PAST"


def test_a_good_record_before_a_bad_one_is_not_written_either(play: Play) -> None:
    """A page is one commit."""
    assert play.refuse(play.next, play.next[:-1]) == "UNREADABLE"
    fork = replace(SignedGroup.decode(play.second).record(), previous=b"x" * 32).signed_by(KEYS["one"])
    assert play.refuse(play.next, fork.encode()) == "OTHER_PAST"
    bad = replace(SignedGroup.decode(play.second).record(), revision=1).signed_by(KEYS["one"])
    assert play.refuse(play.next, play.next, bad.encode()) == "DIVERGED"


def test_an_old_record_again_has_no_effect(play: Play) -> None:
    """Records that the host holds are skipped."""
    tables, number = play.two.tables(), play.two.number
    again = [play.two.engine.records[at] for at in range(1, number + 1)]
    assert play.two.writer.run(lambda group: apply_records(group, again)) == number
    assert play.two.tables() == tables
