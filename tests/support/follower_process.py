"""``sessauth follow`` as a process of its own, and verifiers of the folder that it feeds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from sessauth.reasons import Reason
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier
from tests.support.feeding import AUDIENCE, Cluster
from tests.support.service import wait_until

PROGRAM = "from sessauth.cli.main import main; main()"


class FollowerProcess:
    """The home folder of a host, and the process that feeds it."""

    def __init__(
        self,
        home: Path,
        servers: Sequence[object],
        credential: object = "",
        *options: str,
        sections: str = "",
        **settings: str,
    ) -> None:
        """Write the settings, with ``settings`` as TOML in ``[follow]``, and start with ``options``.

        ``sections`` are further sections, in TOML.
        """
        self.home = home
        self.home.mkdir()
        listed = ", ".join(f'"{server}"' for server in servers)
        lines = [f"servers = [{listed}]", f'host_name = "{home.name}"', f'credential = "{credential}"']
        lines += [f"{key} = {value}" for key, value in settings.items()]
        text = "[server]\nmap_size_bytes = 33554432\n[follow]\n" + "\n".join(lines) + "\n" + sections
        (self.home / "sessauth.toml").write_text(text)
        self.start(*options)

    @classmethod
    def of(cls, fed: Cluster, **settings: str) -> Self:
        """Follow all servers of a cluster."""
        sockets = [server.socket for server in fed.servers]
        return cls(fed.home / "host-1", sockets, fed.credential, **settings)

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.home / "state"

    @property
    def log(self) -> str:
        """The log so far."""
        return (self.home / "log").read_text("utf-8")

    @property
    def socket(self) -> Path:
        """The socket of the control process."""
        return self.home / "run" / "sessauth.sock"

    def start(self, *options: str, program: str = PROGRAM) -> None:
        """Start the process, with options of the command."""
        environment = {**os.environ, "SESSAUTH_HOME": str(self.home)}
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, "follow", *options], env=environment, stderr=log
            )

    def wait_for(self, event: str, seconds: float = 30.0) -> None:
        """Wait until the log has an event."""
        assert wait_until(lambda: f'"event": "{event}"' in self.log, seconds), self.log

    def verifier(self) -> Verifier:
        """Open a verifier on the folder, once that is fresh."""
        self.wait_for("fresh")
        return Verifier.embedded(self.state, audience=AUDIENCE)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)


def reason(verifier: Verifier, token: Token) -> Reason:
    """Return the reason of a check that the token permits."""
    return verifier.check(token, "read", "files/a").reason


def expect_reason(verifier: Verifier, token: Token, expected: Reason, seconds: float = 20.0) -> None:
    """Wait until a check has that reason."""
    assert wait_until(lambda: reason(verifier, token) is expected, seconds), reason(verifier, token)
