"""The orchestrator of the last scenario: a process of its own, which the demo kills.

It opens a session with a lease, prints a token and keeps the lease alive. Run as ``python -m
sessauth.cli.demo.orchestrator HOME LEASE_MS``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ...client import Client
from .environment import AUDIENCE


def main() -> None:
    """Hold a session until killed."""
    home, lease_ms = Path(sys.argv[1]), int(sys.argv[2])
    with (
        Client(str(home / "run" / "sessauth.sock"), credential_file=home / "operator.credential") as client,
        client.session(
            subject="retrieval-agent", purpose="answers", ceiling=["read:index/**"], lease_ms=lease_ms
        ) as session,
    ):
        sys.stdout.write(session.mint(["read:index/**"], [AUDIENCE]).text + "\n")
        sys.stdout.flush()
        time.sleep(60)


if __name__ == "__main__":
    main()
