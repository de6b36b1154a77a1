"""kill -9 of the writer during changes: what was acknowledged is there, nothing else is half there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sessauth.model.change import RETRY_PREFIX
from sessauth.model.session import SessionStatus
from sessauth.state import layout
from sessauth.state.integrity.verify import verify
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import opening
from tests.support.costs import BLOCK, LEDGER
from tests.support.procs.kill_spender import SESSION
from tests.support.procs.kill_writer import block_of

ROUNDS = int(os.environ.get("SESSAUTH_KILL_ROUNDS", "20"))
RECOVERY_S = 2.0


def killed_round(
    state_dir: Path, seed: str, rng: random.Random, program: str = "kill_writer"
) -> tuple[list[list[str]], float]:
    """Let a writer work for a random time and kill it; returns what it acknowledged, and when it died."""
    command = [sys.executable, "-m", f"tests.support.procs.{program}", str(state_dir), seed]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(rng.uniform(0.001, 0.15))
        process.kill()
        killed_at = time.monotonic()
        lines = (first + process.stdout.read()).decode().split("\n")
    # The last line may have been cut by the kill: then its caller heard nothing.
    return [line.split() for line in lines[:-1]], killed_at


def hold(writer: StateWriter, acknowledged: list[list[str]]) -> None:
    """Every acknowledged change has its outcome and its effect."""
    ended = {session for kind, _, session, _ in acknowledged if kind == "end_session"}
    for kind, change_id, session_hex, seq in acknowledged:
        outcome = writer.outcome(change_id)
        session = writer.get_session(bytes.fromhex(session_hex))
        assert outcome is not None and outcome.applied and outcome.seq == int(seq)
        assert session is not None
        if session_hex in ended:
            assert session.status is SessionStatus.ENDED
        if kind == "revoke":
            assert writer.is_revoked(session.id, block_of(change_id))
        if kind == "narrow_session":
            assert session.epoch > 1


@pytest.mark.timeout(600)
def test_acknowledged_changes_survive_kill_9(state_dir: Path) -> None:
    """All acknowledged changes of each round are there, all rows verify, and it serves within 2 s."""
    StateWriter.open(state_dir, create=True).close()
    rng = random.Random(9)
    total = 0
    for number in range(ROUNDS):
        acknowledged, killed_at = killed_round(state_dir, f"r{number}", rng)
        assert acknowledged
        with StateWriter.open(state_dir) as writer:
            assert writer.submit(opening(f"again-{number}")).result().applied
            assert time.monotonic() - killed_at < RECOVERY_S
            counts = writer.run(lambda group: verify(group.rows))
            hold(writer, acknowledged)
            total += len(acknowledged)
            # Some of the changes in flight at the kill may be durable without an acknowledgement.
            assert counts.changes >= total + number + 1
            assert writer.head().seq == counts.changes
    assert total > 10 * ROUNDS


def consumed(group: Group) -> tuple[int, int, int]:
    """Return the numbers of stored outcomes and of uses, and the total of the ledger."""
    attempts = group.rows.keys_after(layout.OUTCOMES, b"", 1_000_000, RETRY_PREFIX.encode())
    ledger = group.rows.ledger(SESSION, LEDGER)
    return len(attempts), group.rows.uses(SESSION, BLOCK, 0), ledger.spent.units + ledger.reserved.units


@pytest.mark.timeout(600)
def test_what_was_taken_survives_kill_9(state_dir: Path) -> None:
    """Every acknowledged consumption of each round is there and whole: use, amount, outcome."""
    with StateWriter.open(state_dir, create=True) as writer:
        assert writer.submit(opening("open", SESSION, ttl_ms=24 * 3_600_000)).result().applied
    rng = random.Random(10)
    total, closed = 0, set[str]()
    for number in range(ROUNDS):
        acknowledged, _ = killed_round(state_dir, f"r{number}", rng, "kill_spender")
        assert acknowledged
        with StateWriter.open(state_dir) as writer:
            writer.run(lambda group: verify(group.rows))
            closed |= {permit for kind, permit in acknowledged if kind == "committed"}
            for kind, permit in acknowledged:
                if kind == "committed":
                    continue
                total += 1
                outcome = writer.outcome(kind)
                assert outcome is not None and outcome.applied
                assert outcome.permit_id.hex() == permit.strip("-")
                if permit in closed:
                    assert writer.permit(SESSION, outcome.permit_id) is None
            # A change in flight at the kill may be there without an acknowledgement, but never by half.
            attempts, uses, amount = writer.run(consumed)
            assert attempts == uses == amount >= total
    assert total > 10 * ROUNDS and closed
