"""A gateway's process with a registered verifier: reads tokens from stdin, says what each comes to.

python -m tests.support.registered_gateway STATE SOCKET CREDENTIAL-FILE NAME STALENESS_MS
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

from sessauth.verifier.verifier import Verifier
from tests.support.service import wait_until


class Gateway:
    """Such a process, for a ``with`` block. It is killed when the block is left."""

    def __init__(self, state: Path, socket: Path, credential: Path, name: str, staleness_ms: int) -> None:
        """Start it, and wait until it is registered."""
        command = [sys.executable, "-m", __name__, str(state), str(socket), str(credential), name]
        self.process = subprocess.Popen(
            [*command, str(staleness_ms)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "registered"

    def check(self, token: str) -> str:
        """Return the reason that it has for a call of a token."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{token}\n")
        self.process.stdin.flush()
        return self._line()

    def leave(self) -> None:
        """Have it close its verifier, and end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it, if it runs."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def main() -> None:
    """Judge until stdin ends."""
    state, socket, credential, name, staleness_ms = sys.argv[1:]
    with Verifier.embedded(
        state,
        audience="gw",
        server=socket,
        credential_file=Path(credential),
        register_as=name,
        staleness_ms=int(staleness_ms),
    ) as verifier:
        registered = wait_until(lambda: verifier.registered)
        sys.stdout.write("registered\n" if registered else f"not registered: {verifier._registration}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            sys.stdout.write(f"{verifier.check(line.strip(), 'read', 'files/a').reason.name}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
