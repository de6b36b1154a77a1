"""A writer in a process of its own: suspends and resumes the vectors' session in turn.

Run as ``python -m tests.support.procs.toggling_writer STATE_DIR``: for each line on stdin one change, and
a line with the reason that checks must give once it is acknowledged.
"""

from __future__ import annotations

import os
import sys

from sessauth.clock import FixedClock
from sessauth.model.change import resume_session, suspend_session
from sessauth.state.writer.state_writer import StateWriter
from tests.vectors.world import NOW, SESSION


def main() -> None:
    """Make one change for each line of input."""
    with StateWriter.open(sys.argv[1], clock=FixedClock(NOW)) as writer:
        for number, _ in enumerate(sys.stdin):
            if number % 2:
                change, reason = resume_session(f"resume-{number}-{os.getpid()}", SESSION), "ALLOWED"
            else:
                change, reason = (
                    suspend_session(f"suspend-{number}-{os.getpid()}", SESSION),
                    "SESSION_SUSPENDED",
                )
            writer.submit(change).result(30).raise_if_rejected()
            sys.stdout.write(reason + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
