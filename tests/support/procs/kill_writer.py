"""A writer to be killed: changes from several threads; prints each acknowledged one.

Run as ``python -m tests.support.procs.kill_writer STATE_DIR SEED``. A line is
``KIND CHANGE_ID SESSION_HEX SEQ``.
"""

from __future__ import annotations

import os
import random
import sys
import threading

from sessauth.model.change import Change, end_session, narrow_session, revoke
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import opening, scopes

_CALLERS = 8


def block_of(change_id: str) -> bytes:
    """Return the block id that the change with this id revokes."""
    return change_id.encode().ljust(32, b".")


def changes_of(change_id: str, rng: random.Random, known: list[bytes]) -> Change:
    """Return a random change to a known session, or the opening of a new one."""
    kind = rng.choice(["open", "open", "narrow", "revoke", "end"]) if known else "open"
    session_id = rng.choice(known) if known else b""
    if kind == "open":
        session_id = rng.randbytes(16)
        known.append(session_id)
        return opening(change_id, session_id, ttl_ms=3_600_000)
    if kind == "narrow":
        return narrow_session(change_id, session_id, scopes("read:files/a/**"))
    if kind == "revoke":
        return revoke(change_id, session_id, [block_of(change_id)])
    return end_session(change_id, session_id)


def call(writer: StateWriter, name: str) -> None:
    """Submit changes without end, and print each applied one."""
    rng, known, count = random.Random(name), list[bytes](), 0
    while True:
        change = changes_of(f"{name}-{count}", rng, known)
        count += 1
        outcome = writer.submit(change).result()
        if outcome.applied:
            line = f"{change.kind.value} {change.id} {outcome.session_id.hex()} {outcome.seq}\n"
            os.write(1, line.encode())


def main() -> None:
    """Start the callers."""
    writer = StateWriter.open(sys.argv[1])
    for caller in range(_CALLERS):
        threading.Thread(target=call, args=(writer, f"{sys.argv[2]}-{caller}")).start()


if __name__ == "__main__":
    main()
