"""A writer whose disk fails, by ``fault_disk.c``, when a session is ended; what came of it is JSON on stdout.

Run as ``python -m tests.support.procs.failing_disk STATE_DIR [clear]``. With ``clear`` the disk gets well and
the brake is cleared before the writer is closed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from sessauth.errors import StateError
from sessauth.model.change import Change, end_session
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier
from tests.support import fault_disk
from tests.support.changes import opening

SESSION = b"ends-on-bad-disk"


def outcome_of(act: Callable[[], object]) -> tuple[str, str]:
    """Return ``applied`` and "", or the error's name and message."""
    try:
        act()
    except StateError as error:
        return type(error).__name__, str(error)
    return "applied", ""


def main() -> None:
    """End a session on a disk that fails, and ask what is possible then."""
    fails = Path(os.environ[fault_disk.FAILS])
    with StateWriter.open(sys.argv[1], map_size=32 << 20) as writer:

        def submit(change: Change) -> tuple[str, str]:
            return outcome_of(lambda: writer.submit(change).result().raise_if_rejected())

        verifier = Verifier(writer.source())
        results: dict[str, object] = {"opened": submit(opening("open", SESSION))[0]}
        fails.touch()
        results["end"], results["why"] = submit(end_session("end", SESSION))
        results["braked"], results["view_braked"] = writer.braked, verifier.view.braked
        results["later"] = submit(opening("later"))[0]
        results["cleared_too_early"] = outcome_of(writer.clear_brake)[0]
        fails.unlink()
        if sys.argv[2:]:
            writer.clear_brake()
            results["again"] = submit(end_session("end", SESSION))[0]
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
