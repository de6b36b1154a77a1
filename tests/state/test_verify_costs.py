"""Rows of costs that do not add up are found, whatever is wrong with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessauth.errors import StateUnusable
from sessauth.model.change import Ledger, SessionCounts, once_change_id, request_approval
from sessauth.scopes.value import Number
from sessauth.state import layout
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb.rows import TxnRows
from sessauth.state.rules.effects import counts_key, ledger_key, used_approval_key, uses_key
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW, opening
from tests.support.costs import BLOCK, LEDGER, charge, pending_record, spending, use

ID, OTHER = b"s" * 16, b"o" * 16
PERMIT, ASKED = b"p" * 16, b"a" * 16


@pytest.fixture
def spent(writer: StateWriter) -> StateWriter:
    """A writer whose one session has a bit of everything open."""
    assert writer.submit(opening("o", ID)).result().applied
    for change in (
        spending(
            ID, uses=[use(9)], budgets=[charge(2, 9)], approval_ids=[b"u" * 16],
            permit_id=PERMIT, permit_deadline_ms=NOW + 1_000,
        ),
        request_approval(once_change_id(), pending_record(ID, ASKED)),
    ):  # fmt: skip
        assert writer.decide(lambda group, change=change: group.submit(change), 4096).result().applied
    return writer


def gone(table: str, key: bytes) -> Callable[[TxnRows], None]:
    """Return what removes a row."""
    return lambda rows: rows.delete(table, key)


def put(key: bytes, value: bytes, table: str = layout.COUNTERS) -> Callable[[TxnRows], None]:
    """Return what writes a row."""
    return lambda rows: rows.put(table, key, value)


def copied(table: str, key: bytes, to: bytes) -> Callable[[TxnRows], None]:
    """Return what writes a row under another key too."""
    return lambda rows: rows.put(table, to, rows.get(table, key) or b"")


def ledger(spent: int, reserved: int) -> bytes:
    """Return an encoded ledger."""
    return Ledger(Number(spent), Number(reserved)).encode()


BREAKS: list[tuple[str, Callable[[TxnRows], None]]] = [
    ("a permit is gone", gone(layout.PERMITS, ID + PERMIT)),
    ("a permit can't be read", put(ID + PERMIT, b"\xff", layout.PERMITS)),
    ("a permit under another id", copied(layout.PERMITS, ID + PERMIT, ID + b"q" * 16)),
    ("a permit of no session", copied(layout.PERMITS, ID + PERMIT, OTHER + PERMIT)),
    ("counts are gone", gone(layout.COUNTERS, counts_key(ID))),
    ("a count is higher", put(counts_key(ID), SessionCounts(2, 1, 1, 3).encode())),
    ("more wait than there are", put(counts_key(ID), SessionCounts(1, 2, 1, 3).encode())),
    ("a ledger holds too little", put(ledger_key(ID, LEDGER), ledger(0, 1))),
    ("a ledger is negative", put(ledger_key(ID, LEDGER), ledger(-1, 2))),
    ("a ledger can't be read", put(ledger_key(ID, LEDGER), b"\xff")),
    ("a ledger is gone", gone(layout.COUNTERS, ledger_key(ID, LEDGER))),
    ("a use is gone", gone(layout.COUNTERS, uses_key(ID, BLOCK, 0))),
    ("a use is no number", put(uses_key(ID, BLOCK, 0), b"\1")),
    ("a counter of no kind", put(ID + b"?", b"\1")),
    ("a counter of no session", put(uses_key(OTHER, BLOCK, 0), bytes(8))),
    ("an approval is gone", gone(layout.APPROVALS, ID + ASKED)),
    ("an approval is used in one row only", put(used_approval_key(ID, ASKED), bytes(8))),
    ("an approval of no session", copied(layout.APPROVALS, ID + ASKED, OTHER + ASKED)),
]


def test_what_was_written_adds_up(spent: StateWriter) -> None:
    """Untouched rows are taken, and counted."""
    counts = spent.run(lambda group: verify(group.rows))
    assert (counts.counters, counts.permits, counts.approvals) == (5, 1, 1)


@pytest.mark.parametrize("breaks", [b[1] for b in BREAKS], ids=[b[0] for b in BREAKS])
def test_what_does_not_add_up_is_found(spent: StateWriter, breaks: Callable[[TxnRows], None]) -> None:
    """A state with such a row is CORRUPT, and says to restore it."""

    def work(group: Group) -> str:
        breaks(group.rows)
        with pytest.raises(StateUnusable, match="restore the state from a backup") as caught:
            verify(group.rows)
        return caught.value.problem

    assert spent.run(work) == "CORRUPT"
