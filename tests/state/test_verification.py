"""Verification in steps, at the start of a server and while it serves; and reading in another process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from sessauth.model.change import end_session, revoke
from sessauth.state import backup as apart
from sessauth.state import layout
from sessauth.state.backup import BACKUP, WHOLE, backup, read_apart, restore
from sessauth.state.integrity import verify
from sessauth.state.lmdb.rows import TxnRows
from sessauth.state.writer.opening import RESTORING
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import opening
from tests.support.costs import spending, use
from tests.support.token_forger import id16

# The package reads the state in a process of its own.
pytestmark = pytest.mark.slow

NOW = 1_790_000_000_000
MAP = 16 << 20
IDS = sorted(id16(f"session {number}") for number in range(20))


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state of twenty sessions, with revocations and counters."""
    folder = tmp_path / "state"
    with opened(folder, create=True) as writer:
        for number, session_id in enumerate(IDS):
            writer.submit(opening(f"o{number}", session_id, lease_ms=60_000)).result()
        writer.submit(revoke("r", IDS[3], [os.urandom(32) for _ in range(20)])).result()
        writer.decide(lambda group: group.submit(spending(IDS[5], uses=[use(5)])), 512).result()
        writer.submit(end_session("e", IDS[7])).result()
    return folder


def opened(folder: Path, **options: Any) -> StateWriter:
    """Open a folder for writing."""
    return StateWriter.open(folder, map_size=MAP, clock=FixedClock(NOW), **options)


def drop(table: str, key: bytes) -> Callable[[TxnRows], None]:
    """Return the loss of the first row whose key begins so."""
    return lambda rows: rows.delete(table, rows.keys_after(table, b"", 1, key)[0])


WRONG: dict[str, Callable[[TxnRows], None]] = {
    "a lease": drop(layout.LEASES, IDS[-1]),
    "a revocation": drop(layout.REVOKED, IDS[3]),
    "a tally": drop(layout.TALLIES, IDS[3]),
    "a counter": drop(layout.COUNTERS, IDS[5] + b"u"),
    "a session with rows": drop(layout.SESSIONS, IDS[5]),
    "the first change": lambda rows: rows.delete(layout.CHANGES, bytes(7) + b"\1"),
    "a row of no session": lambda rows: rows.put(layout.REVOKED, b"\xff" * 48, bytes(8)),
    "a row before all sessions": lambda rows: rows.put(layout.REVOKED, bytes(48), bytes(8)),
    "an outcome": lambda rows: rows.put(layout.OUTCOMES, b"x", rows.get(layout.OUTCOMES, b"e") or b""),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("step", [3, 128])
def test_each_wrong_row_is_found_in_steps(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, step: int
) -> None:
    """Steps of any size find it; the brake is set then, and stays over a new start."""
    monkeypatch.setattr(verify, "SESSIONS_A_STEP", step)
    with opened(state_dir) as writer:
        assert not writer.verify(0.0)
        while not writer.verify(0.0):
            pass
        source = writer.source()
        with source.env.begin(write=True) as txn:
            WRONG[wrong](TxnRows(txn, source.tables))
    with opened(state_dir) as writer:
        with pytest.raises(StateUnusable) as caught:
            writer.verify(60.0)
        assert caught.value.problem == "CORRUPT"
        assert "CORRUPT" in writer.braked
    with pytest.raises(StateUnusable):
        opened(state_dir)
    with pytest.raises(StateUnusable) as caught:
        read_apart(state_dir, WHOLE)
    assert caught.value.problem == "CORRUPT"


def test_a_wrong_row_is_found_by_another_process(state_dir: Path) -> None:
    """It says the same as this one would."""
    with opened(state_dir) as writer, writer.source().env.begin(write=True) as txn:
        WRONG["a lease"](TxnRows(txn, writer.source().tables))
    with pytest.raises(StateUnusable, match="lost its lease") as caught:
        read_apart(state_dir, WHOLE)
    assert caught.value.problem == "CORRUPT"


def test_it_goes_on_while_sessions_come_and_go(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes between the steps are no fault."""
    monkeypatch.setattr(verify, "SESSIONS_A_STEP", 2)
    with opened(state_dir) as writer:
        steps = 0
        while not writer.verify(0.0):
            steps += 1
            writer.submit(opening(f"n{steps}", bytes((steps * 8 % 256,)) + os.urandom(15))).result()
            writer.submit(revoke(f"m{steps}", IDS[steps % 20], [os.urandom(32)])).result()
        assert steps > 10


def test_a_corrupt_folder_is_restored_in_place(state_dir: Path, tmp_path: Path) -> None:
    """The rows that are replaced need not verify, and the brake is set until they are."""
    backup(state_dir, tmp_path / "backup")
    with opened(state_dir) as writer:
        with writer.source().env.begin(write=True) as txn:
            txn.delete(IDS[0], db=writer.source().tables[layout.LEASES])
        with pytest.raises(StateUnusable):
            writer.verify(60.0)
    with opened(state_dir, restoring=True) as writer:
        assert writer.braked_by_hand.engaged and writer.braked == RESTORING
    restore(tmp_path / "backup", state_dir, map_size=MAP, clock=FixedClock(NOW))
    with opened(state_dir) as writer:
        assert writer.braked == ""
        assert writer.verify(60.0)


def test_what_another_process_read(state_dir: Path, tmp_path: Path) -> None:
    """Numbers of rows, the head and progress of a folder; the manifest of a backup; the problem of none."""
    seen: list[tuple[int, int]] = []
    read = read_apart(state_dir, WHOLE, lambda done, of_all: seen.append((done, of_all)))
    assert read.counts is not None and read.head is not None
    assert (read.counts.sessions, read.counts.revoked, seen) == (20, 20, [(0, 20)])
    manifest = backup(state_dir, tmp_path / "backup")
    assert read_apart(tmp_path / "backup", BACKUP).manifest == manifest
    with pytest.raises(StateUnusable) as caught:
        read_apart(tmp_path / "none")
    assert caught.value.problem == "MISSING"


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGBUS, signal.SIGSEGV])
def test_a_signal_that_ends_it_is_corrupt(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    """The reading process may die; the one that asks says of what."""
    (tmp_path / "dying_reader.py").write_text(f"import os; os.kill(os.getpid(), {int(number)})")
    monkeypatch.setattr(apart, "_MODULE", "dying_reader")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(StateUnusable, match=number.name) as caught:
        read_apart(state_dir)
    assert caught.value.problem == "CORRUPT"
