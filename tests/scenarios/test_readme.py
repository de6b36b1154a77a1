"""The README's session, run as printed against a server with nothing configured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.markdown import Document
from tests.support.tree import ROOT

README = Document(ROOT / "README.md")
COMMAND = [sys.executable, "-m", "sessauth.cli.main"]
READY_S = 30.0


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a home folder with a server running in it; its path is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="sessauth-") as folder:
        home = Path(folder) / "home"
        environment = {**os.environ, "SESSAUTH_HOME": str(home)}
        subprocess.run([*COMMAND, "init"], env=environment, check=True, stdout=subprocess.DEVNULL)
        server = subprocess.Popen([*COMMAND, "serve"], env=environment, stderr=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + READY_S
            while not (home / "run" / "sessauth.sock").exists():
                assert server.poll() is None, server.stderr.read() if server.stderr else ""
                assert time.monotonic() < deadline, "the server opened no socket"
                time.sleep(0.05)
            yield home
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.communicate()


def test_the_session_prints_what_the_readme_says(home: Path, tmp_path: Path) -> None:
    """The first Python block, run as it stands, prints the text block behind it: one yes, two denials."""
    program = README.blocks("python")[0]
    expected = README.blocks("text")[0]

    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "SESSAUTH_HOME": str(home)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert answer.stderr == ""
    assert answer.stdout == expected
