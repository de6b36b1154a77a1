"""Ids of statements: each is used once, for as long as a statement can be accepted, within bounds."""

from __future__ import annotations

import pytest

from sessauth.clock import FixedClock
from sessauth.server.cluster import forwarding
from sessauth.server.cluster.forwarding import MAX_AGE_MS, MAX_AHEAD_MS, WINDOW_MS, StatementIds

NOW = 1_000_000
SIGNER = b"s" * 32


@pytest.mark.parametrize("steps", [1, 7, 500, WINDOW_MS, WINDOW_MS - 1])
def test_an_id_is_remembered_for_a_window(steps: int) -> None:
    """However the time between passes, an id is refused while its statement could still be accepted."""
    clock = FixedClock(NOW)
    ids = StatementIds(clock)
    clock.advance(WINDOW_MS - 1)
    issued = clock.now_ms() + MAX_AHEAD_MS
    assert ids.use(SIGNER, b"one", issued) == ""
    passed = 0
    while passed + steps <= WINDOW_MS:
        clock.advance(steps)
        passed += steps
        # A statement of another kind moves the windows.
        assert ids.use(b"o" * 32, passed.to_bytes(4, "big"), clock.now_ms()) == ""
        assert ids.use(SIGNER, b"one", issued) != ""
    assert clock.now_ms() - issued <= MAX_AGE_MS


def test_a_clock_that_is_set_back_brings_nothing_back() -> None:
    """A statement issued before a forgotten one is refused, whatever the wall clock says by then."""
    clock = FixedClock(NOW)
    ids = StatementIds(clock)
    assert ids.use(SIGNER, b"one", NOW) == ""
    clock.advance(10 * WINDOW_MS)
    assert ids.use(SIGNER, b"two", clock.now_ms()) == ""
    assert ids.use(SIGNER, b"one", NOW) != ""


def test_hosts_have_ids_of_their_own() -> None:
    """One host can't use up an id of another one."""
    ids = StatementIds(FixedClock(NOW))
    assert ids.use(SIGNER, b"one", NOW) == ids.use(b"o" * 32, b"one", NOW) == ""


def test_ids_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host has half of them, and what finds no room is refused until the window is over."""
    monkeypatch.setattr(forwarding, "MAX_IDS", 8)
    clock = FixedClock(NOW)
    ids = StatementIds(clock)
    first = [ids.use(SIGNER, bytes([number]), NOW) for number in range(5)]
    second = [ids.use(b"o" * 32, bytes([number]), NOW) for number in range(5)]
    assert first == second == ["", "", "", "", "too many statements at once"]
    assert ids.use(b"p" * 32, b"one", NOW) != ""
    clock.advance(WINDOW_MS)
    assert ids.use(SIGNER, b"five", clock.now_ms()) == ""
