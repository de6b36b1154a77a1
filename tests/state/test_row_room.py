"""A session as large as it may be: taking authority away still fits into its row."""

from __future__ import annotations

import pytest

from sessauth import limits
from sessauth.model.change import (
    Change,
    end_session,
    open_session,
    resume_session,
    revoke,
    suspend_session,
    update_facts,
)
from sessauth.model.session import EndCause, Fact, SessionStatus
from sessauth.state import layout
from tests.support.changes import HOUR, MemoryRows, scopes

ID = b"s" * 16
LONGEST_REASON = "r" * 1024


def _filled() -> MemoryRows:
    """Return rows with one session that was given facts until not a byte more was taken."""
    rows = MemoryRows()
    ceiling = [f"read:{number}/{'x' * 1000}/**" for number in range(60)]
    wide = open_session("open", ID, scopes(*ceiling), subject="agent", ttl_ms=HOUR)
    assert rows.do(wide).applied
    rejected = 0
    for number in range(limits.MAX_FACTS):
        for size in (1000, 100, 10, 1):
            taken = len(_text(rows, f"f{number}"))
            while taken + size <= 1000:
                text = "y" * (taken + size)
                change = update_facts(f"{number}-{taken + size}", ID, set_facts=[Fact(f"f{number}", text)])
                outcome = rows.do(change)
                if not outcome.applied:
                    assert outcome.rejection == "LIMIT"
                    rejected += 1
                    break
                taken += size
    assert rejected >= limits.MAX_FACTS
    return rows


def _text(rows: MemoryRows, name: str) -> str:
    session = rows.session(ID)
    assert session is not None
    return next((str(fact.value) for fact in session.facts if fact.name == name), "")


@pytest.mark.parametrize(
    "change",
    [
        end_session("x", ID, LONGEST_REASON),
        end_session("x", ID, cause=EndCause.LEASE_LAPSED),
        suspend_session("x", ID, LONGEST_REASON),
        revoke("x", ID, [bytes([n]) * 32 for n in range(256)]),
    ],
    ids=["end", "lapse", "suspend", "revoke"],
)
def test_a_full_session_can_be_taken_from(change: Change) -> None:
    """No size that a session can grow to keeps it from being ended, suspended or revoked from."""
    rows = _filled()
    outcome = rows.do(change)
    assert outcome.applied, outcome
    assert len(rows.tables[layout.SESSIONS][ID]) <= layout.MAX_SESSION_BYTES


def test_a_full_session_lives_through_every_step() -> None:
    """Suspended, resumed, revoked from and ended in turn, each with the longest reason."""
    rows = _filled()
    for change in (
        suspend_session("1", ID, LONGEST_REASON),
        resume_session("2", ID, LONGEST_REASON),
        revoke("3", ID, [b"b" * 32]),
        end_session("4", ID, LONGEST_REASON),
    ):
        assert rows.do(change).applied, change.id
    session = rows.session(ID)
    assert session is not None and session.status is SessionStatus.ENDED
