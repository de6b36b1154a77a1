"""Checks of one session that overlap, each in its own state: none is judged by what another saw.

A check is interrupted where the kernel asks the source for a row, which is where the interpreter may
switch threads; another check of the same session, in an older or newer state, runs in between.
"""

from __future__ import annotations

import pytest

from sessauth._fast import _check as kernel
from sessauth._fast._check import Checker, View
from sessauth.reasons import Reason
from tests.support import bulk_sessions
from tests.support.token_forger import id16, scope
from tests.support.view_source import MemorySource, Rows
from tests.vectors.world import EXPIRES, SESSION, ask, root, token

PARENT = id16("parent")


class State:
    """One state: a child session and its parent, with or without a row, under a ceiling."""

    def __init__(self, number: int, ceiling: str = "", status: int = 1) -> None:
        base = bulk_sessions.source()
        base.sessions[SESSION] = row(SESSION, parent_id=PARENT)
        if ceiling:
            base.sessions[PARENT] = row(PARENT, ceiling, status=status)
        self.number = number
        self.tables: list[Rows] = [base.sessions, base.leases, base.revoked, base.keys, base.meta]


def row(session_id: bytes, ceiling: str = "", parent_id: bytes = b"", status: int = 1) -> bytes:
    """A session's row."""
    record = {
        "id": session_id,
        "status": status,
        "epoch": 1,
        "expires_at_ms": EXPIRES,
        "parent_id": parent_id,
    }
    if ceiling:
        record["ceilings"] = [{"scopes": [scope(ceiling)]}]
    return kernel.encode_message("SessionRecord", record)


class SwitchingSource(MemorySource):
    """Gives each transaction the state of its turn, and runs another check at a row of the first."""

    def __init__(self, states: list[State], at: bytes) -> None:
        super().__init__()
        self.handles = [self.sessions, self.leases, self.revoked, self.keys, self.meta]
        self.states = states
        self.at = at
        self.between: list[Checker] = []
        self.found: list[int] = []

    def begin(self) -> Turn:  # type: ignore[override]
        """Begin a read of the next state."""
        return Turn(self, self.states.pop(0) if len(self.states) > 1 else self.states[0])

    def interrupt(self, key: bytes) -> None:
        """Run the other check, once."""
        if key == self.at and self.between:
            self.found.append(bulk_sessions.judge(self.between.pop(), OTHER).reason)


class Turn:
    """A read transaction in one state."""

    def __init__(self, source: SwitchingSource, state: State) -> None:
        self.source, self.state = source, state

    def id(self) -> int:
        """The number of the state."""
        return self.state.number

    def get(self, key: bytes, default: None, db: Rows) -> bytes | None:
        """A row, and perhaps another check before it is given."""
        self.source.interrupt(bytes(key))
        place = next(i for i, handle in enumerate(self.source.handles) if handle is db)
        return self.state.tables[place].get(bytes(key))

    def abort(self) -> None:
        """End it."""


ASKED = token(root("*:**", label="asked"))
OTHER = token(root("*:**", label="other"))
WIDE, NARROW = "*:**", "read:other/**"


def key_row() -> bytes:
    """The row that a check asks for last before it looks at scopes: the issuer's."""
    return next(iter(State(1).tables[3]))


@pytest.mark.parametrize(
    ("ours", "theirs", "expected", "between"),
    [
        (State(2, NARROW), State(1, WIDE), Reason.OUT_OF_SCOPE, Reason.ALLOWED),
        (State(2, NARROW), State(3), Reason.OUT_OF_SCOPE, Reason.UNKNOWN_SESSION),
        (State(2, NARROW), State(1, WIDE, status=3), Reason.OUT_OF_SCOPE, Reason.SESSION_ENDED),
        (State(2, WIDE), State(3, NARROW), Reason.ALLOWED, Reason.OUT_OF_SCOPE),
    ],
    ids=["wider before", "gone later", "ended before", "narrower later"],
)
@pytest.mark.parametrize(
    "at", [SESSION, PARENT, key_row()], ids=["at the session", "at the parent", "at the key"]
)
def test_a_check_in_between(ours: State, theirs: State, expected: Reason, between: Reason, at: bytes) -> None:
    """A check is judged by its own state's ancestors, though another of that session runs in its midst."""
    source = SwitchingSource([ours, theirs, ours], at)
    checker = Checker(View(source))
    source.between.append(checker)

    outcome = bulk_sessions.judge(checker, ASKED, ask("read", "files/a"))

    assert source.found == [between]
    assert outcome.reason == expected
