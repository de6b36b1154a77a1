"""A writer on the disk of ``fault_disk.c``: changes from several threads, acknowledged in the disk's journal.

Run as ``python -m tests.support.procs.power_writer STATE_DIR SEED CHANGES``. It ends when each caller
has made so many.
"""

from __future__ import annotations

import random
import sys
import threading

from sessauth.state.writer.state_writer import StateWriter
from tests.support import fault_disk
from tests.support.procs.kill_writer import changes_of

_CALLERS = 4
MAP_BYTES = 32 << 20


def call(writer: StateWriter, name: str, count: int) -> None:
    """Submit changes, and acknowledge each that was applied."""
    rng, known = random.Random(name), list[bytes]()
    for number in range(count):
        change = changes_of(f"{name}-{number}", rng, known)
        outcome = writer.submit(change).result()
        if outcome.applied:
            fault_disk.acknowledge(
                f"{change.kind.value} {change.id} {outcome.session_id.hex()} {outcome.seq}"
            )


def main() -> None:
    """Start the callers and wait for them."""
    fault_disk.journal_anchor_writes()
    with StateWriter.open(sys.argv[1], map_size=MAP_BYTES) as writer:
        callers = [
            threading.Thread(target=call, args=(writer, f"{sys.argv[2]}-{caller}", int(sys.argv[3])))
            for caller in range(_CALLERS)
        ]
        for each in callers:
            each.start()
        for each in callers:
            each.join()


if __name__ == "__main__":
    main()
