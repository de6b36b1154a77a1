"""A newcomer's terminal: an empty home folder, nothing configured, and what is typed is typed into a tty."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.tree import ROOT

WAIT_S = 60.0
INTERRUPT = b"\x03"
# Where the programs that everybody has are.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@contextmanager
def fresh_home() -> Iterator[Path]:
    """Give an empty home folder, whose path is short enough for a Unix socket below it."""
    with tempfile.TemporaryDirectory(prefix="home-", dir="/tmp") as folder:
        yield Path(folder)


def environment(home: Path, *, path: str = SYSTEM_PATH, **more: str) -> dict[str, str]:
    """Return a login's environment with ``home``, and nothing of the one that runs the tests."""
    return {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8", "TERM": "xterm", **more}


def clone(folder: Path) -> Path:
    """Make a folder that looks like this tree, built, to a reader; what is made in it stays out of the tree.

    Its .venv is the environment that runs the tests, which make must have nothing to do about: it would then
    install the folder into it.
    """
    folder.mkdir()
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".venv"):
            (folder / entry.name).symlink_to(entry)
    (folder / ".venv").symlink_to(sys.prefix)
    current = subprocess.run(["make", "-q", ".venv/.built"], cwd=folder, env=environment(folder), check=False)
    assert current.returncode == 0, "the environment is older than the tree: run make build first"
    return folder


class Terminal:
    """A program in the foreground of a terminal of its own."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        """Start ``command`` with a tty as its three streams."""
        self.shown = ""
        self._master, slave = pty.openpty()
        try:
            # The terminal is taken in the child, which leads a session: Ctrl-C then reaches all of its group.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _TAKE_TERMINAL, *command],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={**env},
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            os.close(slave)

    def read_until(self, text: str, seconds: float = WAIT_S) -> str:
        """Return all that was shown when ``text`` is part of it. Fails when the program ends before."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, f"never said {text!r}:\n{self.shown}"
            assert self._read(), f"ended before it said {text!r}:\n{self.shown}"
        return self.shown

    def press(self, keys: bytes) -> None:
        """Type ``keys``."""
        os.write(self._master, keys)

    def end(self, seconds: float = WAIT_S) -> int:
        """Wait for the program's end; return its status, negative for the signal that it died of."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, f"did not end:\n{self.shown}"
        return self._process.wait(seconds)

    def close(self) -> None:
        """Kill what still runs in the terminal."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:
            # Nobody has the other end open any more.
            return False
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])\n"
)


@contextmanager
def terminal(command: Sequence[str], env: Mapping[str, str], cwd: Path) -> Iterator[Terminal]:
    """Run ``command`` in a terminal while the block runs."""
    opened = Terminal(command, env, cwd)
    try:
        yield opened
    finally:
        opened.close()
