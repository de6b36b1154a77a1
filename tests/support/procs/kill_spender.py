"""A writer to be killed while it consumes, reserves and commits; prints each acknowledged change.

Run as ``python -m tests.support.procs.kill_spender STATE_DIR SEED``. A line is ``CHANGE_ID PERMIT_HEX`` for
a consumption (``-`` without a permit) and ``committed PERMIT_HEX`` for a committed permit.
"""

from __future__ import annotations

import os
import random
import sys
import threading

from sessauth.model.change import Settlement, once_change_id, retry_change_id, settle_permit
from sessauth.state.writer.state_writer import StateWriter
from tests.support.costs import charge, spending, use

SESSION = b"k" * 16
MANY = 2**62
_CALLERS = 8


def call(writer: StateWriter, name: str) -> None:
    """Consume without end, every other time with a permit, and commit every other permit."""
    rng, count = random.Random(name), 0
    while True:
        change_id = retry_change_id(name, count.to_bytes(8, "big"))
        permit_id = rng.randbytes(16) if count % 2 else b""
        change = spending(
            SESSION, change_id, gateway=name, uses=[use(MANY)], budgets=[charge(1, MANY)],
            permit_id=permit_id, permit_deadline_ms=writer.now_ms() + 200_000,
        )  # fmt: skip
        outcome = writer.decide(lambda group, change=change: group.submit(change), 512).result()
        if outcome.applied:
            os.write(1, f"{change_id} {permit_id.hex() or '-'}\n".encode())
        if outcome.permit_id and count % 4 == 1:
            settling = settle_permit(once_change_id(), SESSION, permit_id, Settlement.COMMIT, gateway=name)
            if writer.decide(lambda group, settling=settling: group.submit(settling), 512).result().applied:
                os.write(1, f"committed {permit_id.hex()}\n".encode())
        count += 1


def main() -> None:
    """Start the callers."""
    writer = StateWriter.open(sys.argv[1])
    for caller in range(_CALLERS):
        threading.Thread(target=call, args=(writer, f"{sys.argv[2]}-{caller}")).start()


if __name__ == "__main__":
    main()
