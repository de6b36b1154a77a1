"""Processes of the demo, each in a group of its own: Ctrl-C reaches the demo alone, which ends them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# Settings of the caller's own services and of its etcd are none of the demo's.
_FOREIGN = ("SESSAUTH_", "ETCD_")


class DemoProcess:
    """A process that can be paused, killed and started again."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        """Prepare it; nothing runs yet. ``log`` takes its output."""
        self.name = name
        self.log = log
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """True if it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                process_group=0,
            )

    def pause(self) -> None:
        """Stop it where it is: its connections stay open, and it answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it and its children, paused or not; returns when it is gone."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def last_lines(self) -> str:
        """Return the end of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-5:])

    def _signal(self, number: int) -> None:
        # One that has not been waited for has its group still.
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class ReservedPorts:
    """TCP ports of the loopback that the system gives to no other process while they are reserved."""

    def __init__(self) -> None:
        """Reserve none yet."""
        self._sockets: list[socket.socket] = []

    def reserve(self) -> int:
        """Return a port of the system's choice. A server that sets SO_REUSEADDR can listen on it."""
        # Bound and not listening: connections are refused, and the port stays out of the system's choice.
        reserved = socket.socket()
        self._sockets.append(reserved)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        return int(reserved.getsockname()[1])

    def close(self) -> None:
        """Reserve none any more."""
        for reserved in self._sockets:
            reserved.close()
