"""Rows and changes that no leader writes, signed by the right key: refused, and nothing is written."""

from __future__ import annotations

import pytest

from sessauth.model.change import end_session
from sessauth.model.host import CarriedRow, CredentialRecord, HostRecord
from sessauth.state import layout
from sessauth.state.replication.carrier import MAX_RECORD_BYTES
from sessauth.state.writer.group import Group
from tests.support.carried_play import OTHER, SESSION, Play
from tests.support.changes import NOW
from tests.support.receipts import receipt

NOBODY = b"n" * 16
OF_NOBODY = receipt(session_id=NOBODY).encode()
LEASE, TIME = (1_800_000_000_000).to_bytes(8, "big"), (1_800_000_000_000).to_bytes(8, "big")
HOST_Y = HostRecord("y", "p", b"i" * 16, 3000).encode()
# Credentials are written by changes alone.
CALLER = CredentialRecord("ann", "operator", (), b"h" * 32).encode()
WRONG_ROWS = {
    "another table": CarriedRow(layout.META, b"x", b"y"),
    "no table": CarriedRow("none", b"x", b"y"),
    "an empty name": CarriedRow("", b"x", b"y"),
    "the head": CarriedRow(layout.META, layout.HEAD_KEY, b""),
    "a registration": CarriedRow(layout.EVIDENCE, b"egw-1", b""),
    "since": CarriedRow(layout.EVIDENCE, b"s", b""),
    "a receipt of nothing": CarriedRow(layout.EVIDENCE, b"r", b""),
    "a receipt that is none": CarriedRow(layout.EVIDENCE, b"r" + OTHER, b"\xff"),
    "a receipt of another": CarriedRow(layout.EVIDENCE, b"r" + OTHER, receipt().encode()),
    "a receipt without a session": CarriedRow(layout.EVIDENCE, b"r" + NOBODY, OF_NOBODY),
    "a host that is none": CarriedRow(layout.EVIDENCE, b"hx", b"\xff"),
    "a host of another name": CarriedRow(layout.EVIDENCE, b"hx", HOST_Y),
    "a host without a name": CarriedRow(layout.EVIDENCE, b"h", b"", removed=True),
    "a host with a long name": CarriedRow(layout.EVIDENCE, b"h" + b"x" * 65, b"", removed=True),
    "a host that is removed and not": CarriedRow(layout.EVIDENCE, b"hx", b""),
    "a caller": CarriedRow(layout.EVIDENCE, b"cann", CALLER),
    "a caller that is removed": CarriedRow(layout.EVIDENCE, b"cann", b"", removed=True),
    "the mark of callers": CarriedRow(layout.EVIDENCE, b"c", b"m" * 32),
    "no key": CarriedRow(layout.LEASES, b"", LEASE),
    "a lease of no session": CarriedRow(layout.LEASES, b"n" * 15, LEASE),
    "a lease that is no time": CarriedRow(layout.LEASES, OTHER, b"x" * 9),
    "a lease without a time": CarriedRow(layout.LEASES, OTHER, b""),
    "a long lease": CarriedRow(layout.LEASES, b"n" * 600, LEASE),
    "a short due time": CarriedRow(layout.DUE, TIME, b""),
    "a due time with a value": CarriedRow(layout.DUE, TIME + OTHER, b"x"),
    "a due time of nothing": CarriedRow(layout.DUE, TIME + OTHER + b"zz", b""),
    "a long due time": CarriedRow(layout.DUE, TIME + OTHER + b"p" + b"x" * 600, b""),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_ROWS)
def test_a_row_that_no_record_may_write(play: Play, name: str) -> None:
    """Even by the right key: a table, a key or a value that the leader can't have written."""
    rows = (*play.record.rows, WRONG_ROWS[name])
    assert play.refuse(play.altered(rows=rows)) == "FOREIGN_ROW"


def test_a_change_that_can_not_be_applied(play: Play) -> None:
    """Bytes that are no change, a kind that is not known, and fields that no writer lets in."""
    true = play.record.changes[0]
    long_id = end_session("i" * 600, SESSION).stamped(NOW).encode()
    odd = end_session("odd", b"s" * 600).stamped(NOW).encode()
    for change in (b"", b"\xff", true[:-1], true + b"\xfa\x3f\x00", b"\x0a\x01i", long_id, odd):
        for changes in ((change,), (true, change)):
            assert play.refuse(play.altered(changes=changes)) in ("NEWER_FORMAT", "DIVERGED", "FOREIGN_ROW")


def test_a_fault_of_this_program_writes_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first change was applied when the second one failed: the group is not committed."""
    replay = Group.replay

    def fail(group: Group, encoded: bytes) -> None:
        if group.changes:
            raise KeyError("a bug")
        replay(group, encoded)

    monkeypatch.setattr(Group, "replay", fail)
    assert play.refuse(play.altered(changes=play.record.changes * 2)) == "NEWER_FORMAT"


def test_bounds(play: Play) -> None:
    """More than an engine takes, and counts that no leader reaches."""
    huge = tuple(CarriedRow(layout.LEASES, n.to_bytes(16, "big"), LEASE) for n in range(40_000))
    assert len(play.altered(rows=huge)) > MAX_RECORD_BYTES
    assert play.refuse(play.altered(rows=huge)) == "UNREADABLE"
    assert play.refuse(play.altered(changes=(b"",) * 300_000)) == "NEWER_FORMAT"
    assert play.refuse(bytes(MAX_RECORD_BYTES)) == "UNREADABLE"
    assert play.refuse(play.next + bytes(MAX_RECORD_BYTES)) == "UNREADABLE"
