"""Processes of other users: a service and a gateway that share a group which is neither's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVICE, GATEWAY, STRANGER = 4301, 4302, 4303
GROUP = 5151

# Everything is loaded before: another user may not see the folder that it is loaded from.
_PRELUDE = """
import os, sys
import lmdb._envid
import sessauth.server.keys.credentials, sessauth.server.keys.issuer_keyring
import sessauth.audit.recording.process
from sessauth.errors import StateUnusable
from sessauth.state.writer.state_writer import StateWriter
from sessauth.state.lmdb.reader import StateReader
from sessauth.verifier.verifier import Verifier
os.umask({umask})
os.setgroups({groups}); os.setgid({user}); os.setuid({user})
folder = sys.argv[1]
"""


def _command(script: str, folder: Path, user: int, groups: list[int], umask: int) -> list[str]:
    prelude = _PRELUDE.format(user=user, groups=groups, umask=umask)
    return [sys.executable, "-c", prelude + script, str(folder)]


def run_as(script: str, folder: Path, user: int, groups: list[int], umask: int = 0o022) -> str:
    """Run a script as a user, whose own group has the same number, of some groups; returns its output."""
    command = _command(script, folder, user, groups, umask)
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


class LineProcess:
    """A process that answers each line on its stdin with a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wrap ``process``."""
        self._process = process

    def ask(self, line: str) -> str:
        """Write a line, and return the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()


@contextmanager
def line_process(
    script: str, folder: Path, user: int, groups: list[int], umask: int = 0o022
) -> Iterator[LineProcess]:
    """Run a script as ``run_as`` does, for as long as the context lasts."""
    command = _command(script, folder, user, groups, umask)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield LineProcess(process)
        finally:
            process.kill()


def give_to_group(folder: Path, group: int = GROUP) -> None:
    """``chgrp -R group folder``."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, -1, group)
