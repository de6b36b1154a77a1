"""A leader in a process of its own, whose engine is a test's: spends once, and tells the test each step.

Run as ``python -m tests.support.procs.carried_leader STATE_DIR SOCKET``. The test kills it at a point of its
choice. With a failing disk (``fault_disk``) the disk fails behind the append.
"""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from sessauth.clock import FixedClock
from sessauth.errors import StateError
from sessauth.model.change import Change, retry_change_id
from sessauth.model.host import ServerKey
from sessauth.state.replication.carried_log import CarriedLog
from sessauth.state.replication.carrier import Appended
from sessauth.state.writer.state_writer import StateWriter
from tests.support import fault_disk
from tests.support.changes import NOW
from tests.support.costs import spending, use

SESSION = b"spends-in-a-proc"
KEY = ServerKey(b"one".ljust(32, b"k"))


def spend() -> Change:
    """Return the change: one use, under a name that may be asked again."""
    return spending(
        SESSION, retry_change_id("g", b"again"), gateway="g", request_digest=b"q" * 32, expected_epoch=1,
        uses=[use(5, 0)],
    )  # fmt: skip


class FarEngine:
    """The part of a carrier that a writer needs, over a connection."""

    def __init__(self, connection: Connection) -> None:
        """Ask over a connection."""
        self._connection = connection

    def call(self, name: str, *arguments: Any) -> Any:
        """Return the answer."""
        self._connection.send((name, arguments))
        return self._connection.recv()

    def append(self, *arguments: Any) -> Appended:
        """Append; then the disk may fail."""
        answer: Appended = self.call("append", *arguments)
        if fault_disk.FAILS in os.environ and self.call("is_spending"):
            Path(os.environ[fault_disk.FAILS]).touch()
        return answer


def main() -> None:
    """Lead, spend, and report what came of it."""
    engine = FarEngine(Client(sys.argv[2], family="AF_UNIX"))
    carried = CarriedLog(engine, "one", KEY)  # type: ignore[arg-type]
    with StateWriter.open(sys.argv[1], carried=carried, map_size=32 << 20, clock=FixedClock(NOW)) as writer:
        carried.lead(engine.call("lead", "one", "one:1", 5_000))
        writer.run(carried.begin_term)
        engine.call("spend_next")
        writer.on_fsync = lambda jobs: engine.call("committed")
        error: Exception | None = None
        try:
            writer.decide(lambda group: group.submit(spend()), 512).result()
        except StateError as raised:
            error = raised
        writer.on_fsync = None
        engine.call("result", type(error).__name__, bool(writer.braked), carried.leader is not None)
        Path(os.environ.get(fault_disk.FAILS, "/nonexistent")).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
